"""Mimi's clock. Every duration in the project is derived from these numbers."""

SAMPLE_RATE_HZ = 24_000
FRAME_SAMPLES = 1_920  # one Mimi frame
FRAME_SECONDS = FRAME_SAMPLES / SAMPLE_RATE_HZ  # 0.08 s, so 12.5 frames per second
FRAME_MS = 1000 * FRAME_SECONDS


def frames_in(seconds: float) -> int:
    """Whole frames that fit in `seconds`."""
    return int(seconds * SAMPLE_RATE_HZ + 0.5) // FRAME_SAMPLES
