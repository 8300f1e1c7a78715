"""MLX's memory on Metal: weights stay resident, freed buffers go back. Other backends: untouched.

Source: MLX's documentation of `set_wired_limit` and `set_cache_limit`. By default nothing is
wired, so that macOS may page weights out while nobody speaks; and buffers that were freed are
kept without a useful bound (1.5 times the working set), which loading alone fills with gigabytes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import mlx.core as mx

# A frame's temporaries are reused from here: 11 MB live at once for the 7B (2 language model, 9
# Mimi, in float32, measured on the CPU), so this is ample even if a frame reuses none of its own.
CACHE_LIMIT_BYTES = 256 * 2**20
SYSTEM_BYTES = 2**30  # never wired: "strictly less than the total memory"
WORKING_SET = "max_recommended_working_set_size"  # more is an error of `set_wired_limit`


@dataclass(frozen=True)
class Limits:
    """Bytes. `wired`: what may stay resident of what is allocated, None: as it is."""

    wired: int | None
    cache: int


def metal_info(
    gpu: bool | None = None,
    metal: Callable[[], bool] = mx.metal.is_available,
    device_info: Callable[[], Mapping[str, Any]] = mx.device_info,
) -> Mapping[str, Any] | None:
    """What MLX knows of the GPU where it runs on Metal, else None.

    gpu: whether it computes on one; None: as its default device is.
    """
    on_gpu = mx.default_device().type == mx.DeviceType.gpu if gpu is None else gpu
    if not on_gpu or not metal():
        return None
    return device_info()


def limits_for(info: Mapping[str, Any]) -> Limits:
    """Limits for a Metal device: at most the recommended working set, less than all memory.

    Only what is allocated gets wired: the weights, the conversations' caches and temporaries.
    """
    working_set, memory = known_bytes(info, WORKING_SET), known_bytes(info, "memory_size")
    if memory:
        working_set = min(working_set, memory - SYSTEM_BYTES)
    return Limits(working_set if working_set > 0 else None, CACHE_LIMIT_BYTES)


def known_bytes(info: Mapping[str, Any], key: str) -> int:
    """0 where MLX doesn't say."""
    value = info.get(key)
    return value if isinstance(value, int) else 0


class LimitSetters(Protocol):
    """What of MLX sets a limit and tells the one before."""

    def set_wired_limit(self, limit: int) -> int:
        """Bytes that stay resident; returns the limit before."""
        ...

    def set_cache_limit(self, limit: int) -> int:
        """Bytes of freed buffers that are kept; returns the limit before."""
        ...


MLX = cast(LimitSetters, mx)


def limit_memory(
    info: Mapping[str, Any] | None = None, setters: LimitSetters = MLX
) -> Limits | None:
    """Set the limits for this process, on Metal; what the program set itself stays.

    Returns what they were before (for `restore`), None where nothing was touched. `info`: of
    another device than MLX's own.
    """
    info = metal_info() if info is None else info
    if info is None:
        return None
    limits = limits_for(info)
    wired = None
    if limits.wired is not None:
        wired = setters.set_wired_limit(limits.wired)
        if wired:  # 0 is MLX's default
            setters.set_wired_limit(wired)
    cache = setters.set_cache_limit(limits.cache)
    if cache < known_bytes(info, WORKING_SET):  # MLX's default lies above
        setters.set_cache_limit(cache)
    return Limits(wired, cache)


def restore(before: Limits | None, setters: LimitSetters = MLX) -> None:
    """Undo `limit_memory`, given what it returned."""
    if before is not None:
        setters.set_cache_limit(before.cache)
        if before.wired is not None:
            setters.set_wired_limit(before.wired)
