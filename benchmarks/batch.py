"""Four conversations in one pass over the weights: against one of them, and `moshi_mlx` four times.

    python benchmarks/batch.py --peer-python .venv-peer/bin/python

At the 7B's layer counts (32 + 8 x 6) and vocabularies, 64 wide, the same samplers as in frame.py.
The BLAS in MLX's wheel for Linux is the reference one, which gains nothing from four rows; another
one takes its place, for both packages, with LD_PRELOAD=libopenblas.so.0 before the command.
The last line is JSON.
"""

import argparse
import json
import sys

from turns import compared, ratio, told
from worker import Worker, machine, peer_python

MODEL, TALKS, WARM_FRAMES = "width-64-fp32", 4, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--frames", type=int, default=15, help="of each side in each run")
    args = parser.parse_args()
    ours = Worker(sys.executable, "frame_ours.py", MODEL)
    theirs = Worker(peer_python(args.peer_python), "frame_kyutai.py", MODEL)
    sides = {
        "one": (ours, "frame"),
        "four": (ours, "frame_of_four"),
        "theirs": (theirs, "frame"),
    }
    for worker, method in sides.values():
        worker(method, WARM_FRAMES)
    found = compared(sides, args.runs, args.frames)
    result = {
        "four / one": ratio(found["four"], found["one"]),
        "of four, each / moshi_mlx": ratio(found["four"], found["theirs"], each=TALKS),
    }
    for name, row in result.items():
        told(name, row)
    one, four = (sum(ours(m)[0].values()) for m in ("kernels", "kernels_of_four"))
    print(f"kernels: {four} of four, {one} of one: {four / one:.3f}")
    counted = {"four": four, "one": one, "ratio": round(four / one, 3)}
    for side in (ours, theirs):
        side.close()
    versions = {**theirs.versions, **ours.versions}
    print(json.dumps({**result, "kernels": counted, "versions": versions, **machine()}))


if __name__ == "__main__":
    main()
