"""What a part of the self-test is, and what it finds."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .site import Site

OK, OFF, FAILED, NOT_HERE = "ok", "off", "failed", "not here"
SPEED, PAUSES = "speed", "after a pause"  # they compute nothing
RESIDUAL_NORM = "residual and norm"


@dataclass(frozen=True)
class Deviation:
    """How far something is from what it should be: `allowed` is still right.

    unit: of both; "": relative to the largest number.
    """

    what: str
    off: float
    allowed: float
    unit: str = ""

    @property
    def ok(self) -> bool:
        return math.isfinite(self.off) and self.off <= self.allowed

    @property
    def share(self) -> float:
        """Of what is allowed; more than 1 is wrong."""
        if not math.isfinite(self.off):
            return math.inf
        if self.allowed:
            return self.off / self.allowed
        return math.inf if self.off else 0.0


@dataclass(frozen=True)
class Note:
    """A figure that is neither right nor wrong."""

    text: str


@dataclass(frozen=True)
class FasterWay:
    """A way of computing that is equal here and faster, and is taken from now on."""

    name: str


class NotHereError(Exception):
    """Raised by a part that this machine has nothing for; the message says why."""


@dataclass(frozen=True)
class Fallback:
    """What to take instead of a part that computes wrong: an option of `moshi chat`, or advice."""

    advice: str
    option: str = ""  # of the command line
    value: str | int | bool = ""


RUST = Fallback("--codec rust", "codec", "rust")
KV_16 = Fallback("--kv-bits 16", "kv_bits", 16)
UNCOMPILED = Fallback("--uncompiled", "uncompiled", True)
OTHER_RECIPE = Fallback("a model of another recipe (--bits)")
NONE = Fallback("none: please report it, with `moshi selftest --json`")


class Part(Protocol):
    """One line of the table. Faults are handed in as parameters of the object that has the part."""

    @property
    def name(self) -> str: ...

    @property
    def fallback(self) -> Fallback: ...

    def check(self, site: "Site") -> Iterable[Deviation | Note | FasterWay]:
        """What it found, one by one. Raises NotHereError; anything else raised is a fault."""
        ...


@dataclass(frozen=True)
class PartResult:
    """A part that was run. `worst`: the deviation that is nearest to what is allowed, or beyond."""

    name: str
    status: str
    seconds: float
    worst: Deviation | None = None
    why: str = ""  # it failed, or isn't here
    notes: tuple[str, ...] = ()
    fallback: Fallback = NONE
    gains: tuple[str, ...] = ()

    @property
    def wrong(self) -> bool:
        return self.status in (OFF, FAILED)
