"""Rooms, microphones and noise: a `Scene` says how a user's voice reaches the model."""

from dataclasses import dataclass

import numpy as np
from engines import SAMPLE_RATE_HZ
from scipy.signal import fftconvolve, lfilter

NOISE_KINDS = ("white", "pink", "brown", "hum", "fan")
QUIET_DB = -120.0


@dataclass(frozen=True)
class Scene:
    """Levels in dB of full scale: `peak_db` of the voice, `noise_db` RMS of the noise (QUIET_DB: none)."""

    peak_db: float = -6.0
    noise_db: float = QUIET_DB
    noise_kind: str = "white"
    reverb_s: float = 0.0
    tilt: float = 0.0

    @staticmethod
    def draw(rng: np.random.Generator) -> "Scene":
        """A third clean, a third quiet, noise never closer to the voice's peak than 18 dB."""
        peak_db = rng.uniform(-14, -1) if rng.random() < 0.62 else rng.uniform(-36, -12)
        noise_db = QUIET_DB
        if rng.random() < 0.65:
            noise_db = min(rng.uniform(-80, -34), peak_db - 18)
        reverb_s = rng.uniform(0.08, 0.45) if rng.random() < 0.35 else 0.0
        tilt = rng.uniform(-0.5, 0.5) if rng.random() < 0.5 else 0.0
        return Scene(
            float(peak_db),
            float(noise_db),
            str(rng.choice(NOISE_KINDS)),
            float(reverb_s),
            float(tilt),
        )


def amplitude(db: float) -> float:
    return 10.0 ** (db / 20.0)


def noise(count: int, kind: str, db: float, rng: np.random.Generator) -> np.ndarray:
    """float32 [count] of stationary noise with an RMS of `db`."""
    if db <= QUIET_DB:
        return np.zeros(count, np.float32)
    size = max(count, 4096)
    if kind == "hum":
        t = np.arange(size) / SAMPLE_RATE_HZ
        base = rng.choice([50.0, 60.0, 100.0, 120.0])
        x = sum(np.sin(2 * np.pi * base * k * t + rng.uniform(0, 6)) / k for k in range(1, 6))
        x = x + 0.1 * rng.standard_normal(size)
    else:
        x = rng.standard_normal(size)
        if kind != "white":
            spectrum = np.fft.rfft(x)
            f = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ), 30.0)
            power = {"pink": 0.5, "brown": 1.0, "fan": 0.5}[kind]
            shape = f**-power
            if kind == "fan":
                shape *= 1 + 4 * np.exp(-(((f - rng.uniform(100, 900)) / 60) ** 2))
            x = np.fft.irfft(spectrum * shape, size)
    x = x[:count]
    return (x * (amplitude(db) / max(1e-9, np.sqrt(np.mean(x**2))))).astype(np.float32)


def room(pcm: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """The voice with the scene's tilt and reverberation, as long as before, its peak at 1."""
    if scene.tilt:
        pcm = lfilter([1.0, -scene.tilt], [1.0], pcm)
    if scene.reverb_s:
        count = int(scene.reverb_s * SAMPLE_RATE_HZ)
        t = np.arange(count) / SAMPLE_RATE_HZ
        tail = rng.standard_normal(count) * np.exp(-6.9 * t / scene.reverb_s)
        tail[: int(rng.uniform(0.002, 0.02) * SAMPLE_RATE_HZ)] = 0
        tail *= rng.uniform(0.2, 0.8) / max(1e-9, np.sqrt(np.sum(tail**2)))
        tail[0] = 1.0
        pcm = fftconvolve(pcm, tail)[: len(pcm)]
    return (pcm / max(1e-6, np.abs(pcm).max())).astype(np.float32)


def heard(pcm: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """What the microphone delivers for a voice track (silence where nobody speaks)."""
    out = (
        room(pcm, scene, rng) * amplitude(scene.peak_db)
        if np.abs(pcm).max() > 0
        else np.zeros_like(pcm)
    )
    return np.clip(out + noise(len(pcm), scene.noise_kind, scene.noise_db, rng), -1, 1).astype(
        np.float32
    )
