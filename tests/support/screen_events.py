"""A talk's figures and word events, for the tests of the screen."""

from app.events import FrameDone, Status

TALKING = Status(
    state="talking",
    model="kyutai/moshiko-mlx-q4",
    recipe="q4",
    conversation=1,
    seed=42,
    frames=525,
    step_ms_p50=48.4,
    step_ms_p95=55.1,
    lag_ms=122.0,
    buffer_ms=31.0,
    user_level_db=-30.0,
    moshi_level_db=-12.0,
    memory_bytes=6_400_000_000,
)


def word(index: int, text: str) -> FrameDone:
    return FrameDone(1, index, None, None, text, 9, 40.0, 1.0, 100.0, 0.0, 0)  # type: ignore


def sentence(index: int, text: str) -> list[FrameDone]:
    """Word pieces from frame `index` on, three frames each."""
    return [word(index + 3 * i, f" {piece}") for i, piece in enumerate(text.split())]
