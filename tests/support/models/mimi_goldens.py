"""Mimis for the tests: the tiny one of tests/golden, and random ones of full size."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import mlx.core as mx
import numpy as np
import soundfile

import moshi_mlx
from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.mimi import Mimi
from moshi_mlx.mimi.config import CONFIG_NAME
from tools.goldens.mimi_weights import KYUTAI, random_mimi, save

GOLDEN = Path(__file__).parents[2] / "golden"
TINY = GOLDEN / "tiny_mimi" / "model.safetensors"
ALL = 6  # codebooks of the tiny one
FULL_SIZE = KYUTAI | {"quantizer": KYUTAI["quantizer"] | {"n_q": 8}}


@cache
def golden() -> dict[str, np.ndarray]:
    """PyTorch's numbers, with `pcm` as float32."""
    arrays = mx.load(str(GOLDEN / "tiny_mimi" / "golden.safetensors"))
    assert isinstance(arrays, dict)
    found = {name: np.array(array) for name, array in arrays.items()}
    found["pcm"] = found["pcm"].astype(np.float32) / 32768
    return found


@cache
def tiny(num_codebooks: int = ALL) -> Mimi:
    mimi = moshi_mlx.load_mimi(TINY, num_codebooks=num_codebooks)
    assert isinstance(mimi, Mimi)
    return mimi


def speech(seconds: float) -> np.ndarray:
    """The start of a real recording, float32 at 24 kHz."""
    pcm, rate_hz = soundfile.read(GOLDEN / "speech_10s.flac", dtype="float32")
    assert rate_hz == SAMPLE_RATE_HZ
    return pcm[: int(seconds * SAMPLE_RATE_HZ)]


@contextmanager
def full_size_file() -> Iterator[Path]:
    """Random weights in Kyutai's sizes but with 8 codebooks: all that 8 codebooks need.

    One file of 330 MB for all tests of a process, which leave it as it is.
    """
    yield Path(_full_size_folder().name) / "mimi.safetensors"


@cache
def _full_size_folder() -> tempfile.TemporaryDirectory[str]:
    """Removed as the process ends."""
    folder = tempfile.TemporaryDirectory()
    save(Path(folder.name) / "mimi.safetensors", random_mimi(FULL_SIZE))
    (Path(folder.name) / CONFIG_NAME).write_text(json.dumps(FULL_SIZE))
    return folder


def snr_db(ours: np.ndarray, theirs: np.ndarray) -> float:
    """How far the difference lies below the signal."""
    error = np.sum((ours.astype(np.float64) - theirs) ** 2)
    return float(10 * np.log10(np.sum(theirs.astype(np.float64) ** 2) / max(error, 1e-30)))


def frames_of(mimi: Mimi, pcm: np.ndarray) -> np.ndarray:
    return pcm.reshape(-1, mimi.frame_samples)
