"""Listening and speaking: moshi-local against Kyutai's `moshi_mlx`, on this machine.

    python benchmarks/dsm.py --peer-python .venv-peer/bin/python

Speech to text at stt-1b's layers, codebooks and vocabularies, text to speech at tts-1.6b's with 32
codebooks, both 64 wide; greedy. A frame is a step with its reads, of text to speech one that has
sound, text machine included. Kernels are counted as kernels.py counts them. `listening to four` is
a batch of four files, a file, against one file alone; for that one see batch.py on the BLAS of
MLX's wheel. The last line is JSON.
"""

import argparse
import json
import sys

from turns import compared, ratio, told
from worker import Worker, machine, peer_python

WIDTH, HEADS = "64", "4"
WARM_FRAMES = 24  # of a speech the first 18 are silent


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--frames", type=int, default=15, help="of each side in each run")
    args = parser.parse_args()
    peer, result = peer_python(args.peer_python), {}
    versions: dict[str, str] = {}
    for kind in ("listen", "speak"):
        ours = Worker(sys.executable, "dsm_ours.py", kind, WIDTH, HEADS)
        theirs = Worker(peer, "dsm_kyutai.py", kind, WIDTH, HEADS)
        versions |= {**theirs.versions, **ours.versions}
        for side in (ours, theirs):
            side("frame", WARM_FRAMES)
        sides = {"ours": (ours, "frame"), "theirs": (theirs, "frame")}
        if kind == "listen":
            ours("frame_of_four", WARM_FRAMES)
            sides["four"] = (ours, "frame_of_four")
        found = compared(sides, args.runs, args.frames)
        result[kind] = ratio(found["ours"], found["theirs"])
        told(kind, result[kind])
        if kind == "listen":
            result["listening to four"] = ratio(found["four"], found["ours"], each=4)
            told("listening to four", result["listening to four"])
        counts = [sum(side("kernels")[0].values()) for side in (ours, theirs)]
        print(f"{kind}: {counts[0]} kernels against {counts[1]}: {counts[0] / counts[1]:.2f}")
        result[f"{kind}, kernels"] = {
            **{"ours": counts[0], "theirs": counts[1], "ratio": round(counts[0] / counts[1], 3)}
        }
        for side in (ours, theirs):
            side.close()
    print(json.dumps({**result, "versions": versions, **machine()}))


if __name__ == "__main__":
    main()
