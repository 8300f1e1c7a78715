#!/usr/bin/env bash
# Makes the embedded model from nothing but speech synthesizers: corpus, codec, codes, LM, folder, figures.
#   bash tools/nano/train.sh WORK_DIR [PYTHON]
# PYTHON has requirements.txt installed. Every step skips what WORK_DIR holds already.
set -euo pipefail
work=$(mkdir -p "$1" && realpath "$1")
python=${2:-python3}
cd "$(dirname "$0")"
export PYTHONPATH=../.. OMP_NUM_THREADS=1
start=../../moshi_mlx/nano/mimi.safetensors # the codec goes on from the one that ships

step() { # step FILE COMMAND...: run the command unless its result is there
    local result=$1
    shift
    [ -e "$result" ] || { echo "== $* ($(date +%H:%M:%S))" && "$@"; }
}

step "$work/corpus/users.0.npz" "$python" corpus.py --out "$work/corpus" --users 16000 --seed 1 --part 0 --parts 2
step "$work/corpus/users.1.npz" "$python" corpus.py --out "$work/corpus" --users 16000 --seed 1 --part 1 --parts 2
step "$work/wide/users.0.npz" "$python" corpus.py --out "$work/wide" --users 4500 --seed 5 --wide
cp -f "$work/corpus/own.npz" "$work/wide/own.npz" # flite's durations vary from run to run: one set of answers for all
step "$work/codec_a.pt" "$python" codec_train.py --data "$work/corpus" --start "$start" --out "$work/codec_a" --steps 600 --freeze-first
step "$work/codec.pt" "$python" codec_train.py --data "$work/corpus" --start "$work/codec_a.pt" --out "$work/codec" --steps 340 --rate 1.1e-3 --freeze-first --seed 2
step "$work/codes/7.019.npz" "$python" lm_encode.py --data "$work/corpus" --codec "$work/codec.pt" --out "$work/codes" --dialogues 5000 --seed 7
step "$work/codes/8.019.npz" "$python" lm_encode.py --data "$work/corpus" --codec "$work/codec.pt" --out "$work/codes" --dialogues 5000 --seed 8
step "$work/codes/9.013.npz" "$python" lm_encode.py --data "$work/wide" --codec "$work/codec.pt" --out "$work/codes" --dialogues 3500 --seed 9
step "$work/lm.pt" "$python" lm_train.py --data "$work/codes" --codec "$work/codec.pt" --out "$work/lm" --steps 1500
step "$work/nano" "$python" export.py --lm "$work/lm.pt" --codec "$work/codec.pt" --out "$work/nano"
step "$work/parity.json" "$python" parity.py --model "$work/nano" --out "$work/parity.json"
step "$work/figures.json" "$python" evaluate.py --model "$work/nano" --out "$work/figures.json" --seed 90210
