"""A talk's sound without a device."""

from app.audio.sound import SoundState
from app.audio.stream.port import QueuePort


class QueueSound(QueuePort):
    """A Sound that the test speaks into."""

    def __init__(self) -> None:
        super().__init__(lambda pcm: None)

    def subscribe(self, listener) -> None:
        pass

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def state(self) -> SoundState:
        return SoundState()

    def problem(self) -> str | None:
        return None
