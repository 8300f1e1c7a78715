"""Kernels of one frame of the language model, moshi-local against Kyutai's `moshi_mlx`.

    python benchmarks/kernels.py --peer-python .venv-peer/bin/python

"joined": with one kernel for a residual addition and its norm, which `moshi selftest` may turn on.
Counted as Metal would run them: views left out, a compiled group as one, an `mx.fast` function as
one (see graph.py). The same count on both sides; the last line is JSON.
"""

import argparse
import json
import sys

from shapes import MODELS
from worker import Worker, machine, peer_python


def count(
    python: str, script: str, model: str, *kinds: str
) -> tuple[list[dict[str, int]], dict[str, str]]:
    """What each of these methods of a side counts, and the side's versions."""
    worker = Worker(python, script, model)
    found = [worker(kind)[0] for kind in kinds]
    worker.close()
    return found, worker.versions


def table(ours: dict[str, int], theirs: dict[str, int]) -> None:
    names = sorted({*ours, *theirs}, key=lambda n: -max(ours.get(n, 0), theirs.get(n, 0)))
    print(f"{'operation':<48}{'moshi-local':>12}{'moshi_mlx':>12}")
    for name in names:
        print(f"{name[:46]:<48}{ours.get(name, 0):>12}{theirs.get(name, 0):>12}")
    print(f"{'all':<48}{sum(ours.values()):>12}{sum(theirs.values()):>12}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python")
    args = parser.parse_args()
    peer, result = peer_python(args.peer_python), {}
    for model in ("width-64-fp32", "width-128-q4"):
        (ours, one_each), our_versions = count(
            sys.executable, "frame_ours.py", model, "kernels", "joined_kernels"
        )
        (theirs,), versions = count(peer, "frame_kyutai.py", model, "kernels")
        print(f"7B layer counts, {MODELS[model][2]}")
        table(ours, theirs)
        joined = sum(one_each.values())
        both = sum(ours.values()), sum(theirs.values())
        result[model] = {"ours": both[0], "theirs": both[1], "ratio": round(both[0] / both[1], 3)}
        result[model] |= {"joined": joined, "joined_ratio": round(joined / both[1], 3)}
    print(json.dumps({**result, "versions": {**versions, **our_versions}, **machine()}))


if __name__ == "__main__":
    main()
