"""Every way by which the host waits for the device, counted."""

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

BLOCKING = ("item", "tolist", "__int__", "__float__", "__bool__")


class Reads:
    """How often the host has waited since this object was made.

    `mx.eval` is one; so is any conversion of an array that wasn't part of an `eval` before.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count, self._there = 0, []
        evaluate = mx.eval

        def counted(*trees: Any) -> None:
            self.count += 1
            self._there += [a for a in leaves(trees) if isinstance(a, mx.array)]
            evaluate(*trees)

        patch.setattr(mx, "eval", counted)
        for name in ("array", "asarray", "ascontiguousarray", "stack", "concatenate"):
            patch.setattr(np, name, self._watched(getattr(np, name)))
        for name in BLOCKING:
            patch.setattr(mx.array, name, self._watched(getattr(mx.array, name)))

    def _watched(self, convert: Any) -> Any:
        def read(*args: Any, **kwargs: Any) -> Any:
            for array in leaves(args[:1]):
                if isinstance(array, mx.array) and not any(array is a for a in self._there):
                    self.count += 1
            return convert(*args, **kwargs)

        return read


def leaves(tree: Any) -> Iterator[Any]:
    """What lists and tuples hold at the end."""
    if isinstance(tree, list | tuple):
        for branch in tree:
            yield from leaves(branch)
    else:
        yield tree
