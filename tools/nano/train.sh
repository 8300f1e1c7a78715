#!/usr/bin/env bash
# Makes the embedded model from nothing but speech synthesizers: corpus, codec, codes, LM, folder, figures.
#   bash tools/nano/train.sh WORK_DIR [PYTHON]        (or: make nano WORK=... TRAIN_PYTHON=...)
# PYTHON has requirements.txt installed. Every step skips what WORK_DIR holds already. SMALL=1 runs every step with next to
# nothing, in minutes: it shows that the way is open, its model can't talk.
set -euo pipefail
work=$(mkdir -p "$1" && realpath "$1")
python=${2:-python3}
cd "$(dirname "$0")"
export PYTHONPATH=../.. OMP_NUM_THREADS=1
start=../../moshi_mlx/nano/mimi.safetensors # the codec goes on from the one that ships
if [ "${SMALL:-0}" = 1 ]; then
    users=120 wide=60 other=60 codec=3 talks=250 more=250 lm=4 decoder=3 count=(--count 4 --only known,silence)
else
    users=16000 wide=4500 other=9000 codec=1000 talks=4000 more=5000 lm=2600 decoder=900 count=()
fi

step() { # step NAME COMMAND...: run the command unless it was done
    local stamp=$work/$1.done
    shift
    [ -e "$stamp" ] || { echo "== $* ($(date +%H:%M:%S))" && "$@" && touch "$stamp"; }
}

join() { # one folder of everybody, with one set of Moshi's answers: flite's durations vary from run to run
    mkdir -p "$work/all"
    for set in user wide other; do
        for part in "$work/$set"/users.*.npz; do ln -sf "$part" "$work/all/users.$set${part##*/users}"; done
        cp -f "$work/user/own.npz" "$work/$set/own.npz.part" && mv "$work/$set/own.npz.part" "$work/$set/own.npz"
    done
    cp -f "$work/user/own.npz" "$work/all/own.npz"
}

corpus=("$python" corpus.py --out)
step user "${corpus[@]}" "$work/user" --users $users --seed 1
step wide "${corpus[@]}" "$work/wide" --users $wide --seed 5 --voices wide_user
step other "${corpus[@]}" "$work/other" --users $other --seed 12 --voices other_user
step join join
train=("$python" codec_train.py --data "$work/all")
step codec "${train[@]}" --start "$start" --out "$work/codec" --steps $codec --rate 1.2e-3 --freeze-first --seed 3
encode=("$python" lm_encode.py --codec "$work/codec.pt" --out "$work/codes")
step codes7 "${encode[@]}" --data "$work/user" --dialogues $talks --seed 7
step codes9 "${encode[@]}" --data "$work/wide" --dialogues $((talks * 5 / 8 / 250 * 250 + 250)) --seed 9
step codes10 "${encode[@]}" --data "$work/other" --dialogues $more --seed 10
step lm "$python" lm_train.py --data "$work/codes" --codec "$work/codec.pt" --out "$work/lm" --steps $lm
step decoder "${train[@]}" --start "$work/codec.pt" --out "$work/decoder" --steps $decoder --decoder-only --own 0.8 --seed 5
step export "$python" export.py --lm "$work/lm.pt" --codec "$work/decoder.pt" --out "$work/nano"
step parity "$python" parity.py --model "$work/nano" --out "$work/parity.json"
step evaluate "$python" evaluate.py --model "$work/nano" --out "$work/figures.json" --seed 41117 ${count[@]+"${count[@]}"}
