"""The operations of a graph, as Metal would run them: how many, what they take, what they copy.

MLX's CPU backend expands `mx.fast` functions and `mx.dequantize` into parts, Metal runs each as one
kernel; so while a graph is traced here each is replaced by one operation of the same shape, one
that `mx.compile` doesn't fuse. Two ways to look at a graph:

* `kernels` and `views` of lazy outputs: as it will run, a compiled group counted as one.
* `nodes_of` a function: every operation with shapes and types, before anything is fused.

An update in place (of a slice, or by index) happens in place only if nobody else holds the buffer:
one that is also read in the same graph, before the update, is copied first. Copies count, too.
Imported in both environments of the benchmarks: MLX and the standard library.
"""

import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

Tensor = tuple[tuple[int, ...], str]  # shape, dtype

VIEWS = frozenset(
    {
        *("Reshape", "Transpose", "Broadcast", "ExpandDims", "Squeeze", "Slice", "Split"),
        *("AsStrided", "Flatten", "Unflatten", "View", "Copy", "StopGradient"),
    }
)
DEPENDS = "Depends"  # of the stand-ins, which keeps their inputs in the graph: nothing on Metal
NORM, ROPE, ATTENTION = "fast norm", "fast rope", "fast attention"
DEQUANTIZE, RESIDUAL_NORM = "dequantize", "residual and norm"
STAND_INS: dict[str, str] = {
    "CumSum": NORM,
    "CumMax": ROPE,
    "Sort": ATTENTION,
    "CumProd": DEQUANTIZE,
    "DivMod": RESIDUAL_NORM,
}
SCANS: dict[int, str] = {2: NORM, 0: ROPE, 3: DEQUANTIZE}  # the same as an export numbers them
UPDATES = {"SliceUpdate", "ScatterAxis", "Scatter", "DynamicSliceUpdate"}
COPY = "copy of a shared buffer"

NODE: re.Pattern[str] = re.compile(r'\[label ="([^"]+)", shape=rectangle\]')
NAMED = re.compile(r'\{ (\d+) \[label ="([^"]+)", shape=rectangle\]; \}')
TAKEN = re.compile(r'^"([^"]+)" -> (\d+)$', re.MULTILINE)


@dataclass(frozen=True)
class Node:
    """One operation: its name, its inputs and outputs."""

    name: str
    inputs: list[Tensor]
    outputs: list[Tensor]


def _norm(x: mx.array, *weights: Any, **_: Any) -> mx.array:
    return _after(mx.cumsum(x, axis=-1), weights)


def _rope(x: mx.array, *_: Any, offset: Any = None, **__: Any) -> mx.array:
    return _after(mx.cummax(x, axis=-1), [offset])


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


def residual_norm(
    residual: mx.array, branch: mx.array, weight: mx.array, eps: float
) -> tuple[mx.array, mx.array]:
    """Stands for the kernel of `moshi_mlx.backend.residual_norm`: one operation, two outputs."""
    total, normed = mx.divmod(residual, branch)
    return total, _after(normed, [weight])


def _after(x: mx.array, others: Any) -> mx.array:
    used = [a for a in others if isinstance(a, mx.array)]
    return mx.depends(x, used) if used else x


@contextmanager
def as_on_metal(exported: bool = False) -> Iterator[None]:
    """While this holds, functions that are one kernel on Metal trace as one operation.

    exported: for `nodes_of`, since MLX can't export its own `contiguous`.
    """
    functions: list[tuple[Any, str, Any]] = [
        (mx.fast, "rms_norm", _norm),
        (mx.fast, "layer_norm", _norm),
        (mx.fast, "rope", _rope),
        (mx.fast, "scaled_dot_product_attention", _attention),
        (mx, "dequantize", _dequantize),
    ]
    if exported:
        functions.append((mx, "contiguous", mx.sinh))
    with ExitStack() as stack:
        for where, name, function in functions:
            stack.enter_context(patch.object(where, name, function))
        yield


def kernels(outputs: list[mx.array]) -> dict[str, int]:
    """Operations behind lazy outputs and how often each occurs, the commonest first."""
    dot = dot_of(outputs)
    names: list[str] = NODE.findall(dot)
    found = Counter(STAND_INS.get(name, name) for name in names)
    found[COPY] = copies(dot)
    del found[DEPENDS]
    return {name: n for name, n in found.most_common() if not is_view(name) and n}


def views(outputs: list[mx.array]) -> int:
    """Operations that only look at their input: no kernels, but nodes that the host builds."""
    return sum(is_view(name) for name in NODE.findall(dot_of(outputs)))


def copies(dot: str) -> int:
    """Updates whose buffer, their first input, has another reader."""
    names = dict(NAMED.findall(dot))
    readers: dict[str, set[str]] = {}
    updated: dict[str, str] = {}  # update -> the buffer
    for tensor, node in TAKEN.findall(dot):
        readers.setdefault(tensor, set()).add(node)
        if names.get(node) in UPDATES:
            updated.setdefault(node, tensor)
    return sum(len(readers[buffer]) > 1 for buffer in updated.values())


def is_view(name: str) -> bool:
    return name in VIEWS or name.startswith("View ")  # its type follows


def dot_of(outputs: list[mx.array]) -> str:
    text = io.StringIO()
    mx.export_to_dot(text, *outputs)
    return text.getvalue()


def nodes_of(function: Callable[..., Any], *trees: Any) -> list[Node]:
    """Every operation behind what `function` makes of these trees of arrays."""
    flat = tree_flatten(list(trees))
    names = [name for name, _ in flat]
    found: list[Node] = []

    def take(event: dict[str, Any]) -> None:
        if event["type"] == "primitive":
            tensors = ([_tensor(entry) for entry in event[end]] for end in ("inputs", "outputs"))
            found.append(Node(_name(event), *tensors))

    def plain(*arrays: mx.array) -> list[mx.array]:
        given = tree_unflatten(list(zip(names, arrays, strict=True)))
        return [a for _, a in tree_flatten(function(*given)) if isinstance(a, mx.array)]

    with as_on_metal(exported=True):
        mx.export_function(take, plain, *(array for _, array in flat))
    return found


def _tensor(entry: Any) -> Tensor:
    return tuple(entry[1]), str(entry[2]).rpartition(".")[2]


def _name(event: dict[str, Any]) -> str:
    if event["name"] == "Scan":
        reduction = event["arguments"][0]
        return SCANS.get(reduction, "Scan")
    name: str = event["name"]
    return {"Sort": ATTENTION, "Sinh": "Contiguous"}.get(name, name)
