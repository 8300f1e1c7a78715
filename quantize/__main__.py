"""`moshi quantize` as a module: `python -m quantize`, `python -m moshi_mlx.quantize` installed."""

import importlib
import sys

PARENT = (__package__ or "").rpartition(".")[0]  # "moshi_mlx" installed, "" in the checkout
sys.exit(importlib.import_module(f"{PARENT}.app.cli".lstrip(".")).main(["quantize", *sys.argv[1:]]))
