#!/usr/bin/env bash
# The environment that trains the embedded model: tools/nano/environment.sh FOLDER
# Python 3.11 (PYTHON names another than python3); the synthesizers and recognizers come from Debian: installed when that
# can be done, else said.
set -euo pipefail
cd "$(dirname "$0")"
folder=${1:?say where: tools/nano/environment.sh folder}
debian=(espeak-ng libflite1 flite rhvoice-english librhvoice5 libttspico-utils festival festvox-kdlpc16k
    festvox-us-slt-hts pocketsphinx pocketsphinx-en-us)
missing=()
for package in "${debian[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    { [ "$(id -u)" = 0 ] && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; } || {
        echo "install these Debian packages first (contrib and non-free hold some): ${missing[*]}" >&2
        exit 1
    }
fi
[ -x "$folder/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install -q --disable-pip-version-check -r requirements.txt
# The package's own pins ask for an older torch; this is the one the figures were made with.
"$folder/bin/python" -m pip install -q --disable-pip-version-check --no-deps moshi==0.2.13
