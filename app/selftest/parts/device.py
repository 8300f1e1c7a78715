"""The device itself: limits of its memory, set and undone; its speed, and how near the floor."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from moshi_mlx.memory import (
    MLX,
    Limits,
    LimitSetters,
    known_bytes,
    limit_memory,
    limits_for,
    metal_info,
    restore,
)

from ...bench.floor import Bandwidth, bandwidth
from ...doctor.speed import Speed, measure
from ...machine.facts import Facts, gather
from ...machine.power import brakes
from ..part import NONE, SPEED, Deviation, Fallback, Note, NotHereError
from ..site import Site

SLOWEST_SHARE = 0.2  # of the memory's speed that layers of the 7B must reach
ADVICE = Fallback("what `moshi doctor` says about power and other programs")
LEAST_FREE_BYTES = 2 * 10**9


@dataclass(frozen=True)
class LimitCheck:
    """MLX's wired and cache limits, as loading sets them and as they were before."""

    info: Callable[[], Mapping[str, Any] | None] = metal_info
    setters: LimitSetters = MLX
    undo: Callable[[Limits | None, LimitSetters], None] = restore
    name: str = "memory limits"
    fallback: Fallback = NONE

    def check(self, site: Site) -> Iterator[Deviation]:
        info = self.info()
        if info is None:
            raise NotHereError("MLX has limits of its own on Metal alone")
        wanted, before = limits_for(info), self.held()
        limited = limit_memory(info, self.setters)
        during = self.held()
        self.undo(limited, self.setters)
        after = self.held()
        if not before.wired and wanted.wired is not None:  # else the program has set it itself
            yield self.off("wired", during.wired, wanted.wired)
        if before.cache >= known_bytes(info, "max_recommended_working_set_size"):
            yield self.off("cache", during.cache, wanted.cache)
        yield self.off("wired, undone", after.wired, before.wired)
        yield self.off("cache, undone", after.cache, before.cache)

    def held(self) -> Limits:
        """The limits that MLX has now; it tells them as others are set."""
        wired, cache = self.setters.set_wired_limit(0), self.setters.set_cache_limit(0)
        self.setters.set_wired_limit(wired)
        self.setters.set_cache_limit(cache)
        return Limits(wired, cache)

    @staticmethod
    def off(what: str, found: int | None, wanted: int | None) -> Deviation:
        return Deviation(what, abs((found or 0) - (wanted or 0)) / 1e6, 0.0, "MB")


@dataclass(frozen=True)
class SpeedCheck:
    """Layers of the 7B in 4 bit, made up: how near they come to the memory's own speed."""

    measure: Callable[[], Speed | None] = measure
    gather: Callable[..., Facts] = gather
    bandwidth: Callable[[Facts], Bandwidth] = bandwidth
    name: str = SPEED
    fallback: Fallback = ADVICE

    def check(self, site: Site) -> Iterator[Deviation | Note]:
        if not site.on_gpu:
            raise NotHereError("no GPU here; `moshi bench` measures a CPU")
        facts = self.gather((), network=False, audio=False)
        free = facts.memory_free_bytes
        if free is not None and free < LEAST_FREE_BYTES:
            raise NotHereError(f"only {free / 1e9:.1f} GB of memory are free")
        of_memory, speed = self.bandwidth(facts), self.measure()
        if speed is None:
            raise NotHereError("it did not end in time; `moshi bench` measures longer")
        share = speed.bandwidth_gb_s / of_memory.gb_s
        yield Deviation("missing of the memory's speed", max(0.0, 1 - share), 1 - SLOWEST_SHARE)
        reached = f"{speed.bandwidth_gb_s:.0f} of {of_memory.gb_s:.0f} GB/s"
        frame = f"a frame of the 7B in 4 bit: {speed.frame_ms('q4'):.0f} of 80 ms"
        yield Note(f"{reached} ({of_memory.source}); {frame}")
        yield from map(Note, brakes(facts.power))
