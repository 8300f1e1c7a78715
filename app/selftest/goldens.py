"""What Kyutai's PyTorch code said of the self-test's models, and which part of it was kept.

Made by tools/goldens/make_selftest.py. Shapes: T steps, S slices.
"""

from functools import cache
from pathlib import Path

import numpy as np

from moshi_mlx.config.lm_config import LmConfig

from . import probe

FILE = Path(__file__).parent / "golden.safetensors"
SAMPLE = "samples/four_plus_three.wav"  # of nano
COLUMNS = 64  # of the logits, about
PCM_STRIDE = 7
CODEC_FRAMES = 13
TALK_STEPS = 40


def rows_of(steps: int) -> list[int]:
    """The steps whose logits were kept: the first ones, around a ring's two ends, the last."""
    kept = (0, 1, 2, 5, 12, 19, 60, 127, 128, 129, 130, 131, 149)
    return [step for step in kept if step < steps]


def columns_of(vocabulary: int) -> slice:
    """The columns that were kept."""
    return slice(None, None, max(1, vocabulary // COLUMNS))


def helium_ids(config: LmConfig) -> np.ndarray:
    """A text, int32 [1, T]."""
    shape = (1, probe.SHORT_STEPS)
    return probe.random("helium").randint(0, config.text_card, shape).astype(np.int32)


def user_codes(config: LmConfig) -> np.ndarray:
    """What a user of the greedy talk says, int32 [user_q, T]."""
    shape = (config.user_q, TALK_STEPS)
    return probe.random("user").randint(0, config.card, shape).astype(np.int32)


@cache
def golden() -> dict[str, np.ndarray]:
    """Every array of the file."""
    import mlx.core as mx

    arrays = mx.load(str(FILE))
    assert isinstance(arrays, dict)
    with mx.stream(mx.cpu):
        return {name: np.array(array) for name, array in arrays.items()}
