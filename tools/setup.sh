#!/usr/bin/env bash
# Sets up a development environment: tools/setup.sh .venv
# PortAudio comes from the system on Linux: installed when that can be done, else said.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}

need_portaudio() {
    [ "$(uname -s)" = Linux ] && ! ldconfig -p 2>/dev/null | grep -q libportaudio.so.2
}

if need_portaudio; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends libportaudio2 >/dev/null \
            || echo "could not install libportaudio2: install it yourself to use a sound card" >&2
    else
        echo "PortAudio is missing: install the package libportaudio2 (Debian, Ubuntu) or" \
            "portaudio (Fedora, Arch) to use a sound card" >&2
    fi
fi

fits() { # a Python that there are wheels for
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
}
too_old() {
    echo "moshi-local needs Python 3.11 to 3.14; set PYTHON=/path/to/python3.12 and try again" >&2
    exit 1
}

if [ -f "$venv/pyvenv.cfg" ] && ! fits "$venv/bin/python"; then
    rm -rf "$venv" # of another Python, or half made: nothing in it can be used
fi
if [ ! -x "$venv/bin/python" ]; then
    echo "1/2 a Python environment in $venv" >&2
    if [ -z "${PYTHON:-}" ] && command -v uv >/dev/null && uv venv -q --seed "$venv"; then :; else
        fits "${PYTHON:-python3}" || too_old
        "${PYTHON:-python3}" -m venv "$venv"
    fi
fi
fits "$venv/bin/python" || too_old
install=("$venv/bin/python" -m pip install --disable-pip-version-check)
[ -t 2 ] || install+=(-q) # bars are for a terminal
if command -v uv >/dev/null; then
    echo "2/2 packages, by uv" >&2
    install=(uv pip install --python "$venv/bin/python")
else
    echo "2/2 packages, by pip: a minute or two (uv needs less: https://docs.astral.sh/uv)" >&2
    "${install[@]}" -q 'pip>=25.1' # older ones don't know --group
fi
"${install[@]}" -c constraints.txt -e ".[kyutai,tls,webrtc,c2pa,voice]" --group dev
