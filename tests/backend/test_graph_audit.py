"""Every operation of a frame against the table of what Metal has: types, shapes, none made anew."""

import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from app.machine.random_model import random_mimi
from benchmarks.graph import COPY, Node, nodes_of
from benchmarks.random_adapter import random_adapter
from benchmarks.step_graph import Frame, frame_of, spoken
from moshi_mlx.lm.model import Lm
from moshi_mlx.weights.adaptation import Adaptation, with_adapter
from tests.support.fakes.metal_table import MLX_VERSION, problems
from tests.support.models.frames import narrow
from tests.support.models.mimi_shapes import narrow_config

RECIPES = ("fp32", "bf16", "q3", "q4", "q6", "q8", "mxfp4", "nvfp4", "mxfp8")


def zero(recipe: str = "fp32") -> Lm:
    return narrow("hibiki-zero", recipe, kv_repeat=2)


def adapted(recipe: str) -> Lm:
    """With a LoRA pair beside every linear layer."""
    lm = narrow("moshi-7b", recipe)
    with tempfile.TemporaryDirectory() as folder:
        path = random_adapter(lm.config, 8, Path(folder) / "one.safetensors")
        return with_adapter(lm, Adaptation(path, 2.0))


# what -> its frame, kernels and views of it at most
KINDS: dict[str, tuple[Callable[[str], Frame], int, int]] = {
    "talk": (lambda r: frame_of(narrow("moshi-7b", r)), 224, 129),
    "talk, codes on the device": (
        lambda r: frame_of(narrow("moshi-7b", r), user_later=True), 227, 129,
    ),
    "four talks": (lambda r: frame_of(narrow("moshi-7b", r), batch=4), 225, 223),
    "a guided talk": (lambda r: frame_of(narrow("moshi-7b", r), cfg_coef=3.0), 233, 249),
    "a talk with an adapter": (lambda r: frame_of(adapted(r)), 388, 133),
    "listening": (lambda r: frame_of(narrow("stt-1b", r), text_temperature=0.0), 38, 24),
    "listening to four": (
        lambda r: frame_of(narrow("stt-1b", r), batch=4, text_temperature=0.0), 38, 36,
    ),
    "speaking": (lambda r: spoken(narrow("tts-1.6b", r)), 825, 494),
    "speaking, before the sound": (lambda r: spoken(narrow("tts-1.6b", r), silent=True), 50, 31),
    "guided speaking": (lambda r: spoken(narrow("tts-0.75b", r)), 447, 486),
    "translating": (lambda r: frame_of(narrow("hibiki-1b", r)), 224, 129),
    "guided translating": (lambda r: frame_of(narrow("hibiki-1b", r), cfg_coef=3.0), 233, 249),
    "translating, heads shared": (lambda r: frame_of(zero(r)), 434, 252),
}  # fmt: skip


def check(nodes: list[Node], draws: int) -> None:
    assert not problems(nodes)
    names = [node.name for node in nodes]
    assert "Load" not in names and names.count("RandomBits") == draws


def check_all(frame: Frame, kind: str) -> None:
    for step in (5, 300):  # with a mask, and with a context that is full
        check(frame.nodes(step), draws=0 if kind.startswith("listening") else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_kernels_and_views_of_a_frame(kind: str) -> None:
    make, most, most_views = KINDS[kind]
    frame = make("fp32")
    found, looks = frame.counts()
    print(kind, sum(found.values()), "kernels,", looks, "views")
    assert COPY not in found and "Load" not in found
    assert found.get("RandomBits", 0) == (0 if kind.startswith("listening") else 1)
    assert sum(found.values()) <= most and looks <= most_views
    check_all(frame, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recipe", ["bf16", "q4"])  # fp32 above; a talk in every one below
def test_every_operation_of_a_frame(kind: str, recipe: str) -> None:
    check_all(KINDS[kind][0](recipe), kind)


# In bf16, as a GPU computes; in float32 one of those with biases and one without.
@pytest.mark.parametrize(
    ("recipe", "dtype"),
    [*((recipe, "bfloat16") for recipe in RECIPES), ("q4", "float32"), ("mxfp4", "float32")],
)
def test_the_language_models_frame(recipe: str, dtype: str) -> None:
    frame = frame_of(narrow("moshi-7b", recipe, dtype))
    for step in (5, 300):
        check(frame.nodes(step), draws=1)


@pytest.mark.parametrize(
    ("options", "draws"),
    [
        ({"kv_bits": 8}, 1),
        ({"text_temperature": 0.0, "audio_temperature": 0.0}, 0),
        ({"text_top_k": 0, "audio_top_k": 0}, 1),
    ],
)
def test_the_ways_of_a_conversation(options: dict[str, Any], draws: int) -> None:
    check(frame_of(narrow("moshi-7b"), **options).nodes(), draws)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_mimis_frames(dtype: str) -> None:
    mimi = random_mimi(narrow_config(), dtype=dtype, compiled=False)
    ways: list[tuple[Callable, mx.array, list[mx.array]]] = [
        (mimi.encode_step, mx.zeros((1, mimi.frame_samples)), mimi.encoder_state()),
        (mimi.decode_step, mx.zeros((1, 8, 1), mx.int32), mimi.decoder_state()),
    ]
    for step, given, state in ways:
        check(nodes_of(step, given, state), draws=0)


def test_keys_and_values_of_a_voice_are_no_part_of_a_frame() -> None:
    """They are made once: no product of a frame has the voice's steps in it."""
    nodes = spoken(narrow("tts-1.6b")).nodes()
    products = [node for node in nodes if node.name in ("Matmul", "AddMM", "QuantizedMatmul")]
    assert products and not [p for p in products for shape, _ in p.inputs if 625 in shape]


@pytest.mark.parametrize("preset", ["tts-1.6b", "tts-0.75b"])
def test_before_its_sound_a_voice_runs_no_depth_transformer(preset: str) -> None:
    """Nor reads any of its weights, whose width nothing else has."""
    lm = narrow(preset, depformer_dim=96)
    wide = [
        [shape for node in spoken(lm, silent).nodes() for shape, _ in node.inputs if 96 in shape]
        for silent in (True, False)
    ]
    assert not wide[0] and wide[1]


def test_what_metal_lacks_is_found() -> None:
    """The audit can fail: a type, an operation and a width that there are no kernels for."""
    x = mx.zeros((2, 64))
    assert problems(nodes_of(lambda a: a.astype(mx.int64), x))
    assert problems(nodes_of(lambda a: mx.tan(a), x))
    q = mx.zeros((1, 2, 1, 24))
    attention = lambda a: mx.fast.scaled_dot_product_attention(a, a, a, scale=1.0)  # noqa: E731
    assert problems(nodes_of(attention, q))
    assert problems(nodes_of(lambda a: mx.partition(a, 5), mx.zeros((1, 4000))))


def test_the_table_is_of_the_version_that_is_tested() -> None:
    """Another MLX: read its Metal backend again, then write its version into the table."""
    assert version("mlx").split(".")[:2] == MLX_VERSION.split(".")[:2]
