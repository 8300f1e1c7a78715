"""A frame of Mimi on one thread: moshi-local's MLX Mimi against `moshi_mlx`'s and rustymimi.

    python benchmarks/codec.py --peer-python .venv-peer/bin/python

Full size, the same random weights for all, 8 codebooks. Three processes, each pinned to the same
core, take turns of a few frames: 80 ms of speech-like noise are encoded and the codes read back,
these are decoded and the sound read back. MLX's CPU backend works on one thread a stream by nature
(its BLAS is the reference one); rustymimi is held to one by its core. A run's figure is the median
of its frames, a ratio the median over the runs. The last line is JSON.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from worker import ROOT, Worker, machine, peer_python

sys.path.insert(0, str(ROOT))

from tools.goldens.mimi_weights import KYUTAI, random_mimi, save

CODEBOOKS = 8
WARM_FRAMES = 4
TURN = 2  # frames
PARTS = ("encode", "decode", "both")
Times = dict[str, list[tuple[float, float]]]  # side -> milliseconds of (encode, decode)


def sides(peer: str, folder: Path) -> dict[str, Worker]:
    path = folder / "mimi.safetensors"
    sizes = KYUTAI | {"quantizer": KYUTAI["quantizer"] | {"n_q": CODEBOOKS}}
    save(path, random_mimi(sizes))
    (folder / "mimi_config.json").write_text(json.dumps(sizes))
    return {
        "moshi-local": Worker(sys.executable, "codec_ours.py", "mlx", str(path)),
        "moshi_mlx": Worker(peer, "codec_kyutai.py", str(path)),
        "rustymimi": Worker(sys.executable, "codec_ours.py", "rust", str(path)),
    }


def run(workers: dict[str, Worker], frames: int) -> Times:
    """Milliseconds of `frames` frames of each side, taking turns."""
    took: Times = {name: [] for name in workers}
    for turn in range(-(-frames // TURN)):
        for name in list(workers)[:: -1 if turn % 2 else 1]:
            took[name] += [tuple(pair) for pair in workers[name]("frame", TURN)]
    return took


def part(times: list[tuple[float, float]], name: str) -> float:
    return median({"encode": e, "decode": d, "both": e + d}[name] for e, d in times)


def result(runs: list[Times], peer: str) -> dict[str, Any]:
    """Of each part: our milliseconds, theirs, and the ratios of the runs."""
    found = {}
    for name in PARTS:
        pairs = [(part(times["moshi-local"], name), part(times[peer], name)) for times in runs]
        ratios = [ours / theirs for ours, theirs in pairs]
        found[name] = {
            "ours_ms": round(median(ours for ours, _ in pairs), 1),
            "theirs_ms": round(median(theirs for _, theirs in pairs), 1),
            "ratio": round(median(ratios), 3),
            "ratios": [round(ratio, 3) for ratio in ratios],
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--frames", type=int, default=8, help="of each side in each run")
    args = parser.parse_args()
    peer = peer_python(args.peer_python)
    with tempfile.TemporaryDirectory() as folder:
        workers = sides(peer, Path(folder))
        for worker in workers.values():
            worker("frame", WARM_FRAMES)
        runs = [run(workers, args.frames) for _ in range(args.runs)]
        for worker in workers.values():
            worker.close()
    results = {name: result(runs, name) for name in ("moshi_mlx", "rustymimi")}
    for name, found in results.items():
        for what, row in found.items():
            print(
                f"{what:<7} {row['ours_ms']:7.1f} ms against {row['theirs_ms']:7.1f} ms of {name}: "
                f"{row['ratio']:.2f} (runs {min(row['ratios']):.2f} to {max(row['ratios']):.2f})"
            )
    versions = {k: v for worker in workers.values() for k, v in worker.versions.items()}
    print(json.dumps({**results, "versions": versions, **machine()}))


if __name__ == "__main__":
    main()
