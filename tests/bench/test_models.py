"""Models of the bench: random ones have the exact shape, the split runs the true step."""

import math
from argparse import Namespace
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from app.bench import floor, split, subject
from app.bench.split import Halves, histories
from app.machine.copy_bandwidth import measured_gb_s
from app.machine.random_model import random_lm
from moshi_mlx.config.reading import parse_config
from moshi_mlx.errors import MoshiError
from moshi_mlx.weights import frame_cost
from moshi_mlx.weights.loading import load_lm
from moshi_mlx.weights.recipes import RECIPES
from tests.support.fakes.doctor_machines import ALL, LINUX, M1_8GB, M2_AIR, M4_MAX
from tests.support.models.bench_shapes import SMALL, small_shape

CONFIG = parse_config(SMALL)
ARGS = Namespace(
    **{"revision": None, "offline": True, "codec": "auto", "kv_bits": 16},
    **{"mimi": None, "tokenizer": None, "lora": None},
)
NORMS = 0.02  # share of norms in so small a model; the arithmetic leaves them out


def arrays(lm) -> dict[str, mx.array]:
    found = tree_flatten(lm.parameters())
    return {name: array for name, array in found if isinstance(array, mx.array)}


def shapes(lm) -> dict[str, tuple]:
    return {name: (array.shape, array.dtype) for name, array in arrays(lm).items()}


def test_random_weights_have_the_shape_of_the_real_ones():
    real = load_lm("nano", "float32")
    made = random_lm(real.config, "fp32")
    assert shapes(made) == shapes(real)


@pytest.mark.parametrize(
    "recipe", ["q3", "q4", "q6", "q8", "mixed-4-6", "mxfp4", "nvfp4", "mxfp8", "bf16"]
)
def test_bytes_in_memory_are_those_of_the_arithmetic(recipe):
    """Two counts that know nothing of each other: loaded arrays, and config times bits."""
    lm = random_lm(CONFIG, recipe)
    chosen = RECIPES[recipe]
    read = frame_cost.weight_bytes_per_frame(CONFIG, chosen)
    assert floor.read_bytes(lm) == pytest.approx(read, rel=NORMS)
    total = sum(array.nbytes for array in arrays(lm).values())
    assert total == pytest.approx(frame_cost.model_bytes(CONFIG, chosen), rel=NORMS)


def test_weights_that_slices_share_are_read_by_each():
    raw = {**SMALL, "depformer_weights_per_step_schedule": [0, 0, 1, 1]}
    config = parse_config(raw)
    read = frame_cost.weight_bytes_per_frame(config, RECIPES["fp32"])
    assert floor.read_bytes(random_lm(config, "fp32")) == pytest.approx(read, rel=NORMS)


def test_numbers_stay_in_range_through_a_conversation():
    generator = random_lm(CONFIG, "q4", "float32").generator(seed=0)
    texts = {generator.step(np.zeros(CONFIG.user_q, np.int32)).text_token for _ in range(12)}
    assert len(texts) > 3  # NaN would choose the same token for ever


def test_layers_that_groups_do_not_divide_stay_whole(tmp_path):
    config = subject.speech_config(str(small_shape(tmp_path, depformer_dim_feedforward=264)))
    lm = random_lm(config, "q4", "float32")
    kinds = {name: dtype for name, (_, dtype) in shapes(lm).items()}
    assert mx.uint32 in kinds.values()
    assert kinds["depth.weight_sets.0.0.gating.linear_out.weight"] == mx.float32


def test_a_shape_that_no_group_divides_is_refused():
    narrow = parse_config({**SMALL, "dim": 40, "depformer_dim": 24, "hidden_scale": 1.5,
                           "depformer_dim_feedforward": 36})  # fmt: skip
    with pytest.raises(MoshiError, match="groups of q4"):
        random_lm(narrow, "q4")


# --- the split ---------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["fp32", "q4"])
def test_the_halves_compute_what_the_step_computes(recipe):
    """Greedy tokens of a first frame: text, and each code, which depends on all before it."""
    lm = random_lm(CONFIG, recipe, "float32")
    greedy = replace(CONFIG.sampling, text_temperature=0.0, audio_temperature=0.0)
    halves = Halves(lm, lm.new_buffers(), sampling=greedy)
    halves.temporal()
    generator = lm.generator(text_temperature=0.0, audio_temperature=0.0)
    step = generator.step(np.zeros(CONFIG.user_q, np.int32))
    assert halves.depth().tolist() == [step.text_token, *step.sampled]


@pytest.mark.parametrize("most", [math.inf, pytest.param(2.5, marks=pytest.mark.long)])
def test_the_halves_take_about_as_long_as_the_step(most):
    found = split.split(load_lm("nano", "float32"), frames=15, history_frames=100)
    assert min(found.temporal_ms, found.depth_ms) > 0
    assert 1 / most < found.total_ms / found.uncut_ms < most  # on an idle machine


def test_a_history_is_looked_at_where_it_would_be():
    at = split.position(300, 3000)
    assert (at.slot.item(), at.length) == (300, 512)
    assert at.mask is not None and at.mask.sum().item() == 301
    full = split.position(3000, 3000)
    assert (full.slot.item(), full.length, full.mask) == (0, 3000, None)


def test_the_sweep_covers_the_history_of_the_7b():
    assert histories(3000) == (0, 750, 1500, 3000)
    assert histories(2) == (0, 1, 2)


def test_longer_history_costs_more():
    """A model whose keys outweigh its weights: 64 heads' worth of history, little else."""
    raw = {**SMALL, "context": 4096, "dim": 256, "num_heads": 8, "hidden_scale": 1.5}
    lm = random_lm(parse_config(raw), "fp32")
    found = split.sweep(lm, (0, 4096), frames=10)
    assert found[4096] > found[0]


# --- floor and memory --------------------------------------------------------------------------


def test_bandwidth_comes_from_the_table_or_from_a_copy():
    assert floor.bandwidth(M4_MAX).gb_s == 546
    assert floor.bandwidth(LINUX, "M2").gb_s == 100
    for facts in (LINUX, replace(M4_MAX, chip="Apple M99 Hyper"), replace(M4_MAX, chip=None)):
        found = floor.bandwidth(facts, measure=lambda: 12.5)
        assert found.gb_s == 12.5 and "measured" in found.source
    with pytest.raises(MoshiError, match=r"unknown chip 'M99 Hyper'; known: .*M4 Max"):
        floor.bandwidth(M4_MAX, "M99 Hyper")


def test_the_copy_test_measures_something_like_memory():
    assert all(0.2 < measured_gb_s(2**24, 2, gpu) < 5000 for gpu in (False, True, None))


def test_the_floor_counts_weights_and_history():
    lm = random_lm(CONFIG, "fp32")
    empty, later = (floor.of_run(lm, frames, gb_s=1.0) for frames in (0, 64))
    assert empty.kv_bytes == 0
    assert later.kv_bytes == 2 * 2 * 128 * 64 * 4  # k and v, layers, width, frames, float32
    assert later.ms == pytest.approx((later.weights_bytes + later.kv_bytes) / 1e6)


@pytest.mark.parametrize("name", ALL)
def test_what_does_not_fit_is_refused_before_anything_is_made(name):
    facts, before = ALL[name], mx.get_active_memory()
    if name not in ("M1_8GB", "M2_AIR", "ROSETTA", "VM_WITHOUT_METAL"):
        assert len(subject.from_random("moshi-7b", ["q4", "bf16"], facts)) == 2
        assert mx.get_active_memory() - before < 2**20
        return
    with pytest.raises(MoshiError, match=r"bf16 needs 18.0 GB .* can give \d+") as caught:
        subject.from_random("moshi-7b", ["bf16"], facts)
    assert "\n" not in str(caught.value)


def test_recipes_that_do_not_fit_are_left_out_beside_those_that_do(capsys):
    found = subject.from_random("moshi-7b", ["q4", "q8", "bf16"], M2_AIR)
    assert [subject.recipe for subject in found] == ["q4", "q8"]
    assert "left out: bf16 needs 18.0 GB" in capsys.readouterr().err


def test_a_real_model_that_does_not_fit_is_refused_before_its_download():
    with pytest.raises(MoshiError, match=r"q4 needs 7.5 GB"):
        subject.from_model(ARGS, "kyutai/moshiko-mlx-q4", M1_8GB)
    assert subject.from_model(ARGS, "nano", M1_8GB).model == "nano"
