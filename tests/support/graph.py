"""The operations of a function, with the shapes and types of what they take: MLX's own export.

Functions of `mx.fast` and `mx.dequantize` count as one operation each, as on Metal; the CPU backend
expands them into parts (see benchmarks/dot.py).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from tests.support.metal_table import TABLE, VIEWS, Tensor

# What stands for a function of Metal's in a graph: (operation, reversed) of the scan -> its name.
SCANS = {("sum", False): "fast norm", ("sum", True): "fast rope", ("prod", False): "dequantize"}
REDUCTIONS = {2: "sum", 3: "prod"}  # as MLX exports them
BANNED_TYPES = {"float64", "int64", "uint64", "complex64"}


@dataclass(frozen=True)
class Node:
    """One operation: its name, inputs and outputs as (shape, dtype), and its attributes."""

    name: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    arguments: list[Any]
    reads: tuple[str, ...] = ()  # names of the input arrays
    makes: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        return max((elements(shape) for shape, _ in self.outputs), default=0)


def elements(shape: tuple[int, ...]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


def tensor(entry: Any) -> Tensor:
    return tuple(entry[1]), str(entry[2]).rpartition(".")[2]


def _norm(x: mx.array, *weights: Any, **_: Any) -> mx.array:
    return _after(mx.cumsum(x, axis=-1), weights)


def _rope(x: mx.array, *_: Any, offset: Any = None, **__: Any) -> mx.array:
    return _after(mx.cumsum(x, axis=-1, reverse=True), [offset])


def _attention(q: mx.array, k: mx.array, v: mx.array, *, mask: Any = None, **_: Any) -> mx.array:
    return _after(mx.sort(q, axis=-1), [k, v, mask])


def _dequantize(
    w: mx.array,
    scales: mx.array,
    biases: mx.array | None = None,
    *,
    bits: int = 4,
    dtype: mx.Dtype | None = None,
    **_: Any,
) -> mx.array:
    shape = (*w.shape[:-1], w.shape[-1] * 32 // bits)
    to = dtype or (scales.dtype if biases is not None else mx.bfloat16)
    like = mx.broadcast_to(scales[..., :1].astype(to), shape)
    return _after(mx.cumprod(like, axis=-1), [w, scales, biases])


def _after(x: mx.array, others: Any) -> mx.array:
    used = [a for a in others if isinstance(a, mx.array)]
    return mx.depends(x, used) if used else x


@contextmanager
def as_on_metal() -> Iterator[None]:
    """While this holds, functions that are one kernel on Metal trace as one operation."""
    with ExitStack() as stack:
        for where, name, function in (
            (mx.fast, "rms_norm", _norm),
            (mx.fast, "layer_norm", _norm),
            (mx.fast, "rope", _rope),
            (mx.fast, "scaled_dot_product_attention", _attention),
            (mx, "dequantize", _dequantize),
            (mx, "contiguous", mx.sinh),  # MLX can't export its own
        ):
            stack.enter_context(patch.object(where, name, function))
        yield


def _name(event: dict[str, Any]) -> str:
    if event["name"] == "Scan":
        reduction, _, backwards, _ = event["arguments"]
        return SCANS.get((REDUCTIONS.get(reduction, ""), bool(backwards)), "Scan")
    return {"Sort": "fast attention", "Sinh": "Contiguous"}.get(event["name"], event["name"])


def nodes_of(function: Callable[..., Any], *trees: Any) -> list[Node]:
    """Every operation behind what `function` makes of these trees of arrays."""
    flat = tree_flatten(list(trees))
    names = [name for name, _ in flat]
    found: list[Node] = []

    def take(event: dict[str, Any]) -> None:
        if event["type"] != "primitive":
            return
        found.append(
            Node(
                _name(event),
                [tensor(e) for e in event["inputs"]],
                [tensor(e) for e in event["outputs"]],
                list(event["arguments"]),
                tuple(e[0] for e in event["inputs"]),
                tuple(e[0] for e in event["outputs"]),
            )
        )

    def plain(*arrays: mx.array) -> list[mx.array]:
        given = tree_unflatten(list(zip(names, arrays, strict=True)))
        return [a for _, a in tree_flatten(function(*given)) if isinstance(a, mx.array)]

    with as_on_metal():
        mx.export_function(take, plain, *(array for _, array in flat))
    return found


def problems(nodes: list[Node]) -> list[str]:
    """What Metal hasn't, or what must not be in a frame: one line each."""
    found = []
    for node in nodes:
        kinds = {dtype for _, dtype in (*node.inputs, *node.outputs)}
        if wrong := kinds & BANNED_TYPES:
            found.append(f"{node.name} has {', '.join(sorted(wrong))}")
        if node.name not in TABLE:
            found.append(f"{node.name} isn't in the table of Metal's kernels")
        elif not TABLE[node.name].takes(node.inputs):
            found.append(f"{node.name} doesn't take {node.inputs} on Metal")
    return found


def counts(nodes: list[Node]) -> tuple[int, int]:
    """Kernels before fusion, and views."""
    views = sum(node.name in VIEWS for node in nodes)
    return len(nodes) - views, views


def commonest(nodes: Sequence[Node]) -> dict[str, int]:
    return dict(Counter(node.name for node in nodes if node.name not in VIEWS).most_common())
