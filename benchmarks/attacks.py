"""What happens to sound on its way: codecs, rates, speeds, rooms, noise, other voices. float [n] at
24 kHz in and out; those with ffmpeg need it in the PATH."""

import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.signal
import soundfile

RATE = 24_000
Attack = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Case:
    """An attack, the window in which it is to be withstood, and how often. `index_too`: whether the
    landmarks are to withstand it as well."""

    name: str
    attack: Attack
    window_s: int
    least: float
    index_too: bool = True


def ffmpeg(ending: str, *options: str) -> Attack:
    """Through an encoder or a filter of ffmpeg's and back."""

    def attack(pcm: np.ndarray) -> np.ndarray:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            plain, coded, back = folder / "a.wav", folder / f"b.{ending}", folder / "c.wav"
            soundfile.write(plain, pcm, RATE, subtype="FLOAT")
            run(plain, *options, coded)
            run(coded, "-ac", "1", "-ar", str(RATE), "-c:a", "pcm_f32le", back)
            return soundfile.read(back, dtype="float32")[0]

    return attack


def run(source: Path, *rest: str | Path) -> None:
    command = ["ffmpeg", "-loglevel", "error", "-y", "-i", source, *rest]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def opus(rate_kbps: int) -> Attack:
    return ffmpeg("opus", "-c:a", "libopus", "-b:a", f"{rate_kbps}k")


def speed(factor: float) -> Attack:
    return ffmpeg("wav", "-filter:a", f"asetrate={round(RATE * factor)},aresample={RATE}")


def tempo(factor: float) -> Attack:
    return ffmpeg("wav", "-filter:a", f"atempo={factor}")


def noise(snr_db: float) -> Attack:
    """White noise against the loudness of what isn't silence."""

    def attack(pcm: np.ndarray) -> np.ndarray:
        power = np.mean(pcm[abs(pcm) > 1e-4] ** 2)
        added = np.random.default_rng(7).standard_normal(len(pcm))
        return pcm + added * np.sqrt(power * 10 ** (-snr_db / 10))

    return attack


def room(rt60_s: float) -> Attack:
    """A direct path and as much energy again that decays by 60 dB in rt60_s, heard by a small
    microphone (200 Hz to 7 kHz)."""
    samples = int(rt60_s * RATE)
    tail = np.random.default_rng(8).standard_normal(samples)
    tail *= 10 ** (-3 * np.arange(samples) / samples)
    tail /= np.sqrt(np.sum(tail**2))
    tail[0] += 1
    band = scipy.signal.butter(2, [200, 7000], "bandpass", fs=RATE, output="sos")

    def attack(pcm: np.ndarray) -> np.ndarray:
        heard = scipy.signal.fftconvolve(pcm, tail)[: len(pcm)]
        return np.asarray(scipy.signal.sosfilt(band, heard * np.std(pcm) / np.std(heard)))

    return attack


def voice_on_top(other: np.ndarray) -> Attack:
    """Another, unmarked voice as loud as this one, mixed in."""

    def attack(pcm: np.ndarray) -> np.ndarray:
        over = np.resize(other, len(pcm))
        return pcm + over * np.std(pcm) / np.std(over)

    return attack


def chain(*attacks: Attack) -> Attack:
    def attack(pcm: np.ndarray) -> np.ndarray:
        for one in attacks:
            pcm = one(pcm)
        return pcm

    return attack


def softer(pcm: np.ndarray) -> np.ndarray:
    """By 30 dB, in 16 bit."""
    return np.round(pcm * 10**-1.5 * 32767) / 32767


def cases(other: np.ndarray) -> list[Case]:
    """All of the table; `other`: the voice on top."""
    ulaw = ffmpeg("wav", "-ar", "8000", "-c:a", "pcm_mulaw")
    return [
        Case("nothing", lambda pcm: pcm, 10, 0.99),
        Case("16 kHz", ffmpeg("wav", "-ar", "16000"), 10, 0.99),
        Case("MP3 64k", ffmpeg("mp3", "-b:a", "64k"), 10, 0.99),
        Case("AAC 48k", ffmpeg("m4a", "-c:a", "aac", "-b:a", "48k"), 10, 0.99),
        Case("Opus 32k", opus(32), 10, 0.99),
        Case("Opus 24k", opus(24), 10, 0.99),
        Case("Opus 16k", opus(16), 10, 0.99),
        Case("30 dB softer", softer, 10, 0.99),
        Case("tempo 0.99", tempo(0.99), 10, 0.99),
        Case("tempo 1.01", tempo(1.01), 10, 0.99),
        Case("speed 0.99", speed(0.99), 10, 0.99),
        Case("speed 1.01", speed(1.01), 10, 0.99),
        Case("room 0.3 s, noise 20 dB", chain(room(0.3), noise(20)), 10, 0.99, False),
        Case("Opus 12k", opus(12), 10, 0.97),
        Case("8 kHz", ffmpeg("wav", "-ar", "8000"), 10, 0.97),
        Case("G.711", ulaw, 10, 0.97),
        Case("noise 20 dB", noise(20), 10, 0.97),
        Case("another voice, 0 dB", voice_on_top(other), 10, 0.97),
        Case("noise 10 dB", noise(10), 30, 0.97),
        Case("Opus 8k", opus(8), 30, 0.97),
        Case("room 0.4 s, noise 15 dB, Opus 24k", chain(room(0.4), noise(15), opus(24)), 30, 0.97,
             False),
    ]  # fmt: skip
