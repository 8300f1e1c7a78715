"""Small models whose weights follow from their names: no file, the same numbers on every machine.

They have the widths that a GPU has kernels of its own for (heads of 128 and 64, a vocabulary that
is cut into blocks for top-k) and Kyutai's ways of joining parts. Numpy alone, so that the tool
which asks PyTorch about them (tools/goldens/make_selftest.py) draws the very same numbers.
Shapes: T steps, K codebooks, C width.
"""

import re
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.weights.tensor_names import expected, source_of

Numbers = dict[str, np.ndarray]
LOGIT_STD = 3.0  # logits well apart: greedy tokens don't hang on the last bit
HEADS = re.compile(r"^text_linear|slices\.\d+\.linear_out")
STEPS = 150  # past the ring of 130
CONTEXT = 130  # two slice lengths: 128 and the whole
SHORT_STEPS = 20

MOODS = ["calm", "glad"]
BASE: Mapping[str, Any] = {
    **{"causal": True, "layer_scale": None, "max_period": 10_000, "gating": "silu"},
    **{"norm": "rms_norm_f32", "positional_embedding": "rope", "existing_text_padding_id": 3},
    **{"depformer_num_layers": 2, "depformer_layer_scale": None, "depformer_multi_linear": True},
    **{"depformer_max_period": 10_000, "depformer_gating": "silu"},
    **{"depformer_weights_per_step": True, "depformer_context": 8},
}
# A speaker and a listener, as Moshi: heads of 128 in time, of 64 in depth.
TALKER: Mapping[str, Any] = {
    **BASE,
    **{"dim": 256, "num_heads": 2, "num_layers": 2, "hidden_scale": 4.125, "context": CONTEXT},
    **{"text_card": 4000, "card": 512, "n_q": 8, "dep_q": 4},
    **{"delays": [0, *([0, 1, 1, 1] * 2)], "depformer_pos_emb": "none"},
    **{"depformer_dim": 128, "depformer_dim_feedforward": 528, "depformer_num_heads": 2},
}
# The same with short tables, for what is made anew in each recipe.
SMALL_TALKER: Mapping[str, Any] = {**TALKER, "text_card": 500, "card": 64}
# As the text to speech models: conditions summed and attended to, shared depth weights, low rank.
READER: Mapping[str, Any] = {
    **BASE,
    **{"dim": 128, "num_heads": 2, "num_layers": 2, "hidden_scale": 4, "context": 40},
    **{"text_card": 200, "card": 64, "n_q": 4, "dep_q": 4, "delays": [0, 0, 2, 2, 2]},
    **{"depformer_dim": 64, "depformer_dim_feedforward": 256, "depformer_num_heads": 1},
    **{"depformer_low_rank_embeddings": 16, "depformer_weights_per_step_schedule": [0, 1, 1, 1]},
    **{"demux_second_stream": True, "cross_attention": True},
    "conditioners": {
        "mood": {
            "type": "lut",
            "lut": {
                "n_bins": 5,
                "dim": 8,
                "tokenizer": "noop",
                "possible_values": ["calm", "glad"],
            },
        },
        "voice": {"type": "tensor", "tensor": {"dim": 6}},
    },
    "fuser": {"sum": ["mood"], "cross": ["voice"], "cross_attention_pos_emb": True},
}
VOICE_STEPS = 7
Change = Callable[[str, np.ndarray], np.ndarray]


def unchanged(name: str, tensor: np.ndarray) -> np.ndarray:
    return tensor


def tensors(config: LmConfig, change: Change = unchanged) -> Numbers:
    """Every tensor of Kyutai's MLX layout, float32, each number one that bf16 has.

    What slices share in PyTorch's layout is the same here.
    """
    found = {}
    for name, shape in expected(config).items():
        source, _, part = source_of(name, config).names[0]
        found[name] = change(name, drawn(name, shape, f"{source} {part}"))
    return found


@cache
def drawn(name: str, shape: tuple[int, ...], whose: str) -> np.ndarray:
    """Norms near 1, matrices that keep the size of what they are given."""
    noise = random(whose).standard_normal(shape)
    if len(shape) == 1:
        values = 0.1 * noise if name.endswith("bias") else 1 + 0.2 * noise
    else:
        std = shape[-1] ** -0.5
        if "emb" in name and "low_rank" not in name and "out" not in name:
            std = 1.0
        elif HEADS.search(name):
            std *= LOGIT_STD
        values = std * noise
    return as_bf16(values)


def random(name: str) -> np.random.RandomState:
    """Numbers for a name; of the generator that numpy keeps as it is (NEP 19)."""
    return np.random.RandomState(zlib.crc32(name.encode()))


def as_bf16(values: np.ndarray) -> np.ndarray:
    """Rounded to what bf16 has, still in float32."""
    words = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = words + np.uint32(0x7FFF) + ((words >> np.uint32(16)) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)


def tokens(config: LmConfig, steps: int, name: str) -> np.ndarray:
    """Input tokens of so many steps, int32 [1 + K, T]; one in ten is -1, no input."""
    of = random(name)
    text = of.randint(0, config.text_card, (1, steps))
    codes = of.randint(0, config.card, (config.n_q, steps))
    rows = np.concatenate([text, codes])
    return np.where(of.uniform(size=rows.shape) < 0.1, -1, rows).astype(np.int32)


def known(config: LmConfig, steps: int, name: str) -> np.ndarray:
    """What each step is told to have drawn, text first, int32 [1 + S, T]."""
    of = random(name)
    text = of.randint(0, config.text_card, (1, steps))
    codes = of.randint(0, config.card, (config.dep_q, steps))
    return np.concatenate([text, codes]).astype(np.int32)


def voice(config: LmConfig) -> np.ndarray:
    """A tensor condition, float32 [S, dim]."""
    shape = (VOICE_STEPS, config.conditioners["voice"].dim)
    return random("voice").standard_normal(shape).astype(np.float32)


def temporal_outputs(config: LmConfig, steps: int) -> np.ndarray:
    """What a temporal transformer might give the depth transformer, float32 [T, C]."""
    values = random("temporal").standard_normal((steps, config.transformer.dim))
    return as_bf16(values)
