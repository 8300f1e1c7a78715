"""Kyutai's own package takes what `moshi quantize` makes: strict load, and the same bits.

Runs where PEER_PYTHON names an interpreter with moshi_mlx from PyPI (`make test-peer`).
"""

import os
import subprocess

import pytest

from app.cli import main
from tests.support.models.quantize_models import RAW_CONFIG, write_model

PEER = os.environ.get("PEER_PYTHON")
pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not PEER, reason="PEER_PYTHON names no environment with Kyutai's package"),
]
# Their script's steps: bf16 model, strict load, nn.quantize, save; then theirs loads ours.
SCRIPT = """
import json, sys
import mlx.core as mx, mlx.nn as nn, numpy as np
from mlx.utils import tree_flatten
from moshi_mlx import models
config, source, ours, bits, group = sys.argv[1], sys.argv[2], sys.argv[3], *map(int, sys.argv[4:])
config = models.LmConfig.from_config_dict(json.load(open(config)))
def fresh():
    model = models.Lm(config)
    model.set_dtype(mx.bfloat16)
    return model
model = fresh()
model.load_pytorch_weights(source, config, strict=True)
nn.quantize(model, bits=bits, group_size=group)
theirs = dict(tree_flatten(model.parameters()))
made = mx.load(ours)
assert set(made) == set(theirs), set(made) ^ set(theirs)
for name, w in theirs.items():
    assert made[name].dtype == w.dtype, name
    a, b = (np.array(x.view(mx.uint16) if x.dtype == mx.bfloat16 else x) for x in (made[name], w))
    assert np.array_equal(a, b), name
again = fresh()
nn.quantize(again, bits=bits, group_size=group)
again.load_weights(ours, strict=True)
print("the same", len(theirs))
"""


# What Kyutai's package asks for; its gated MLP has a width of 11 / 4 of the model's.
PEER_KEYS = {
    **{"dim": 256, "hidden_scale": 4.125, "causal": True, "layer_scale": None, "context": 16},
    **{"max_period": 10000, "depformer_layer_scale": None, "depformer_multi_linear": True},
    **{"depformer_weights_per_step": True, "existing_text_padding_id": 3},
}


@pytest.mark.parametrize(("recipe", "bits", "group"), [("q4", 4, 32), ("q8", 8, 64)])
def test_bits_equal_kyutais_and_load_strictly(tmp_path, recipe, bits, group):
    raw = RAW_CONFIG | PEER_KEYS
    source, out = tmp_path / "source", tmp_path / "out"
    write_model(source, raw)
    assert main(["quantize", str(source), str(out), "--recipe", recipe]) == 0
    files = (
        source / "config.json",
        source / "model.safetensors",
        out / f"model.{recipe}.safetensors",
    )
    done = subprocess.run(
        [str(PEER), "-c", SCRIPT, *map(str, (*files, bits, group))],
        **{"capture_output": True, "text": True, "cwd": "/"},
    )
    assert done.returncode == 0, done.stderr
    assert "the same" in done.stdout
