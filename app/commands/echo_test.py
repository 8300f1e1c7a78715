"""Play a chirp and speech, and tell how well Moshi's echo can be taken out of the microphone."""

import argparse
import json
import sys
import time
from dataclasses import asdict
from typing import Any

import numpy as np

from moshi_mlx.audio.file import read_mono
from moshi_mlx.clock import FRAME_SAMPLES, SAMPLE_RATE_HZ
from moshi_mlx.errors import AudioError, printable
from moshi_mlx.hub import NANO

from ..audio.sound import Sound, SoundState
from ..audio.stream.port import EndOfInput
from ..echo.measure import Found, advice, measure
from ..options.model import add_json_option
from .devices import add_device_options, checked_channel

SPEECH = ("who_made_you", "sing_for_me", "say_the_days_of_the_week", "what_is_your_hobby")
CHIRP_S, CHIRP_HZ, LOUDNESS = 1.0, (200.0, 8000.0), 0.3
BEGIN_S = 120.0  # without a sample from which on all is whole: the system may be asking somebody
STALLED = "the sound device gives no samples: see `moshi devices`"
STALL_S = 3.0  # without a sample after that


def configure(parser: argparse.ArgumentParser) -> None:
    add_device_options(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    from ..audio.device_sound import DeviceSound

    sound = DeviceSound(args.input, args.output, checked_channel(args.input_channel))
    sound.subscribe(lambda notice: print(printable(notice.message), file=sys.stderr))
    print("Please be quiet for ten seconds.", file=sys.stderr)
    try:
        sound.start()
        mic, played = exchange(sound, stimulus())
        names = sound.state()
    finally:
        sound.stop()
    found = measure(mic, played)
    if args.json:
        print(json.dumps(document(found, names)))
        return 0
    print(printable(f"{names.output_name} -> {names.input_name}"))
    for line in report(found):
        print(line)
    return 0


PAUSE_SAMPLES = (13_000, 21_600)  # around each sentence: time to hear the echo die away


def stimulus() -> np.ndarray:
    """A chirp, then spoken sentences and half a second of silence: float32 [frames * 1920]."""
    t = np.arange(round(CHIRP_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    low, high = CHIRP_HZ
    rate = np.log(high / low) / CHIRP_S
    chirp = np.sin(2 * np.pi * low * (np.exp(rate * t) - 1) / rate) * np.hanning(len(t)) ** 0.25
    speech = [read_mono(NANO / "samples" / f"{name}.wav") for name in SPEECH]
    parts = [chirp] + [np.pad(part, PAUSE_SAMPLES) for part in speech]
    parts = [LOUDNESS * part / max(1e-6, float(np.abs(part).max())) for part in parts]
    joined = np.concatenate([*parts, np.zeros(SAMPLE_RATE_HZ // 2)]).astype(np.float32)
    return np.pad(joined, (0, -len(joined) % FRAME_SAMPLES))


def exchange(
    sound: Sound, said: np.ndarray, begin_s: float = BEGIN_S
) -> tuple[np.ndarray, np.ndarray]:
    """Play `said`; what the microphone heard and what was played, paired, float32 [n] each.

    From the beginning again where the device was lost meanwhile, or the system asks whether it may
    be used. Raises AudioError when the device stops giving samples, or gives none for `begin_s`.
    """
    captures, frames = [], list(said.reshape(-1, FRAME_SAMPLES))
    left, frames_left, last_s = 0, iter(frames), time.monotonic()
    while not captures or left > 0:
        try:
            capture = sound.read(0.2)
        except EndOfInput:
            raise AudioError(sound.problem() or STALLED) from None
        state = sound.state()
        waits = state.lost or state.asked
        if capture is None or waits:
            captures = [] if waits else captures
            if time.monotonic() - last_s > (begin_s if not captures else STALL_S):
                raise AudioError(STALLED)
            continue
        if not captures:
            sound.flush()
            left, frames_left = len(said) + SAMPLE_RATE_HZ // 2, iter(frames)
        last_s = time.monotonic()
        captures.append(capture)
        left -= len(capture.mic)
        frame = next(frames_left, None)
        if frame is not None:
            sound.play(frame)
    mic, played = (np.concatenate([getattr(c, n) for c in captures]) for n in ("mic", "played"))
    return mic, played


def document(found: Found, names: SoundState) -> dict[str, Any]:
    return {
        "input": names.input_name,
        "output": names.output_name,
        "echo": found.echo,
        **asdict(found),
        "advice": advice(found),
    }


def report(found: Found) -> list[str]:
    lines = []
    if found.echo:
        lines.append(
            f"echo: after {found.delay_ms:.0f} ms, {found.level_db:+.0f} dB against what was played"
        )
        lines += [f"{mode:<7} takes {db:4.1f} dB of it" for mode, db in found.erle_db.items()]
    return [*lines, advice(found)]
