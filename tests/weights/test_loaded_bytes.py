"""Memory of weights, told by headers: loading takes as much, and holds nothing twice."""

import gc
import json
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from app.machine.random_model import random_lm
from benchmarks.random_adapter import random_adapter
from moshi_mlx.config.model_files import weight_paths
from moshi_mlx.config.reading import load_config, parse_config, read_config
from moshi_mlx.weights.adaptation import LoraMode, adaptation_from
from moshi_mlx.weights.loaded_bytes import loaded_bytes
from moshi_mlx.weights.loading import load_lm, save_lm
from tests.support.models.bench_shapes import SMALL

GOLDEN = Path(__file__).parents[1] / "golden"
RAW = SMALL | {"dim": 256, "num_layers": 4, "num_heads": 4, "text_card": 4500, "card": 256}
MARGIN = 1.03  # and down to a table less: what is joined is let go of sooner or later


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> dict[str, Path]:
    """A folder for each precision, with an adapter for all of them beside."""
    home, config = tmp_path_factory.mktemp("stored"), parse_config(RAW)
    found = {"adapter": random_adapter(config, 64, home / "one.safetensors")}
    for recipe in ("fp32", "bf16", "q4"):
        folder = home / recipe
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(RAW))
        save_lm(random_lm(config, recipe, "float32"), folder / "model.safetensors")
        found[recipe] = folder
    return found


@pytest.mark.parametrize("dtype", [None, "float32"])
@pytest.mark.parametrize("mode", [None, "auto", "beside"])
@pytest.mark.parametrize("recipe", ["fp32", "bf16", "q4"])
def test_loading_holds_what_was_foretold(
    recipe: str, mode: LoraMode | None, dtype: str | None, stored: dict[str, Path]
) -> None:
    folder, given = stored[recipe], None if mode is None else stored["adapter"]
    config, raw = load_config(folder), read_config(folder)
    adaptation = adaptation_from(given, mode or "auto", raw, folder)
    gc.collect()
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    expected = loaded_bytes(weight_paths(folder, raw), config, dtype, adaptation)
    assert mx.get_peak_memory() < before + 2**20  # nothing was read
    lm = load_lm(folder, dtype, lora=given, lora_mode=mode or "auto")
    peak = mx.get_peak_memory() - before
    arrays = [a for _, a in tree_flatten(lm.parameters()) if isinstance(a, mx.array)]
    assert expected.weights == sum(array.nbytes for array in arrays)
    joined = lm.audio_emb.emb.weight.nbytes
    assert expected.loading - joined <= peak <= MARGIN * expected.loading
    assert expected.dtype == lm.dtype


@pytest.mark.parametrize("model", ["lm_moshi", "kyutai_q4", "lm_tts"])
def test_published_layouts_are_counted(model: str) -> None:
    """PyTorch's, whose tensors are cut apart; Kyutai's quantized one; conditions in float32."""
    folder = GOLDEN / model
    raw = read_config(folder)
    expected = loaded_bytes(weight_paths(folder, raw), load_config(folder))
    arrays = [a for _, a in tree_flatten(load_lm(folder).parameters()) if isinstance(a, mx.array)]
    assert expected.weights == sum(array.nbytes for array in arrays)


def test_a_gpu_has_no_matrix_twice(stored: dict[str, Path]) -> None:
    """The CPU lays dense ones out anew: here the head of the text is the largest."""
    folder = stored["fp32"]
    paths, config = weight_paths(folder, read_config(folder)), load_config(folder)
    gpu, cpu = (loaded_bytes(paths, config, gpu=gpu) for gpu in (True, False))
    assert gpu.weights == cpu.weights
    head = RAW["dim"] * RAW["text_card"] * 4
    assert cpu.loading == cpu.weights + head > gpu.loading
