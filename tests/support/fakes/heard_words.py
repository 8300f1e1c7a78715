"""A speech to text model that can be checked against its sound: it writes a word where a burst is.

The small model of `dsm_stt` with its layers silenced: each text token depends on the frame's first
code alone; there are no heads for pauses. Of a sound that repeats every two seconds, one frame's
code starts a word, and the next one's is its piece.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

import moshi_mlx
from moshi_mlx.stt import Transcriber

GOLDEN = Path(__file__).parents[2] / "golden" / "dsm_stt"
FRAME, PERIOD = 1920, 25
WORD, PAD, EPAD = "a", 3, 0
DELAY_S = json.loads((GOLDEN / "config.json").read_text())["stt_config"]["audio_delay_seconds"]


@dataclass(frozen=True)
class HeardWords:
    """folder: of the model; period: float32 [PERIOD * 1920]; frame: whose code is the piece."""

    folder: Path
    stt: Transcriber
    period: np.ndarray
    frame: int

    def sound(self, seconds: float) -> np.ndarray:
        repeats = int(np.ceil(seconds * 24_000 / len(self.period)))
        return np.tile(self.period, repeats)[: round(seconds * 24_000)]

    def start_s(self, n: int) -> float:
        """When the word of the n-th period begins, by the model's own delay."""
        return max(0.0, (n * PERIOD + self.frame) * FRAME / 24_000 - DELAY_S)


def burst(loud: int, seed: int = 0) -> np.ndarray:
    """Silence, then `loud` frames of tones in noise, up to the end of the period."""
    rng, period = np.random.default_rng(seed), np.zeros((PERIOD, FRAME), np.float32)
    for f in range(PERIOD - loud - 4, PERIOD - 4):
        tone = 0.5 * np.sin(2 * np.pi * rng.uniform(100, 4000) * np.arange(FRAME) / 24_000)
        period[f] = tone + rng.uniform(0, 0.3) * rng.standard_normal(FRAME)
    return period.reshape(-1)


def heard_words(folder: Path, loud: int = 6) -> HeardWords:
    """The model, written to `folder`, and its sound."""
    period, K = burst(loud), 8
    mimi = moshi_mlx.load_stt(GOLDEN, dtype="float32").mimi
    codes = mimi.encode(np.tile(period, 8))[0].reshape(8, PERIOD)
    assert (codes[2:] == codes[2]).all()
    silent = set(mimi.encode(np.zeros(40 * FRAME, np.float32))[0].tolist())
    once = [list(codes[2]).count(c) == 1 and c not in silent for c in codes[2]]
    frame = next(f for f in range(1, PERIOD) if once[f - 1] and once[f])
    shutil.copytree(GOLDEN, folder)
    path = str(folder / "model.safetensors")
    tensors = mx.load(path)
    assert isinstance(tensors, dict)
    dim = tensors["emb.0.weight"].shape[1]
    for name in ("self_attn.out_proj", "gating.linear_out"):
        for layer in range(2):
            tensors[f"transformer.layers.{layer}.{name}.weight"] *= 0
    for k in range(K):
        tensors[f"emb.{k}.weight"] *= 0
    tensors["text_emb.weight"] *= 0
    tensors["emb.0.weight"] = mx.eye(dim + 1, dim)
    tensors["out_norm.alpha"] = mx.ones((1, 1, dim))
    writes = np.zeros((120, dim), np.float32)
    writes[PAD] = 1.0
    writes[EPAD, codes[2, frame - 1]] = 2.0
    tokenizer = moshi_mlx.load_stt(GOLDEN).tokenizer
    (piece,) = tokenizer.encode(WORD)[:1]
    writes[piece, codes[2, frame]] = 2.0
    tensors["text_linear.weight"] = mx.array(writes)
    kept = {name: t for name, t in tensors.items() if not name.startswith("extra_heads")}
    mx.save_safetensors(path, kept)
    return HeardWords(folder, moshi_mlx.load_stt(folder, dtype="float32"), period, frame)
