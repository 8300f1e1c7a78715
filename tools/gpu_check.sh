#!/usr/bin/env bash
# Proves a checkout on a machine with an NVIDIA GPU: tools/gpu_check.sh RESULTS
# Needs Linux, a driver for CUDA 13, Python 3.11 to 3.14 and some gigabytes for NVIDIA's libraries.
# Makes an environment (build/gpu-check), runs `moshi selftest` and `moshi bench` with made-up
# weights, and leaves selftest.json, bench.json and versions.txt in RESULTS: no names, no paths.
# From the environment: EXTRA=cpu (anywhere), VENV, PYTHON, SHAPE, RECIPES, FRAMES, PARTS (of the
# self-test; all).
set -euo pipefail

if [ $# -ne 1 ]; then
    echo "say where to leave the results: tools/gpu_check.sh RESULTS" >&2
    exit 2
fi
mkdir -p "$1"
results=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
extra=${EXTRA:-cuda}
venv=${VENV:-build/gpu-check}
python=$venv/bin/python
read -ra parts <<<"${PARTS:-}"

install() {
    echo "1/3 an environment in $venv" >&2
    "${PYTHON:-python3}" -m venv "$venv"
    local pip=("$python" -m pip)
    if [ "$extra" = cpu ]; then
        "${pip[@]}" install -q --disable-pip-version-check -c constraints.txt .
    else
        "${pip[@]}" install -q --disable-pip-version-check -c constraints.txt ".[$extra]"
        # Both backends bring mlx/lib/libmlx.so: CUDA's must be the one that stays.
        "${pip[@]}" uninstall -q -y mlx-cpu
        local mlx
        mlx=$("$python" -c 'from importlib.metadata import version; print(version("mlx"))')
        "${pip[@]}" install -q --disable-pip-version-check --force-reinstall --no-deps \
            "mlx-cuda-13==$mlx"
    fi
    touch "$venv/.installed-$extra"
}

[ -e "$venv/.installed-$extra" ] || install
device=$("$python" -c 'import mlx.core as mx; print(mx.default_device().type.name)')
if [ "$extra" != cpu ] && [ "$device" != gpu ]; then
    echo "MLX sees no GPU here: install NVIDIA's driver for CUDA 13 (nvidia-smi shows it)" >&2
    exit 1
fi
{
    "$python" -c 'import platform; from importlib.metadata import version
print("Python", platform.python_version(), "mlx", version("mlx"), platform.machine())'
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
    fi
} >"$results/versions.txt"

status=0
echo "2/3 moshi selftest" >&2
"$python" -m app.cli selftest --json "$results/selftest.json" --force "${parts[@]}" || status=1
echo "3/3 moshi bench" >&2
"$python" -m app.cli bench --random-weights "${SHAPE:-moshi-7b}" \
    --recipes "${RECIPES:-q4,q8,bf16}" --frames "${FRAMES:-200}" \
    --json "$results/bench.json" --force || status=1
exit "$status"
