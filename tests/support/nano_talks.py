"""Conversations of the small model in the package: some to calibrate on, others to measure with."""

from functools import cache
from pathlib import Path

import numpy as np

import moshi_mlx
from moshi_mlx.audio.file import read_mono
from quantize.calibrated.material import read_material, talk
from quantize.mixed.divergence import kl_divergence
from tests.support.loaded import nano

QUESTIONS = Path(__file__).parents[1] / "golden" / "questions.flac"  # 27 s of other voices


@cache
def calibration_codes() -> list[np.ndarray]:
    """The model's talk over the eight questions in the package."""
    folder = nano().folder / "samples"
    return [sequence.codes for sequence in read_material(folder, nano().config, nano)]


def write_codes(folder: Path) -> Path:
    """A folder with the calibration's codes, so that nobody has to talk again."""
    folder.mkdir()
    names = (f"{number}" for number in range(len(calibration_codes())))
    np.savez(folder / "codes.npz", **dict(zip(names, calibration_codes(), strict=True)))
    return folder


@cache
def held_out() -> np.ndarray:
    return talk(nano(), read_mono(QUESTIONS))[None]


def held_out_kl(folder: Path) -> tuple[float, float]:
    """KL of a model's text and audio logits from nano's, nats a token, on what it never saw."""
    theirs = moshi_mlx.load_lm(folder, dtype="float32").forward(held_out())
    text, audio = (
        kl_divergence(*pair) for pair in zip(nano().lm.forward(held_out()), theirs, strict=True)
    )
    return float(text.mean()), float(np.nanmean(np.array(audio)))
