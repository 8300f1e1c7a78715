"""The tiny models of tests/golden and what Kyutai's PyTorch package says of them."""

from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

import moshi_mlx
from moshi_mlx.lm.model import Lm

GOLDEN = Path(__file__).parents[2] / "golden"
MODELS = ("lm_moshi", "lm_stt", "lm_tts")
GREEDY: dict[str, Any] = {"text_temperature": 0.0, "audio_temperature": 0.0}


@cache
def model(name: str) -> Lm:
    return moshi_mlx.load_lm(GOLDEN / name, dtype="float32")


@cache
def golden(name: str) -> dict[str, np.ndarray]:
    arrays = tensors(GOLDEN / name / "golden.safetensors")
    return {key: np.array(value) for key, value in arrays.items()}


def tensors(path: Path) -> dict[str, mx.array]:
    arrays = mx.load(str(path), format="safetensors")
    assert isinstance(arrays, dict)
    return arrays


def conditions(name: str, voice: str) -> dict | None:
    """What the goldens were made with: the last step of the voice is masked out."""
    if name != "lm_tts":
        return None
    return {"mood": "glad", "voice": (golden(name)[voice], [1, 1, 1, 0])}


def guidance(name: str) -> dict:
    """Conditions and negatives that the goldens of guidance were made with."""
    if name == "cfg_hibiki":
        words = [{"description": word} for word in ("very_good", "very_bad")]
        return {"conditions": words[0], "negatives": words[1]}
    want = golden(name)
    voice = (want["cond.speaker_wavs"], want["cond.speaker_mask"][0])
    return {"conditions": {"control": "ok", "speaker_wavs": voice}}
