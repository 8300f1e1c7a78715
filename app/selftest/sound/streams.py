"""What a stream does once it is open: when it calls, at which rate, what it hears."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import AudioError

from ...audio.process.process import SoundProcess
from ...audio.stream import memory as m
from ...audio.stream.portaudio import StreamPlan
from ..part import Deviation, Fallback, Note, NotHereError
from .devices import CHOOSE
from .site import SoundSite

CALL_LIMIT_S = 3.0  # the first callback comes within, or never
SLOWEST_OPENING_S, SLOWEST_END_S = 3.0, 0.5
RATE_OFF, FLAGGED, ZEROS = 0.005, 0.02, 0.5  # shares that are still right
LISTEN_S = 0.05
STOPPED_S = 1.0  # without a callback
HEAR = Fallback("another input, or let this one be heard: muted, lid closed, no permission?")


def called(plan: StreamPlan) -> dict[int, str]:
    """The counts of callbacks that grow when a pair is opened so, and what they are of."""
    if plan.split:
        return {m.CALLBACKS: "the microphone's stream", m.RENDERS: "the loudspeaker's stream"}
    return {m.CALLBACKS: "the stream"}


def first_call_s(process: SoundProcess, plan: StreamPlan) -> float:
    """Wait for the first callback of each stream; how long that took. Raises AudioError: one never
    comes."""
    start_s = time.monotonic()
    for count, what in called(plan).items():
        while not process.memory.get(count):
            if time.monotonic() - start_s > CALL_LIMIT_S or any(
                said in ("gone", "failed") for said, _ in process.messages()
            ):
                raise AudioError(f"{what} opens and is never called")
            time.sleep(0.001)
    return time.monotonic() - start_s


@dataclass(frozen=True)
class Openings:
    """Opened and closed again and again: a talk does that whenever devices change."""

    times: int = 20
    name: str = "opening and closing"
    fallback: Fallback = CHOOSE

    def check(self, site: SoundSite) -> Iterable[Deviation | Note]:
        openings, ends = [], []
        for _ in range(self.times):
            with site.process() as process:
                start_s = time.monotonic()
                first_call_s(process, site.open(process))
                called_s = time.monotonic()
                process.kill()
                openings.append(called_s - start_s)
                ends.append(time.monotonic() - called_s)
        yield Deviation("slowest opening", max(openings), SLOWEST_OPENING_S, "s")
        yield Deviation("slowest end", max(ends), SLOWEST_END_S, "s")
        yield Note(f"until it calls {in_ms(openings)}, until it is closed {in_ms(ends)} ms")


def in_ms(seconds: list[float]) -> str:
    p95 = 1000 * np.percentile(seconds, 95)
    return f"{1000 * np.median(seconds):.0f}, p95 {p95:.0f}"


@dataclass(frozen=True)
class Stream:
    """A stream that runs: its rate by our clock, its callbacks' times, PortAudio's flags."""

    name: str
    split: bool
    seconds: float = 5.0
    fallback: Fallback = CHOOSE

    def check(self, site: SoundSite) -> Iterable[Deviation | Note]:
        with site.process() as process:
            if site.pair(process).split and not self.split:
                raise NotHereError("microphone and loudspeaker have clocks of their own")
            plan = site.open(process, self.split)
            first_call_s(process, plan)
            written, when_s = self._strokes(process, plan)
            get = process.memory.get
            calls, flags = get(m.CALLBACKS), get(m.INPUT_FLAGS) + get(m.OUTPUT_FLAGS)
        rate_hz, apart_s = np.polynomial.Polynomial.fit(when_s, written, 1), np.diff(when_s)
        measured_hz = rate_hz.convert().coef[1]
        yield Deviation("rate", abs(measured_hz / SAMPLE_RATE_HZ - 1), RATE_OFF)
        yield Deviation("calls with a flag", flags / calls, FLAGGED)
        times = f"{1000 * np.mean(apart_s):.1f} ms apart (sd {1000 * np.std(apart_s):.1f})"
        yield Note(f"{measured_hz:.1f} Hz, callbacks {times}, {flags} flags")

    def _strokes(self, process: SoundProcess, plan: StreamPlan) -> tuple[list[int], list[float]]:
        """Samples written and when, of each time that the bell was heard. Raises AudioError."""
        written, when_s, counts = [], [], dict.fromkeys(called(plan), 0)
        now_s = time.monotonic()
        end_s, grew_s = now_s + self.seconds, dict.fromkeys(counts, now_s)
        while (now_s := time.monotonic()) < end_s:
            if process.listen(LISTEN_S):
                written.append(process.ring.written)
                when_s.append(process.ring.last_write_s)
            for count, what in called(plan).items():
                if process.memory.get(count) > counts[count]:
                    counts[count], grew_s[count] = process.memory.get(count), now_s
                elif now_s - grew_s[count] > STOPPED_S:
                    raise AudioError(f"{what} stopped calling")
            if any(said in ("gone", "failed") for said, _ in process.messages()):
                raise AudioError("the device went away")
        if len(written) < 3:
            raise AudioError("the stream stopped calling")
        return written, when_s


@dataclass(frozen=True)
class MicrophoneHears:
    """A microphone that is denied, muted or cut off by the lid gives zeros and no error."""

    seconds: float = 2.0
    name: str = "microphone hears"
    fallback: Fallback = HEAR

    def check(self, site: SoundSite) -> Iterable[Deviation | Note]:
        heard = []
        with site.process() as process:
            first_call_s(process, site.open(process))
            end_s = time.monotonic() + self.seconds
            while time.monotonic() < end_s:
                process.listen(LISTEN_S)
                while (capture := process.ring.take()) is not None:
                    heard.append(capture.mic)
        if not heard:
            raise AudioError("the microphone gave no frame")
        mic = np.concatenate(heard)
        yield Deviation("samples of exactly zero", float(np.mean(mic == 0)), ZEROS)
        level = 20 * np.log10(max(1e-7, float(np.sqrt(np.mean(np.square(mic, dtype=np.float64))))))
        yield Note(f"{level:.0f} dBFS")
