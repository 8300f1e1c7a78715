#!/usr/bin/env bash
# Proves a checkout on a machine with an NVIDIA GPU: tools/gpu_check.sh RESULTS
# Needs Linux, a driver for CUDA 13, Python 3.11 to 3.14 and some gigabytes for NVIDIA's libraries.
# Makes an environment (build/gpu-check), runs `moshi selftest`, then `moshi bench` with made-up
# weights, a process for each recipe; leaves selftest.json, bench-RECIPE.json, what each printed
# (.txt), versions.txt and summary.txt in RESULTS: no names, no paths. What fails or takes too long
# ends nothing but itself; the status is 1 then.
# From the environment: EXTRA=cpu (anywhere), VENV, PYTHON, SHAPE, RECIPES, FRAMES, PARTS (of the
# self-test; all), SELFTEST_S and BENCH_S (seconds for the one and for each recipe of the other),
# and pip's own (PIP_NO_INDEX, PIP_FIND_LINKS where nothing can be downloaded).
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
IFS=', ' read -ra recipes <<<"${RECIPES:-q4,q8,bf16}"

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

status=0
# step SECONDS NAME COMMAND...: what it prints goes to NAME.txt too, its outcome to summary.txt
step() {
    local seconds=$1 name=$2 begun=$SECONDS code=0
    shift 2
    timeout --kill-after=10 "$seconds" "$@" | tee "$results/$name.txt" || code=$?
    local outcome="status $code after $((SECONDS - begun)) s"
    [ "$code" -ne 124 ] || outcome="not through within $seconds s"
    echo "$name: $outcome" | tee -a "$results/summary.txt" >&2
    [ "$code" -eq 0 ] || status=1
}

[ -e "$venv/.installed-$extra" ] || install
if ! device=$("$python" -c 'import mlx.core as mx; print(mx.default_device().type.name)' 2>&1); then
    echo "MLX doesn't start: ${device##*$'\n'}" >&2 # such as a library of NVIDIA's that isn't there
    exit 1
fi
if [ "$extra" != cpu ] && [ "$device" != gpu ]; then
    echo "MLX sees no GPU here: install NVIDIA's driver for CUDA 13 (nvidia-smi shows it)" >&2
    exit 1
fi
rm -f "$results"/selftest.* "$results"/bench-*.* "$results/summary.txt" # of a run before
{
    "$python" -c 'import platform; from importlib.metadata import version
print("Python", platform.python_version(), "mlx", version("mlx"), platform.machine())'
    if command -v nvidia-smi >/dev/null; then
        timeout 20 nvidia-smi --query-gpu=name,driver_version,memory.total \
            --format=csv,noheader || true
    fi
} >"$results/versions.txt"

echo "2/3 moshi selftest" >&2
step "${SELFTEST_S:-240}" selftest "$python" -m app.cli selftest \
    --json "$results/selftest.json" --force "${parts[@]}"
echo "3/3 moshi bench" >&2
for recipe in "${recipes[@]}"; do
    step "${BENCH_S:-100}" "bench-$recipe" "$python" -m app.cli bench \
        --random-weights "${SHAPE:-moshi-7b}" --recipe "$recipe" --frames "${FRAMES:-200}" \
        --json "$results/bench-$recipe.json" --force
done
exit "$status"
