"""How much of its speed a Mac may use just now: power mode, battery, heat. Text in, facts out."""

import re
from dataclasses import dataclass

MODES = {0: "automatic", 1: "low", 2: "high"}  # pmset's powermode
THERMAL = ("nominal", "fair", "serious", "critical")  # NSProcessInfoThermalState
LOW_BATTERY_PERCENT = 10


@dataclass(frozen=True)
class Power:
    """None: could not be found out, or there is no such thing here."""

    low_power_mode: bool | None = None
    mode: str | None = None  # "automatic", "low" or "high"
    source: str | None = None  # "battery" or "mains"
    battery_percent: int | None = None
    thermal: str | None = None

    @property
    def saves(self) -> bool:
        return bool(self.low_power_mode) or self.mode == "low"

    @property
    def hot(self) -> bool:
        return self.thermal in ("serious", "critical")

    def __str__(self) -> str:
        parts = []
        if self.source is not None:
            percent = "" if self.battery_percent is None else f" {self.battery_percent} %"
            parts.append("on mains" if self.source == "mains" else f"on battery{percent}")
        if self.saves:
            parts.append("Low Power Mode")
        elif self.mode == "high":
            parts.append("High Power Mode")
        if self.thermal is not None:
            parts.append(f"thermal state {self.thermal}")
        return ", ".join(parts)


def brakes(power: Power) -> list[str]:
    """What slows this Mac down, each with what to do about it."""
    lines = []
    if power.saves:
        lines.append("Low Power Mode is on: switch it off in System Settings > Battery")
    if power.hot:
        lines.append("the Mac is hot and slows itself down: let it cool, close other programs")
    percent = power.battery_percent
    if power.source == "battery" and percent is not None and percent <= LOW_BATTERY_PERCENT:
        lines.append(f"the battery is at {percent} %: connect the charger")
    return lines


def parse_pmset(settings: str, battery: str) -> Power:
    """What `pmset -g` and `pmset -g batt` print."""
    saves = re.search(r"^\s*lowpowermode\s+([01])", settings, re.MULTILINE)
    mode = re.search(r"^\s*powermode\s+([012])", settings, re.MULTILINE)
    source = re.search(r"Now drawing from '(Battery|AC) Power'", battery)
    percent = re.search(r"InternalBattery.*?(\d+)%", battery)
    return Power(
        low_power_mode=saves[1] == "1" if saves else None,
        mode=MODES[int(mode[1])] if mode else None,
        source={"Battery": "battery", "AC": "mains"}[source[1]] if source else None,
        battery_percent=int(percent[1]) if percent else None,
    )
