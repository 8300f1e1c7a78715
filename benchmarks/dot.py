"""Counts the kernels of a graph: the nodes of `mx.export_to_dot`, views left out.

MLX's CPU backend expands `mx.fast` functions and `mx.dequantize` into parts, Metal runs each as one
kernel; so while a graph is traced for counting each is replaced by one operation of the same shape,
one that `mx.compile` doesn't fuse. Imported in both environments: MLX and the standard library.

An update in place (of a slice, or by index) happens in place only if nobody else holds the buffer:
one that is also read in the same graph, before the update, is copied first. Copies count, too.
"""

import io
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import mlx.core as mx

VIEWS = {
    *("Reshape", "Transpose", "Broadcast", "ExpandDims", "Squeeze", "Slice", "Split"),
    *("AsStrided", "Flatten", "Unflatten", "Copy"),
    "Depends",  # of the stand-ins: keeps their inputs in the graph
}
STAND_INS = {
    "CumSum": "fast norm",
    "CumLogAddExp": "fast rope",
    "Sort": "fast attention",
    "CumProd": "dequantize",
}
UPDATES = {"SliceUpdate", "ScatterAxis", "Scatter", "DynamicSliceUpdate"}
COPY = "copy of a shared buffer"
NODE = re.compile(r'\[label ="([^"]+)", shape=rectangle\]')


def _norm(x: mx.array, *weights: Any, **_: Any) -> mx.array:
    return _with(mx.cumsum(x, axis=-1), weights)


def _rope(x: mx.array, *_: Any, offset: Any = None, **__: Any) -> mx.array:
    return _with(mx.logcumsumexp(x, axis=-1), [offset])


def _attention(q: mx.array, k: mx.array, v: mx.array, *, mask: Any = None, **_: Any) -> mx.array:
    return _with(mx.sort(q, axis=-1), [k, v, mask])


def _dequantize(
    w: mx.array, scales: mx.array, biases: mx.array | None = None, *, bits: int = 4, **_: Any
) -> mx.array:
    shape = (*w.shape[:-1], w.shape[-1] * 32 // bits)
    return _with(mx.cumprod(mx.broadcast_to(scales[..., :1], shape), axis=-1), [w, scales, biases])


def _with(x: mx.array, others: Any) -> mx.array:
    used = [a for a in others if isinstance(a, mx.array)]
    return mx.depends(x, used) if used else x


@contextmanager
def stand_ins() -> Iterator[None]:
    """While this holds, each of these functions traces as one operation."""
    with ExitStack() as stack:
        for where, name, function in (
            (mx.fast, "rms_norm", _norm),
            (mx.fast, "layer_norm", _norm),
            (mx.fast, "rope", _rope),
            (mx.fast, "scaled_dot_product_attention", _attention),
            (mx, "dequantize", _dequantize),
        ):
            stack.enter_context(patch.object(where, name, function))
        yield


NAMED = re.compile(r'\{ (\d+) \[label ="([^"]+)", shape=rectangle\]; \}')
TAKEN = re.compile(r'^"([^"]+)" -> (\d+)$', re.MULTILINE)


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


def kernels(outputs: list[mx.array]) -> dict[str, int]:
    """Operations behind lazy outputs and how often each occurs, the commonest first."""
    dot = dot_of(outputs)
    found = Counter(STAND_INS.get(name, name) for name in NODE.findall(dot))
    found[COPY] = copies(dot)
    return {name: n for name, n in found.most_common() if not is_view(name) and n}


def views(outputs: list[mx.array]) -> int:
    """Operations that only look at their input: no kernels, but nodes that the host builds."""
    return sum(is_view(name) for name in NODE.findall(dot_of(outputs)))


def is_view(name: str) -> bool:
    return name in VIEWS or name.startswith("View ")  # its type follows


def dot_of(outputs: list[mx.array]) -> str:
    text = io.StringIO()
    mx.export_to_dot(text, *outputs)
    return text.getvalue()
