"""The parts of `moshi selftest --audio`, in their order: later ones build on those above."""

import signal
import sys
from collections.abc import Callable, Sequence

from ...audio.devices.choice import Wish
from ...audio.permission import COMMAND
from ..examine import examined
from ..part import PartResult
from .deaths import Death
from .devices import Devices, Permission
from .site import SoundSite
from .streams import MicrophoneHears, Openings, Stream

SoundPart = Permission | Devices | Openings | Stream | MicrophoneHears | Death


def sound_parts() -> list[SoundPart]:
    return [
        Permission(),
        Devices(),
        Openings(),
        Stream("one stream", split=False),
        Stream("two streams", split=True),
        MicrophoneHears(),
        Death("sound process ends", signal.SIGKILL),
        Death("sound process freezes", signal.SIGSTOP),
    ]


def site_here(wish: Wish) -> SoundSite:
    return SoundSite(wish, permission=COMMAND if sys.platform == "darwin" else None)


def run_sound_parts(
    parts: Sequence[SoundPart],
    site: SoundSite,
    tell_begin: Callable[[str], None],
    tell_result: Callable[[PartResult], None],
) -> list[PartResult]:
    """In this process: whatever may hang or die has one of its own already."""
    results = []
    for part in parts:
        tell_begin(part.name)
        results.append(examined(part.name, part.fallback, lambda part=part: part.check(site)))
        tell_result(results[-1])
    return results
