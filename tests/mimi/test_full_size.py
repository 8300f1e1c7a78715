"""Mimi at Kyutai's size, random weights made here: MLX against rustymimi on real speech."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.clock import FRAME_SAMPLES
from moshi_mlx.codec.rust import RustCodec
from tests.support.models.mimi_goldens import full_size_file, snr_db, speech

pytest.importorskip("rustymimi", reason="rustymimi has no wheel for this Python")


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    with full_size_file() as file:
        yield file


@pytest.mark.parametrize(
    ("seconds", "distinct"), [(1.2, 5), pytest.param(10, 20, marks=pytest.mark.long)]
)
def test_codes_and_sound_equal_rustymimis_on_speech(
    path: Path, seconds: float, distinct: int
) -> None:
    pcm = speech(seconds)
    ours = moshi_mlx.load_mimi(path, num_codebooks=8, backend="mlx")
    theirs = moshi_mlx.load_mimi(path, num_codebooks=8, backend="rust")
    assert isinstance(theirs, RustCodec)
    with ThreadPoolExecutor(1) as other_core:  # rustymimi lets go of the interpreter
        encoded = other_core.submit(theirs.encode, pcm)
        codes = ours.encode(pcm)
        want = encoded.result()
        decoded = other_core.submit(theirs.decode, want)
        sound = ours.decode(want)
    assert len({*codes[0].tolist()}) > distinct  # speech, not a stuck codec
    assert want.dtype == np.int32 and want.shape == codes.shape == (8, seconds * 12.5)
    assert np.mean(codes == want) >= 0.995
    assert snr_db(sound, decoded.result()) >= 80


def test_after_a_swap_rustymimi_is_an_instance_that_heard_the_overlap(path: Path) -> None:
    """To the bit: what the spare missed or heard twice would show."""
    frames = speech(0.96).reshape(-1, FRAME_SAMPLES)
    stream = RustCodec(path, 8, frames_max=6, overlap_frames=2).stream()
    codes = np.stack([stream.encode(frame) for frame in frames], axis=1)
    sound = np.stack([stream.decode(c) for c in codes.T])
    alone = RustCodec(path, 8)
    # An instance that takes over has heard 2 of its 6 frames.
    for start, swap, stop in ((0, 0, 6), (4, 6, 10), (8, 10, 12)):
        one = alone.stream()
        heard = np.stack([one.encode(frame) for frame in frames[start:stop]], axis=1)
        np.testing.assert_array_equal(codes[:, swap:stop], heard[:, swap - start :])
        said = np.stack([one.decode(c) for c in codes.T[start:stop]])
        np.testing.assert_array_equal(sound[swap:stop], said[swap - start :])
