"""Mimi at Kyutai's size, random weights made here: MLX against rustymimi on real speech."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.clock import FRAME_SAMPLES
from moshi_mlx.codec.rust import RustCodec
from tests.support.models.mimi_goldens import full_size_file, snr_db, speech

rustymimi = pytest.importorskip("rustymimi", reason="rustymimi has no wheel for this Python")


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    with full_size_file() as file:
        yield file


Said = Callable[[float], tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def theirs(path: Path) -> Said:
    """Codes and sound by rustymimi of the start of a recording."""
    codec = moshi_mlx.load_mimi(path, num_codebooks=8, backend="rust")
    assert isinstance(codec, RustCodec)

    @cache
    def said(seconds: float) -> tuple[np.ndarray, np.ndarray]:
        codes = codec.encode(speech(seconds))
        return codes, codec.decode(codes)

    return said


@pytest.mark.parametrize(
    ("seconds", "distinct"), [(0.72, 5), pytest.param(10, 20, marks=pytest.mark.long)]
)
def test_codes_and_sound_equal_rustymimis_on_speech(
    path: Path, theirs: Said, seconds: float, distinct: int
) -> None:
    ours = moshi_mlx.load_mimi(path, num_codebooks=8, backend="mlx")
    want, sound = theirs(seconds)
    codes = ours.encode(speech(seconds))
    assert len({*codes[0].tolist()}) > distinct  # speech, not a stuck codec
    assert want.dtype == np.int32 and want.shape == codes.shape == (8, seconds * 12.5)
    assert np.mean(codes == want) >= 0.995
    assert snr_db(ours.decode(want), sound) >= 80


def test_after_a_swap_rustymimi_is_an_instance_that_heard_the_overlap(
    path: Path, theirs: Said
) -> None:
    """To the bit: what the spare missed or heard twice would show."""
    frames, whole = speech(0.72).reshape(-1, FRAME_SAMPLES), theirs(0.72)
    stream = RustCodec(path, 8, frames_max=5, overlap_frames=2).stream()
    codes = np.stack([stream.encode(frame) for frame in frames], axis=1)
    sound = np.stack([stream.decode(c) for c in whole[0].T])
    np.testing.assert_array_equal(codes[:, :5], whole[0][:, :5])
    np.testing.assert_array_equal(sound[:5].reshape(-1), whole[1][: 5 * FRAME_SAMPLES])
    alone: Any = rustymimi.Tokenizer
    # An instance that takes over has heard 2 of its 5 frames.
    for start, swap, stop in ((3, 5, 8), (6, 8, 9)):
        one = alone(str(path), num_codebooks=8)
        for t in range(start, stop):
            heard = one.encode_step(frames[t][None, None])[0, :, 0]
            said = one.decode_step(whole[0][None, :, t : t + 1].astype(np.uint32))[0, 0]
            if t >= swap:
                np.testing.assert_array_equal(codes[:, t], heard)
                np.testing.assert_array_equal(sound[t], said)
