"""What a run will hold on the device at most, told before it: `peak_bytes` of MLX's own counter.

Weights as they lie in memory, a conversation's rings and its codec's state; one set of each, also
in the closer looks after the run. While weights are made up, the pattern that they are cut from is
there in place of a conversation.
"""

from dataclasses import dataclass
from math import prod

import mlx.core as mx

from moshi_mlx.clock import FRAME_SAMPLES
from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.lm.layers.kv_ring import bits_per_number
from moshi_mlx.mimi import MimiConfig
from moshi_mlx.tts.model import GUIDANCE, VOICES
from moshi_mlx.tts.voices import NO_VOICE, SPEAKERS_MAX
from moshi_mlx.weights import frame_cost
from moshi_mlx.weights.loaded_bytes import LoadedBytes
from moshi_mlx.weights.recipes import RECIPES

from ..machine import random_model
from ..machine.random_model import FLOATS

CUT_BYTES = 700_000  # what is being cut from the pattern
MAKING_ATTENDED = 2.75  # of a speech's keys and values of voices, while these are being made
WIDEST_LAYERS = 22  # of Mimi's, so many of the widest one's activations live at once in a frame


def peak_bytes(
    config: LmConfig, recipe: str, dtype: str, mimi: MimiConfig, kv_bits: int = 16
) -> int:
    """Of a model with random weights. Raises as `random_lm` does."""
    weights = random_model.lm_bytes(config, recipe, dtype)
    weights += random_model.mimi_bytes(mimi, config.mimi_codebooks)
    chosen = RECIPES[recipe]
    activations = FLOATS[dtype if chosen.quantizes else random_model.dtype_of(config, chosen)]
    attended = attended_bytes(config, activations)
    talk = attended + talk_bytes(config, activations, table_bytes(config, recipe), mimi, kv_bits)
    beginning = rings_bytes(config, activations, kv_bits) + MAKING_ATTENDED * attended
    pattern = random_model.PATTERN * 4 + CUT_BYTES  # of Mimi's, in float32
    return int(weights + max(talk, beginning, pattern))


@dataclass(frozen=True)
class MimiFile:
    """A model's Mimi, and which codecs it may come to: ("mlx",), ("rust",), or both where the
    faster one is taken, after MLX's was loaded and tried."""

    sizes: MimiConfig
    file_bytes: int
    codecs: tuple[str, ...]


def peak_bytes_of_files(
    lm: LoadedBytes, config: LmConfig, mimi: MimiFile, kv_bits: int
) -> dict[str, int]:
    """Of a model that is loaded, for each of its codecs. Files are there until weights are made."""
    in_mlx = random_model.mimi_bytes(mimi.sizes, config.mimi_codebooks)
    loading = lm.loading
    if "mlx" in mimi.codecs:
        tried = state_bytes(mimi.sizes) + frame_bytes(mimi.sizes) if len(mimi.codecs) > 1 else 0
        loading = max(loading, lm.weights + in_mlx + max(mimi.file_bytes, tried))
    found = {}
    for codec in mimi.codecs:
        sizes, held = (mimi.sizes, in_mlx) if codec == "mlx" else (None, 0)
        talk = talk_bytes(config, lm.dtype, lm.table, sizes, kv_bits)
        found[codec] = max(loading, lm.weights + held + talk)
    return found


def talk_bytes(
    config: LmConfig, dtype: mx.Dtype, table: int, mimi: MimiConfig | None, kv_bits: int
) -> int:
    """Of a conversation, without weights. mimi: None where it doesn't run in MLX."""
    state, frame = (0, 0) if mimi is None else (state_bytes(mimi), frame_bytes(mimi))
    if kv_bits == 16:  # tables are laid out in rows while no frame of the codec runs
        frame = max(frame, table)
    else:
        frame += codes_bytes(config)
    return rings_bytes(config, dtype, kv_bits) + state + frame


def rings_bytes(config: LmConfig, dtype: mx.Dtype, kv_bits: int) -> int:
    bits = bits_per_number(kv_bits, config.transformer.head_dim, dtype)
    return rows_of(config) * frame_cost.kv_bytes(config, None, bits)


def rows_of(config: LmConfig) -> int:
    """Of a step: a speech has another one beside it that it is guided away from."""
    guided = config.dep_q and not config.user_q and GUIDANCE not in config.conditioners
    return 2 if guided else 1


def attended_bytes(config: LmConfig, dtype: mx.Dtype) -> int:
    """Keys and values of a speech's voices, in each layer."""
    if not config.transformer.cross_attention or VOICES not in config.conditioners:
        return 0
    t = config.transformer
    shape = (2, t.num_layers, SPEAKERS_MAX * NO_VOICE, t.dim)
    return rows_of(config) * prod(shape) * dtype.size


def codes_bytes(config: LmConfig) -> int:
    """Of one layer's ring in 8 bit: so much more is there while rings are made, as measured."""
    t = config.transformer
    return prod((2, t.num_kv_heads, t.context or 0, t.head_dim))


def state_bytes(mimi: MimiConfig) -> int:
    """What Mimi's two transformers keep."""
    t = mimi.transformer
    return 2 * t.num_layers * prod((2, t.context - 1, t.d_model)) * 4


def frame_bytes(mimi: MimiConfig) -> int:
    """What a frame of Mimi's convolutions holds."""
    return WIDEST_LAYERS * mimi.seanet.n_filters * FRAME_SAMPLES * 4


def table_bytes(config: LmConfig, recipe: str) -> int:
    """The largest quantized table, which is there twice while its rows are laid out."""
    if not RECIPES[recipe].quantizes:
        return 0
    tables = [w for w in frame_cost.weights(config, RECIPES[recipe]) if not w.read_each_frame]
    audio = sum(w.num_bytes for w in tables if w.name.startswith("audio_embs."))
    return int(max([audio, *(w.num_bytes for w in tables)]))
