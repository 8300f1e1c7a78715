"""Random batches for the codec: users in scenes, Moshi's own voice, noise; with phone and pitch labels."""

from dataclasses import dataclass
from pathlib import Path

import corpus
import numpy as np
import pyworld
from augment import Scene, amplitude, heard, noise
from engines import SAMPLE_RATE_HZ
from phones import grid_labels

FRAME_SAMPLES = 1920
HALF_S = 0.04  # two labels a frame: the 40 ms before its middle and after, one half late (the encoder is causal)
OWN_PEAK = 0.5
LEVEL_POWER = (
    0.35  # how much of the user's level the decoder gives back: the codec levels the user's voice
)


@dataclass
class Batch:
    heard: np.ndarray  # float32 [B, samples]
    target: np.ndarray  # float32 [B, samples], without noise and room
    phones: np.ndarray  # int64 [B, frames * 2]
    pitch: np.ndarray  # float32 [B, frames * 2], log2(F0 / 100 Hz); nan: unknown, -9: unvoiced
    own: np.ndarray  # bool [B]


def pitch_track(pcm: np.ndarray) -> np.ndarray:
    """F0 in Hz every 5 ms, 0 where unvoiced."""
    x = pcm.astype(np.float64)
    f0, times = pyworld.dio(x, SAMPLE_RATE_HZ, f0_floor=60, f0_ceil=400)
    return pyworld.stonemask(x, f0, times, SAMPLE_RATE_HZ)


def pitch_labels(f0: np.ndarray, count: int, start_s: float) -> np.ndarray:
    """5 ms track beginning at start_s -> [count] half-frame labels."""
    out = np.full(count, -9.0, np.float32)
    for index in range(count):
        a = round(((index - 1) * HALF_S - start_s) / 0.005)
        voiced = [v for v in f0[max(0, a) : max(0, a + 8)] if v > 0]
        if len(voiced) >= 3:
            out[index] = np.log2(np.mean(voiced) / 100.0)
    return out


class CodecData:
    """Holds the corpus in memory; `batch` draws from it."""

    def __init__(self, folder: Path, seed: int) -> None:
        parts = [corpus.load(p) for p in sorted(folder.glob("users.*.npz"))]
        self.users = [u for waves, _ in parts for u in waves]
        self.user_meta = [m for _, meta in parts for m in meta]
        self.own, self.own_meta = corpus.load(folder / "own.npz")
        self.own_pitch = [pitch_track(u / 32767.0) for u in self.own]
        self.rng = np.random.default_rng(seed)

    def example(self, frames: int, own_share: float) -> tuple:
        """One segment: heard, target, phones, pitch, is it Moshi."""
        rng, count = self.rng, frames * FRAME_SAMPLES
        voice = np.zeros(count, np.float32)
        roll = rng.random()
        if roll > 0.96:
            scene = Scene.draw(rng)
            level = rng.uniform(-80, -33)
            sound = noise(count, scene.noise_kind, level, rng)
            return (
                sound,
                voice,
                np.zeros(frames * 2, np.int64),
                np.full(frames * 2, np.nan, np.float32),
                False,
            )
        own = roll < own_share
        waves, metas = (self.own, self.own_meta) if own else (self.users, self.user_meta)
        pick = int(rng.integers(len(waves)))
        wave, meta = waves[pick] / 32767.0, metas[pick]
        low, high = min(0, count - len(wave)), max(0, count - len(wave))
        start = int(rng.integers(low, high + 1))
        a, b = max(0, start), min(count, start + len(wave))
        voice[a:b] = wave[a - start : b - start]
        shifted = meta["phones"] + np.float32([0, 1, 1]) * (start / SAMPLE_RATE_HZ)
        phones = grid_labels(shifted, frames * 2, HALF_S, -HALF_S)
        if own:
            pitch = pitch_labels(self.own_pitch[pick], frames * 2, start / SAMPLE_RATE_HZ)
            return voice, voice, phones, pitch, True
        scene = Scene.draw(rng)
        peak = max(1e-4, np.abs(voice).max())
        target = voice / peak * OWN_PEAK * (amplitude(scene.peak_db) / OWN_PEAK) ** LEVEL_POWER
        return (
            heard(voice, scene, rng),
            target,
            phones,
            np.full(frames * 2, np.nan, np.float32),
            False,
        )

    def batch(self, size: int, frames: int, own_share: float) -> Batch:
        """Moshi's voice is in the first three tenths of the batch only (the part that is decoded)."""
        decoded = max(1, size * 3 // 10)
        shares = [own_share] * decoded + [0.0] * (size - decoded)
        columns = zip(*[self.example(frames, share) for share in shares], strict=True)
        return Batch(*[np.stack(c) for c in columns])
