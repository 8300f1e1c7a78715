#!/usr/bin/env bash
# Makes the embedded model from nothing but speech synthesizers: corpus, codes, LM, folder, figures.
#   make nano WORK=folder        (or: bash tools/nano/train.sh folder PYTHON, with a Python of environment.sh)
# The codec is the package's and the LM goes on from the package's; ANEW=1 lets the
# codec go on too and begins the LM anew. Every step skips what WORK_DIR holds already. SMALL=1 runs every step with next
# to nothing, in minutes: it shows that the way is open, its model can't talk.
set -euo pipefail
work=${1:?say where: make nano WORK=folder}
work=$(mkdir -p "$work" && realpath "$work")
python=${2:-$work/environment/bin/python}
[[ $python != */* ]] || python=$(realpath -s "$python")
cd "$(dirname "$0")"
export PYTHONPATH=../.. OMP_NUM_THREADS=1
package=../../moshi_mlx/nano
if [ "${SMALL:-0}" = 1 ]; then
    users=120 wide=60 other=60 talks=250 more=250 codec=3 lm=4 decoder=3 count=(--count 4 --only known,silence)
else
    users=16000 wide=4500 other=9000 talks=4000 more=5000 codec=1000 lm=2600 decoder=900 count=()
    [ "${ANEW:-0}" = 1 ] || lm=1300
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
codec_file=$package/mimi.safetensors lm_start=(--start "$package/model.safetensors" --rate 1e-3)
if [ "${ANEW:-0}" = 1 ]; then
    step codec "${train[@]}" --start "$codec_file" --out "$work/codec" --steps $codec --rate 1.2e-3 --freeze-first --seed 3
    codec_file=$work/codec.pt lm_start=()
fi
encode=("$python" lm_encode.py --codec "$codec_file" --out "$work/codes")
step codes7 "${encode[@]}" --data "$work/user" --dialogues $talks --seed 7
step codes9 "${encode[@]}" --data "$work/wide" --dialogues $((talks * 5 / 8 / 250 * 250 + 250)) --seed 9
step codes10 "${encode[@]}" --data "$work/other" --dialogues $more --seed 10
lm=("$python" lm_train.py --data "$work/codes" --codec "$codec_file" --out "$work/lm" --steps $lm)
step lm "${lm[@]}" ${lm_start[@]+"${lm_start[@]}"}
if [ "${ANEW:-0}" = 1 ]; then
    step decoder "${train[@]}" --start "$codec_file" --out "$work/decoder" --steps $decoder --decoder-only --own 0.8 --seed 5
    codec_file=$work/decoder.pt
fi
step export "$python" export.py --lm "$work/lm.pt" --codec "$codec_file" --out "$work/nano"
step parity "$python" parity.py --model "$work/nano" --out "$work/parity.json"
step evaluate "$python" evaluate.py --model "$work/nano" --out "$work/figures.json" --seed 41131 ${count[@]+"${count[@]}"}
