"""What is said of a talk once it is over, on a screen and without one."""

from moshi_mlx.clock import FRAME_SECONDS

from .chat import Snapshot


def clock(seconds: float) -> str:
    """0:42, 12:03 or 1:02:03."""
    whole = int(seconds)
    hours, minutes = whole // 3600, f"{whole // 60 % 60}:{whole % 60:02}"
    return f"{hours}:{minutes:0>5}" if hours else minutes


def counted_frames(frames: float) -> str:
    """At least one: "5 frames (0.4 s)"."""
    whole = max(1, round(frames))
    return f"{whole} frame{'s' * (whole > 1)} ({whole * FRAME_SECONDS:.1f} s)"


def ending(snapshot: Snapshot) -> list[str]:
    """How long the last conversation was, and what a slow machine did to it; [] for none."""
    talk, waited = snapshot.talk, snapshot.sound.waited_s / FRAME_SECONDS
    if not talk.frames:
        return []
    lines = [f"{clock(talk.frames * FRAME_SECONDS)} of talk, seed {talk.seed}"]
    if talk.dropped_frames:
        lost = counted_frames(talk.dropped_frames)
        lines.append(f"too slow: {lost} dropped of what you said; `moshi doctor` says what to do")
    if waited >= 1:
        would = counted_frames(waited)
        lines.append(f"too slow: a talk would have dropped {would} here; the recording waited")
    return lines
