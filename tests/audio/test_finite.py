"""What is no number is silence, wherever sound comes in."""

import numpy as np
import pytest
import soundfile

from app.audio.stream.port import QueuePort
from moshi_mlx.audio.file import read_mono
from moshi_mlx.audio.finite import finite

BAD = np.array([0.5, np.nan, np.inf, -np.inf, -0.5], np.float32)
GOOD = np.array([0.5, 0, 0, 0, -0.5], np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_and_infinities_are_silence(dtype):
    found = finite(BAD.astype(dtype))
    assert found.dtype == dtype and np.array_equal(found, GOOD)


def test_good_samples_are_not_copied_and_bad_ones_not_written_to():
    assert finite(GOOD) is GOOD
    finite(BAD)
    assert np.isnan(BAD[1])


def test_a_file_with_infinite_samples(tmp_path):
    soundfile.write(tmp_path / "bad.wav", BAD, 24_000, subtype="FLOAT")
    assert np.array_equal(read_mono(tmp_path / "bad.wav"), GOOD)


def test_a_browser_with_infinite_samples():
    port = QueuePort(lambda pcm: None)
    port.push_input(np.resize(BAD, 1920))
    capture = port.read(0.0)
    assert capture is not None and np.array_equal(capture.mic, np.resize(GOOD, 1920))
