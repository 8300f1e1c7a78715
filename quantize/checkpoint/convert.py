"""Stream a checkpoint into a quantized one: a few blocks of rows in memory, whatever the size.

Blocks are rounded on two threads (MLX arrays never leave the thread that made them: numpy comes
out) and written in order. Rows are independent, so blocks give the same bits as whole tensors.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..recipe.rounding import Rounding, nearest, to_mlx, to_numpy
from .plan import Planned, all_slots
from .source import Mapped, Source
from .writer import StreamingWriter, writing

BLOCK_BYTES = 32_000_000
THREADS = 2
BLOCKS_AHEAD = 2 * THREADS  # bounds the memory


Parts = tuple[np.ndarray, ...]  # the tensors of one Planned, as the file holds them
# module -> how to get its parts, None for one that isn't rounded yet
Rounded = Callable[[str], Callable[[], Parts] | None]
Blocks = list[Parts]  # the same, rows by rows


def convert(
    source: Source,
    plan: list[Planned],
    path: Path,
    metadata: dict[str, str],
    rounding: Rounding = nearest,
    progress: Callable[[int], object] = lambda num_weights: None,
    ready: Rounded = lambda module: None,
) -> None:
    """Write the planned tensors to `path`, going on with what an interrupted run left there.

    `ready`: the modules that are rounded already; all others are rounded now.
    `progress` is told how many weights each step has dealt with. Raises WeightsError for damaged
    tensors, OSError for the disk.
    """
    cache_limit = mx.set_cache_limit(0)  # freed blocks go back to the system at once
    try:
        with writing(path, all_slots(plan), metadata) as writer:
            done = set(writer.done)
            todo = [p for p in plan if not set(p.slots) <= done]
            progress(sum(p.num_weights for p in plan) - sum(p.num_weights for p in todo))
            for planned, blocks in _rounded(source, todo, rounding, progress, ready):
                _write(writer, planned, blocks, done)
    finally:
        mx.set_cache_limit(cache_limit)


def _rounded(
    source: Source,
    todo: list[Planned],
    rounding: Rounding,
    progress: Callable[[int], object],
    ready: Rounded,
) -> Iterator[tuple[Planned, Blocks]]:
    """Each planned tensor with its rounded blocks, in order."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: deque[tuple[Planned, int, bool, Future[Parts]]] = deque()
        blocks: Blocks = []

        def take() -> Iterator[tuple[Planned, Blocks]]:
            planned, num_weights, last, future = waiting.popleft()
            blocks.append(future.result())
            progress(num_weights)
            if last:
                yield planned, list(blocks)
                blocks.clear()

        try:
            for planned in todo:
                for size, last, work in _work(source, planned, rounding, ready):
                    waiting.append((planned, size, last, pool.submit(work)))
                    if len(waiting) > BLOCKS_AHEAD:
                        yield from take()
            while waiting:
                yield from take()
        finally:
            for *_, future in waiting:
                future.cancel()


def _work(
    source: Source, planned: Planned, rounding: Rounding, ready: Rounded
) -> Iterator[tuple[int, bool, Callable[[], Parts]]]:
    """Weights, whether it is the last, and the work itself, of every block of a tensor."""
    if planned.chosen is not None and (made := ready(planned.entry.module)) is not None:
        yield planned.num_weights, True, made
        return
    pieces = list(source.row_blocks(planned.entry, BLOCK_BYTES))
    for number, (tensor, rows) in enumerate(pieces):
        work = partial(_round, planned, tensor, rows, rounding)
        yield rows.size, number == len(pieces) - 1, work


def _round(planned: Planned, tensor: Mapped, rows: np.ndarray, rounding: Rounding) -> Parts:
    """One block, wholly on a worker's thread."""
    tensor.check_finite(rows)
    if planned.chosen is None:
        if tensor.dtype == "BF16":
            return (np.array(rows),)
        return (to_numpy(to_mlx(rows, tensor.dtype)),)
    parts = rounding(planned.entry.module, to_mlx(rows, tensor.dtype), planned.chosen)
    return tuple(to_numpy(part) for part in parts)


def _write(writer: StreamingWriter, planned: Planned, blocks: Blocks, done: set[str]) -> None:
    for number, name in enumerate(planned.slots):
        if name not in done:
            writer.write(name, *(block[number] for block in blocks))
