"""`moshi quantize` measured: peak memory on a 7B-sized source, and speed against Kyutai's method.

    python benchmarks/quantize.py memory --model moshi-7b --dir DIR    # needs 20 GB of disk
    python benchmarks/quantize.py speed --model hibiki-1b --dir DIR
    PEER_PYTHON=... python benchmarks/quantize.py speed                # Kyutai's own package too

Kyutai's method: the bf16 model, load_weights(strict), nn.quantize, save_weights. Sources are made
at random and removed again. The last line is JSON. Runs alternate; the best of each is compared.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import mlx.core as mx
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from moshi_mlx.config.presets import raw_preset
from moshi_mlx.config.reading import parse_config
from moshi_mlx.weights.tensor_names import expected
from quantize.checkpoint.checkpoint import open_checkpoint
from quantize.checkpoint.target import make_target
from quantize.checkpoint.writer import Slot, header_of
from quantize.recipe.recipes import RECIPES

NOISE_WEIGHTS = 16_000_000
STATUS = Path("/proc/self/status")


def make_source(folder: Path, model: str) -> None:
    """A random bf16 checkpoint of a preset's size."""
    write_random(folder, raw_preset(model))


def write_random(folder: Path, raw: dict) -> None:
    """A random bf16 checkpoint for a config, in Kyutai's MLX layout, streamed to the disk."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(raw))
    slots = {name: Slot("BF16", shape) for name, shape in expected(parse_config(raw)).items()}
    noise = np.random.default_rng(0).normal(scale=0.02, size=NOISE_WEIGHTS).astype(np.float32)
    pool = (noise.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(header_of(slots, {}))
        for slot in slots.values():
            left = slot.num_bytes
            while left:
                left -= file.write(pool[: min(left, len(pool))])


def anonymous_bytes() -> int:
    line = next(x for x in STATUS.read_text().splitlines() if x.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


class PeakAnonymous:
    """Samples RssAnon every 5 ms; `peak_bytes` is the largest seen."""

    def __enter__(self) -> "PeakAnonymous":
        self.peak_bytes, self._stop = anonymous_bytes(), threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._stop.wait(0.005):
            self.peak_bytes = max(self.peak_bytes, anonymous_bytes())

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()


def measured(source: Path, target: Path, recipe: str) -> dict[str, float]:
    """One run of ours in this process."""
    start = time.perf_counter()
    with PeakAnonymous() as memory:
        outcome = make_target(open_checkpoint(str(source)), target, RECIPES[recipe], force=True)
    return {
        "seconds": time.perf_counter() - start,
        "peak_anonymous_bytes": memory.peak_bytes,
        "source_bytes": (source / "model.safetensors").stat().st_size,
        "target_bytes": outcome.num_bytes,
    }


PLAIN_METHOD = """
import json, sys, time
import mlx.core as mx, mlx.nn as nn
from mlx.utils import tree_flatten
source, target, bits, group_size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
start = time.perf_counter()
model = nn.Module()
for name, w in mx.load(source).items():
    *path, layer, kind = name.split(".")
    node = model
    for word in path:
        node = node.setdefault(word, nn.Module())
    if w.ndim == 2:
        node[layer] = nn.Embedding(1, 1) if "emb" in name else nn.Linear(1, 1, bias=False)
    else:
        node[layer] = nn.RMSNorm(1)
    node[layer][kind] = w
nn.quantize(model, bits=bits, group_size=group_size)
mx.save_safetensors(target, dict(tree_flatten(model.parameters())))
print(json.dumps({"seconds": time.perf_counter() - start, "mlx": mx.__version__}))
"""
PEER_METHOD = """
import json, sys, time
import mlx.core as mx, mlx.nn as nn
from moshi_mlx import models
source, target, bits, group_size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
start = time.perf_counter()
model = models.Lm(models.config1b_202412())
model.set_dtype(mx.bfloat16)
model.load_weights(source, strict=True)
nn.quantize(model, bits=bits, group_size=group_size)
model.save_weights(target)
print(json.dumps({"seconds": time.perf_counter() - start, "mlx": mx.__version__}))
"""
OURS = "import json, sys; sys.path.insert(0, sys.argv[1]); import benchmarks.quantize as b; "
OURS += "print(json.dumps(b.measured(b.Path(sys.argv[2]), b.Path(sys.argv[3]), sys.argv[4])))"


def child(python: str, code: str, *args: object) -> dict[str, float]:
    """A fresh process a run: no cache of another's."""
    done = subprocess.run(
        [python, "-c", code, *map(str, args)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",  # not in the checkout, whose moshi_mlx would hide the peer
    )
    return json.loads(done.stdout.splitlines()[-1])


def run_memory(args: argparse.Namespace, work: Path) -> dict[str, object]:
    make_source(work / "source", args.model)
    root = Path(__file__).parents[1]
    found = child(sys.executable, OURS, root, work / "source", work / "out", args.recipe)
    return {"what": "memory", "model": args.model, "recipe": args.recipe, **found}


def run_speed(args: argparse.Namespace, work: Path) -> dict[str, object]:
    make_source(work / "source", args.model)
    source, theirs = work / "source" / "model.safetensors", work / "theirs.safetensors"
    chosen = RECIPES[args.recipe].rules[0][1]
    settings = (source, theirs, chosen.bits, chosen.group_size)
    root = Path(__file__).parents[1]
    methods = {
        "ours": (sys.executable, OURS, root, work / "source", work / "out", args.recipe),
        "nn_quantize": (sys.executable, PLAIN_METHOD, *settings),
    }
    if (peer := os.environ.get("PEER_PYTHON")) and args.model == "hibiki-1b":
        methods["moshi_mlx"] = (peer, PEER_METHOD, *settings)
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(args.runs):
        for name, (python, code, *rest) in methods.items():
            os.sync()  # what another method left unwritten isn't this one's to wait for
            seconds[name].append(child(python, code, *rest)["seconds"])
    best = {name: min(times) for name, times in seconds.items()}
    ratios = {name: best["ours"] / best[name] for name in best if name != "ours"}
    return {"what": "speed", "model": args.model, "seconds": seconds, "ratio_of_best": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("memory", "speed"))
    parser.add_argument("--model", help="a preset (memory: moshi-7b, speed: hibiki-1b)")
    parser.add_argument("--recipe", default="q4")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()))
    args = parser.parse_args()
    args.model = args.model or {"memory": "moshi-7b", "speed": "hibiki-1b"}[args.what]
    work = Path(tempfile.mkdtemp(prefix="quantize-", dir=args.dir))
    try:
        found = {"memory": run_memory, "speed": run_speed}[args.what](args, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"# {platform.machine()} {os.cpu_count()} cores, mlx {mx.__version__}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
