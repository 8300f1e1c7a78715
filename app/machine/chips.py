"""Memory bandwidth of Apple's chips, as Apple states it: the floor under every frame.

A frame reads all weights once, so bytes / bandwidth is the time no software can beat. The figures
are Apple's peaks; programs reach 70 to 90 % of them.

Sources: the "Tech Specs" pages on support.apple.com (111902 M1 Pro and Max, 111900 M1 Ultra,
111340 M2 Pro and Max, 111835 M2 Ultra, 117736 M3 family, 122211 M3 Ultra and M4 Max, 121553 M4
family, 126318 M5), apple.com/macbook-pro/specs (M5 Pro and Max), apple.com/macbook-neo (A18 Pro),
apple.com/mac-mini/specs (M6), apple.com/mac-studio/specs (M5 Ultra), all read through second-hand
copies in November 2026. Apple rounds: it says 100 GB/s for an M2 whose memory does 102.4.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class ChipVariant:
    """One row: it applies up to these sizes (None: any), rows of a chip go from small to large."""

    name: str
    bandwidth_gb_s: float
    max_gpu_cores: int | None = None
    max_memory_gb: int | None = None


CHIPS: tuple[ChipVariant, ...] = (
    ChipVariant("A18 Pro", 60),
    ChipVariant("M1", 68.25),
    ChipVariant("M1 Pro", 200),
    ChipVariant("M1 Max", 400),
    ChipVariant("M1 Ultra", 800),
    ChipVariant("M2", 100),
    ChipVariant("M2 Pro", 200),
    ChipVariant("M2 Max", 400),
    ChipVariant("M2 Ultra", 800),
    ChipVariant("M3", 100),
    ChipVariant("M3 Pro", 150),
    ChipVariant("M3 Max", 300, max_gpu_cores=30),
    ChipVariant("M3 Max", 400),
    ChipVariant("M3 Ultra", 819),
    ChipVariant("M4", 120),
    ChipVariant("M4 Pro", 273),
    ChipVariant("M4 Max", 410, max_gpu_cores=32),
    ChipVariant("M4 Max", 546),
    ChipVariant("M5", 153),
    ChipVariant("M5 Pro", 307),
    ChipVariant("M5 Max", 460, max_gpu_cores=32),
    ChipVariant("M5 Max", 614),
    ChipVariant("M5 Ultra", 1200),
    ChipVariant("M6", 153, max_memory_gb=16),
    ChipVariant("M6", 170),
)


def chip_name(brand: str) -> str:
    """ "Apple M4 Max" and "Apple M4 Max (Virtual)" -> "M4 Max"; other brands stay as they are."""
    return re.sub(r"\(.*?\)", "", brand).removeprefix("Apple").strip()


def known_as(name: str) -> str:
    """ "M9 Max" -> the newest M Max of the table that is no newer; a known name stays as it is."""
    found = re.fullmatch(r"M(\d+)( \w+)?", name)
    if not found or any(row.name == name for row in CHIPS):
        return name
    generation, tier = int(found[1]), found[2] or ""
    older = [f"M{number}{tier}" for number in range(generation - 1, 0, -1)]
    names = {row.name for row in CHIPS}
    return next((old for old in older if old in names), name)


def bandwidth_gb_s(
    brand: str, gpu_cores: int | None = None, memory_gb: float | None = None
) -> float | None:
    """Peak memory bandwidth, GB/s (10^9 bytes); None for a chip that isn't in the table.

    Where a chip comes in two bandwidths and its size is not known, the lower one is returned. A
    newer generation than the table has counts as the last one of its tier, which it is at least.
    """
    for row in (row for row in CHIPS if row.name == known_as(chip_name(brand))):
        cores_fit = row.max_gpu_cores is None or (gpu_cores or 0) <= row.max_gpu_cores
        memory_fits = row.max_memory_gb is None or (memory_gb or 0) <= row.max_memory_gb
        if cores_fit and memory_fits:
            return row.bandwidth_gb_s
    return None
