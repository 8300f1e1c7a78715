"""Conversations of the small model in the package: some to calibrate on, others to measure with."""

from functools import cache
from pathlib import Path

import mlx.core as mx
import numpy as np

import moshi_mlx
from moshi_mlx.audio.file import read_mono
from quantize.calibrated.material import read_material, talk
from quantize.mixed.divergence import kl_divergence
from tests.support.models.loaded import nano

GOLDEN = Path(__file__).parents[2] / "golden"
QUESTIONS = GOLDEN / "questions.flac"  # 27 s of other voices
KEPT = GOLDEN / "nano_talks.npz"  # what `talked` gave once: a talk of 75 s costs its time


def talked() -> dict[str, np.ndarray]:
    """The model's talk over the eight questions in the package ("0" to "7"), and over others.

    Each int32 [1 + n_q, T].
    """
    folder = nano().folder / "samples"
    found = read_material(folder, nano().config, nano)
    own = {str(number): sequence.codes for number, sequence in enumerate(found)}
    return own | {"held_out": talk(nano(), read_mono(QUESTIONS))}


@cache
def kept() -> dict[str, np.ndarray]:
    """`talked`, as it was when `python -m tests.support.talks.nano_talks` was last run."""
    with np.load(KEPT) as found:
        return {name: found[name].astype(np.int32) for name in found.files}


def calibration_codes() -> list[np.ndarray]:
    return [codes for name, codes in sorted(kept().items()) if name != "held_out"]


def write_codes(folder: Path, frames: slice = slice(None)) -> Path:
    """A folder with the calibration's codes, so that nobody has to talk again."""
    folder.mkdir()
    each = {str(number): codes[:, frames] for number, codes in enumerate(calibration_codes())}
    np.savez(folder / "codes.npz", **each)
    return folder


def held_out() -> np.ndarray:
    return kept()["held_out"][None]


@cache
def nanos_logits(frames: int | None) -> tuple[mx.array, mx.array | None]:
    return nano().lm.forward(held_out()[:, :, :frames])


def held_out_kl(folder: Path, frames: int | None = None) -> tuple[float, float]:
    """KL of a model's text and audio logits from nano's, nats a token, on what it never saw."""
    theirs = moshi_mlx.load_lm(folder, dtype="float32").forward(held_out()[:, :, :frames])
    text, audio = (kl_divergence(*pair) for pair in zip(nanos_logits(frames), theirs, strict=True))
    return float(text.mean()), float(np.nanmean(np.array(audio)))


if __name__ == "__main__":
    np.savez_compressed(KEPT, **{name: codes.astype(np.int16) for name, codes in talked().items()})
