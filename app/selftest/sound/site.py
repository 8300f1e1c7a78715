"""The sound devices under test, and the processes that open them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from moshi_mlx.errors import AudioError

from ...audio.attempts import plans
from ...audio.devices.choice import Pair, Wish, choose
from ...audio.devices.lid import lid_closed
from ...audio.process.process import COMMAND, SoundProcess, ready_devices
from ...audio.stream.portaudio import StreamPlan

OPEN_LIMIT_S = 60.0  # a dialog of the system may be open


@dataclass(frozen=True)
class SoundSite:
    """`command`: what a sound process runs; `permission`: what a process runs that asks for the
    microphone, None where the system asks nobody."""

    wish: Wish
    command: Sequence[str] = COMMAND
    permission: Sequence[str] | None = None
    lid_closed: Callable[[], bool] = lid_closed

    @contextmanager
    def process(self) -> Iterator[SoundProcess]:
        """One that knows its devices and has nothing open. Raises AudioError."""
        process = SoundProcess(self.command)
        try:
            ready_devices(process)
            yield process
        finally:
            process.kill()

    def pair(self, process: SoundProcess) -> Pair:
        """What a talk would use. Raises AudioError."""
        return choose(process.devices, self.wish, lid_closed=self.lid_closed())

    def open(self, process: SoundProcess, split: bool | None = None) -> StreamPlan:
        """Open the pair in the way that a talk tries first; returns that. Raises AudioError.

        `split`: as two streams, or as one; None: as a talk would.
        """
        plan = plans(self.pair(process), self.wish.channel)[0]
        plan = plan if split is None else replace(plan, split=split)
        process.ask("open", plan=asdict(plan), heard=0, since_s=None)
        answer = process.answer("open", OPEN_LIMIT_S)
        if answer is None:
            raise AudioError(f"opening takes longer than {OPEN_LIMIT_S:.0f} s")
        if "error" in answer:
            raise AudioError(answer["error"])
        return plan
