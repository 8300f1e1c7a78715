"""What a talk needs of its sound: a Port with a device behind it, real or virtual."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..events import Notice
from .devices.device import Device
from .stream.port import Port


@dataclass(frozen=True)
class SoundState:
    """What the sound side is doing."""

    input_name: str = ""
    output_name: str = ""
    lost: bool = False  # no device now; it is being looked for
    headphones: bool = False
    reopened: int = 0  # times a device was lost and opened again
    input_xruns: int = 0  # callbacks before which input was lost
    output_xruns: int = 0  # and for which output came too late
    chosen: tuple[str | None, str | None] = (None, None)  # input, output; None: the system's
    asked: bool = False  # the system asks somebody whether the microphone may be used
    waited_s: float = 0.0  # what a microphone that can wait has waited for the model

    @property
    def xruns(self) -> int:
        return self.input_xruns + self.output_xruns


class Sound(Port, Protocol):
    """A port with a device behind it, real or virtual."""

    def subscribe(self, listener: Callable[[Notice], None]) -> None:
        """Whom to tell; call before `start`. Called on any thread, must return at once."""
        ...

    def start(self) -> None:
        """Open the device. Raises AudioError when there is none."""
        ...

    def stop(self) -> None: ...

    def state(self) -> SoundState: ...

    def devices(self) -> Sequence[Device]: ...

    def choose(self, input_name: str | None, output_name: str | None) -> None: ...

    def problem(self) -> str | None:
        """One line once the device has failed for good."""
        ...
