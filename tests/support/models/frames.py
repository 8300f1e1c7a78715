"""Published models with two narrow layers of each kind, whose heads are as wide as theirs."""

from typing import Any

from app.machine.random_model import random_lm
from moshi_mlx.config.presets import raw_preset
from moshi_mlx.config.reading import parse_config
from moshi_mlx.lm.model import Lm

LAYERS = 2
NARROW = {
    **{"dim": 128, "num_heads": 2, "num_layers": LAYERS, "context": 256, "text_card": 64},
    **{"depformer_dim": 64, "depformer_num_heads": 1, "depformer_num_layers": LAYERS},
    "depformer_dim_feedforward": 288,
}


def narrow(preset: str, recipe: str = "fp32", dtype: str = "float32", **changes: Any) -> Lm:
    """A published model's shape with two narrow layers of each kind; its streams as they are."""
    raw = {**raw_preset(preset), **NARROW, "hidden_scale": 4.5, **changes}
    return random_lm(parse_config(raw, preset), recipe, dtype)
