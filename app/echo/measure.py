"""What an echo test finds: delay and level of the echo, and what each canceller leaves of it."""

from dataclasses import dataclass

import numpy as np

from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import AudioError, MoshiError, with_extra

from .choice import canceller

SEARCH_S = 1.0  # the longest delay that is looked for
HEARD = 0.1  # correlation with the far end that counts as an echo
SETTLED_S = 3.0  # a canceller's first seconds aren't judged
GOOD_DB = 15.0  # Moshi was trained with echo of its own voice up to about -14 dB
BETTER_DB = 6.0  # how much more WebRTC must take, for what it costs the user's voice


@dataclass(frozen=True)
class Found:
    """delay_ms: from far end to near end; level_db: echo against the far end; erle_db: by mode."""

    delay_ms: float
    level_db: float
    correlation: float
    erle_db: dict[str, float]

    @property
    def echo(self) -> bool:
        return self.correlation >= HEARD


def measure(near_end: np.ndarray, far_end: np.ndarray) -> Found:
    """Paired float32 [n] each, nobody speaking. Raises AudioError for a dead input."""
    if not near_end.any():
        raise AudioError(
            "the microphone gave only zeros: is it muted, or not allowed for this terminal?"
        )
    delay, correlation = delay_of(near_end, far_end)
    level_db = decibels(near_end) - decibels(far_end)
    erle = {}
    if correlation >= HEARD:
        for mode in ("linear", "webrtc", "both"):
            try:
                left = canceller(mode).process(near_end, far_end)
            except MoshiError:  # the extra isn't installed
                continue
            start = round(SETTLED_S * SAMPLE_RATE_HZ)
            erle[mode] = decibels(near_end[start:]) - decibels(left[start:])
    return Found(1000 * delay / SAMPLE_RATE_HZ, level_db, correlation, erle)


def delay_of(near_end: np.ndarray, far_end: np.ndarray) -> tuple[int, float]:
    """Samples by which near_end follows far_end, and their correlation there (0 to 1)."""
    n = 1 << (len(near_end) + len(far_end)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(near_end, n) * np.conj(np.fft.rfft(far_end, n)), n)
    cross = np.abs(cross[: round(SEARCH_S * SAMPLE_RATE_HZ)])
    delay = int(np.argmax(cross))
    norm = float(np.linalg.norm(near_end) * np.linalg.norm(far_end))
    return delay, float(cross[delay]) / norm if norm else 0.0


def decibels(pcm: np.ndarray) -> float:
    return 10.0 * float(np.log10(np.mean(np.square(pcm, dtype=np.float64)) + 1e-12))


def advice(found: Found) -> str:
    """One line: what to choose, and why."""
    if not found.echo:
        return "no echo is heard (headphones, or the speaker is off): --echo off will do"
    linear = found.erle_db["linear"]
    others = {mode: db for mode, db in found.erle_db.items() if mode != "linear"}
    best = max(others, key=lambda mode: others[mode], default="")
    if linear >= GOOD_DB or (best and others[best] < linear + BETTER_DB):
        return "choose --echo linear (what auto takes): it leaves your voice as it is"
    if best:
        return f"choose --echo {best}: the linear canceller is too weak in this room"
    return (
        f"the linear canceller is weak in this room; {with_extra('webrtc')} and try "
        "--echo webrtc, or use headphones"
    )
