"""The floor's arithmetic against published sizes: formats.md's figures and Kyutai's files."""

import json
import math
from pathlib import Path

import pytest

from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.config.presets import raw_preset
from moshi_mlx.config.reading import parse_config
from moshi_mlx.weights import frame_cost as floor
from moshi_mlx.weights.recipes import RECIPES

SEVEN_B = parse_config(raw_preset("moshi-7b"))


def count(config: LmConfig, *prefixes: str) -> int:
    """Weights that a frame reads, of the modules named."""
    found = floor.weights(config, RECIPES["bf16"])
    return sum(w.num_weights for w in found if w.read_each_frame and w.name.startswith(prefixes))


def test_the_7b_has_the_published_number_of_weights():
    assert count(SEVEN_B, "transformer.") == pytest.approx(6.58e9, rel=0.001)
    assert count(SEVEN_B, "depformer.") == pytest.approx(0.66e9, rel=0.02)
    assert count(SEVEN_B, "text_linear.") == pytest.approx(0.131e9, rel=0.001)


@pytest.mark.parametrize(("recipe", "gb"), [("q4", 4.6), ("q6", 6.0), ("q8", 7.8), ("bf16", 14.8)])
def test_bytes_per_frame_of_the_7b(recipe, gb):
    measured = floor.weight_bytes_per_frame(SEVEN_B, RECIPES[recipe]) / 1e9
    assert measured == pytest.approx(gb, abs=0.06)


def test_the_whole_q4_model_is_as_large_as_kyutais_file():
    # model.q4.safetensors of kyutai/moshiko-mlx-q4 is 4.81 GB
    assert floor.model_bytes(SEVEN_B, RECIPES["q4"]) == pytest.approx(4.81e9, rel=0.01)


def test_keys_and_values_at_full_context():
    assert floor.kv_bytes(SEVEN_B) == pytest.approx(1.57e9, rel=0.005)
    assert floor.kv_bytes(SEVEN_B, 0) == 0
    assert floor.kv_bytes(SEVEN_B, 750) == floor.kv_bytes(SEVEN_B) // 4
    assert floor.kv_bytes(SEVEN_B, 90_000) == floor.kv_bytes(SEVEN_B)  # a window, not a heap
    assert floor.kv_bytes(SEVEN_B, kv_bits=8) == floor.kv_bytes(SEVEN_B) // 2


@pytest.mark.parametrize(("bandwidth", "ms"), [(400, 12), (200, 23), (100, 46)])
def test_the_floor_of_q4_on_m1_max_m1_pro_and_m2(bandwidth, ms):
    num_bytes = floor.weight_bytes_per_frame(SEVEN_B, RECIPES["q4"])
    assert floor.floor_ms(num_bytes, bandwidth) == pytest.approx(ms, abs=0.6)


def test_a_text_model_has_no_depth_transformer():
    helium = parse_config(raw_preset("helium-2b"))
    assert count(helium, "depformer.") == 0 and count(helium, "transformer.") > 1.5e9


def test_the_count_equals_the_tensors_of_a_file():
    """Independent truth: what a safetensors file in Kyutai's layout says it holds."""
    folder = Path(__file__).parents[2] / "moshi_mlx" / "nano"
    raw = json.loads((folder / "config.json").read_text())
    with open(folder / raw.get("moshi_name", "model.safetensors"), "rb") as file:
        tensors = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    tensors.pop("__metadata__", None)
    # norms, which this layout holds once for all slices, have only one axis longer than one
    matrices = [t["shape"] for t in tensors.values() if sum(n > 1 for n in t["shape"]) > 1]
    counted = floor.weights(parse_config(raw), RECIPES["bf16"])
    own = sum(w.num_weights for w in counted if not w.copy and "norm" not in w.name)
    assert own == sum(math.prod(s) for s in matrices)
