"""What the system counts for this process, beside what MLX counts."""

from pathlib import Path


def resident_bytes() -> int | None:
    """Linux's count, None elsewhere."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096 if statm.exists() else None
