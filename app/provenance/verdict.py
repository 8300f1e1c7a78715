"""All that is known of one file, and what that means in a plain sentence."""

from dataclasses import asdict, dataclass, field
from math import log10
from pathlib import Path
from typing import Any

from .examine import PUBLIC, Marks, Stretch
from .index import Match

SIDES = ("left", "right")


@dataclass(frozen=True)
class MarkVerdict:
    """Of one file. `credentials`: as `manifest_reader` tells; `matches`: in the index."""

    path: Path
    marks: Marks
    credentials: dict[str, Any] = field(default_factory=lambda: {"state": "none"})
    matches: list[Match] = field(default_factory=list)

    @property
    def signed(self) -> bool:
        """Whether unchanged credentials of ours are in it."""
        ours = bool(self.credentials.get("generation"))
        return ours and self.credentials["state"] in ("Valid", "Trusted")

    @property
    def found(self) -> bool:
        return bool(self.marks.found) or self.signed or any(m.sure for m in self.matches)

    def sentence(self) -> str:
        """The answer first, what it rests on after it."""
        if not self.found:
            return (
                "No sign of moshi-local was found. That doesn't show that a person speaks: marks "
                "can be removed, and other programs make none."
            )
        reasons = []
        if self.marks.found:
            reasons.append(self._mark_reason())
        if self.signed:
            reasons.append(self._signature_reason())
        if any(match.sure for match in self.matches):
            first = next(match for match in self.matches if match.sure)
            reasons.append(
                f"this machine said it in talk {first.talk}, from {first.talk_s:.0f} s on"
            )
        return f"Made by moshi-local: {'; '.join(reasons)}."

    def _mark_reason(self) -> str:
        found = self.marks.found
        least = min(stretch.false_alarm for stretch in found)
        where = sorted({stretch.channel for stretch in found})
        sides = " and ".join(channel_name(channel, self.marks.channels) for channel in where)
        return (
            f"its mark is in {seconds_of(found):.0f} of {self.marks.seconds:.0f} s ({sides}), by "
            f"chance in one file of {one_in(least)}"
        )

    def _signature_reason(self) -> str:
        if self.credentials["state"] == "Trusted":
            return "signed with this machine's own key, and unchanged since"
        return (
            f"signed by {self.credentials['signed_by'] or 'somebody'}, a name that anybody can "
            "choose, and unchanged since"
        )

    def as_json(self) -> dict[str, Any]:
        marks = asdict(self.marks)
        for name in ("windows", "together"):
            for row, stretch in zip(marks[name], getattr(self.marks, name), strict=True):
                row |= {"found": stretch.found, "what": describe(stretch)}
        return {
            "file": str(self.path),
            "found": self.found,
            "sentence": self.sentence(),
            **marks,
            "credentials": self.credentials,
            "signature": describe_credentials(self.credentials),
            "index": [
                asdict(match) | {"sure": match.sure, "line": match.line()} for match in self.matches
            ],
        }

    def shown(self) -> list[Stretch]:
        """All windows, and stretches of several where only these show the mark."""
        found = self.marks.found
        return self.marks.windows + [s for s in self.marks.together if s in found]

    def lines(self) -> list[str]:
        """The report after the sentence."""
        told = [
            f"  {channel_name(s.channel, self.marks.channels):<9} {s.start_s:7.1f} to "
            f"{s.start_s + s.seconds:7.1f} s  z {s.z:5.1f}  {describe(s)}"
            for s in self.shown()
        ]
        told.append(f"  signature: {describe_credentials(self.credentials)}")
        if self.marks.comment:
            told.append(f"  the file says: {self.marks.comment}")
        told += [f"  index: {match.line()}" for match in self.matches]
        return told


def seconds_of(stretches: list[Stretch]) -> float:
    """Time in which any channel is marked."""
    spans = {(stretch.start_s, stretch.seconds) for stretch in stretches}
    return sum(seconds for _, seconds in spans)


def one_in(chance: float) -> str:
    """1e-9 -> "1,000,000,000"; from there on in powers of ten."""
    exponent = int(-log10(max(chance, 1e-300)) + 1e-9)
    return f"{10**exponent:,}" if exponent <= 12 else f"10^{exponent}"


def channel_name(channel: int, channels: int) -> str:
    if channels == 1:
        return "mono"
    return SIDES[channel] if channels == 2 else f"channel {channel + 1}"


def describe(stretch: Stretch) -> str:
    if not stretch.found:
        return "-"
    payload = "" if stretch.payload is None else f", payload {stretch.payload}"
    key = "" if stretch.key == PUBLIC else f", key {stretch.key}"
    speed = "" if abs(stretch.speed - 1) < 0.004 else f", speed {stretch.speed:.3f}"
    return f"marked (false alarm below {stretch.false_alarm:.0e}{payload}{key}{speed})"


def describe_credentials(told: dict[str, Any]) -> str:
    state = told["state"]
    if state == "none":
        return "none"
    if state == "unknown":
        return told["why"]
    problems = ", ".join(told.get("problems", []))
    if state == "unreadable":
        return f"can't be read ({problems})"
    if state == "Invalid":
        return f"broken: the file was changed after it was signed ({problems})"
    facts = ", ".join(f"{name} {value}" for name, value in told.get("generation", {}).items())
    whose = "this machine's own key" if state == "Trusted" else told.get("signed_by")
    return f"{whose}, unchanged; {facts or ', '.join(told.get('source_types', []))}"
