#!/usr/bin/env bash
# An environment of its own with Kyutai's packages from PyPI, as peers: tools/peer_env.sh .venv-peer
# Their dependencies are named here: what their Python client, moshi_mlx and the language models of
# `moshi` need, and no more. torch comes through pip, which knows where this machine has its wheels
# for the CPU; where it knows of none, Linux gets the gigabytes of those for CUDA.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv-peer}
[ "$venv/.installed" -nt tools/peer_env.sh ] && exit 0  # made by this very script
if command -v uv >/dev/null; then
    uv venv -q --seed --clear "$venv"
    install=(uv pip install -q --python "$venv/bin/python")
else
    "${PYTHON:-python3}" -m venv "$venv"
    install=("$venv/bin/python" -m pip install -q --disable-pip-version-check)
fi
mlx=mlx
[ "$(uname -s)" = Linux ] && mlx='mlx[cpu]'
"${install[@]}" "$mlx" numpy safetensors sentencepiece huggingface_hub sounddevice aiohttp tqdm \
    'sphn>=0.2,<0.3' 'rustymimi>=0.4.1'
"$venv/bin/python" -m pip install -q --disable-pip-version-check torch==2.13.0 einops
"${install[@]}" --no-deps moshi_mlx==0.3.0 moshi==0.2.13
touch "$venv/.installed"
