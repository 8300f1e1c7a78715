"""Counts the kernels of a graph: the nodes of `mx.export_to_dot`, views left out.

MLX's CPU backend expands `mx.fast` functions into parts, Metal runs each as one kernel; so while
a graph is traced for counting each is replaced by one operation of the same shape, one that
`mx.compile` doesn't fuse. Imported in both environments: MLX and the standard library only.
"""

import io
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx

VIEWS = {
    *("Reshape", "Transpose", "Broadcast", "ExpandDims", "Squeeze", "Slice", "Split"),
    *("AsStrided", "Flatten", "Unflatten", "Copy"),
    "Depends",  # of the stand-ins: keeps their inputs in the graph
}
STAND_INS = {"CumSum": "fast norm", "CumLogAddExp": "fast rope", "Sort": "fast attention"}
NODE = re.compile(r'\[label ="([^"]+)", shape=rectangle\]')


def _norm(x: mx.array, *weights: Any, **_: Any) -> mx.array:
    return _with(mx.cumsum(x, axis=-1), weights)


def _rope(x: mx.array, *_: Any, offset: Any = None, **__: Any) -> mx.array:
    return _with(mx.logcumsumexp(x, axis=-1), [offset])


def _attention(q: mx.array, k: mx.array, v: mx.array, *, mask: Any = None, **_: Any) -> mx.array:
    return _with(mx.sort(q, axis=-1), [k, v, mask])


def _with(x: mx.array, others: Any) -> mx.array:
    used = [a for a in others if isinstance(a, mx.array)]
    return mx.depends(x, used) if used else x


@contextmanager
def stand_ins() -> Iterator[None]:
    """While this holds, a call of an `mx.fast` function traces as one operation."""
    replaced = {
        "rms_norm": _norm,
        "layer_norm": _norm,
        "rope": _rope,
        "scaled_dot_product_attention": _attention,
    }
    originals = {name: getattr(mx.fast, name) for name in replaced}
    for name, function in replaced.items():
        setattr(mx.fast, name, function)
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(mx.fast, name, function)


def kernels(outputs: list[mx.array]) -> dict[str, int]:
    """Operations behind lazy outputs and how often each occurs, the commonest first."""
    text = io.StringIO()
    mx.export_to_dot(text, *outputs)
    found = Counter(STAND_INS.get(name, name) for name in NODE.findall(text.getvalue()))
    return {name: count for name, count in found.most_common() if name not in VIEWS}
