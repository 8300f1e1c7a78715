"""Mimi's tensors in Kyutai's PyTorch layout, taken one by one: every one is used or reported.

What a layer keeps is evaluated when the layer is made. A compiled function takes every array that
it finds unevaluated into its graph: weights made lazily would be read from the file and laid out
anew in every frame, and could only be used on the thread that loaded them.
"""

import difflib
from collections.abc import Iterable, Mapping

import mlx.core as mx

from ..errors import WeightsError

# Newer and older spellings of the same tensors: (what other files say, what `Tensors` looks up).
ALIASES: tuple[tuple[str, str], ...] = (
    (".self_attn.in_projs.0.weight", ".self_attn.in_proj_weight"),
    (".self_attn.in_proj.weight", ".self_attn.in_proj_weight"),
    (".self_attn.out_projs.0.weight", ".self_attn.out_proj.weight"),
    ("._codebook.inited", "._codebook._initialized"),
    ("._codebook.cluster_size", "._codebook.cluster_usage"),
    ("._codebook.embed_avg", "._codebook.embedding_sum"),
    ("._codebook.embed_sum", "._codebook.embedding_sum"),
)


def canonical(name: str) -> str:
    """The spelling of `name` that this library looks up."""
    for other, ours in ALIASES:
        if name.endswith(other):
            return name.removesuffix(other) + ours
    return name


def evaluated(array: mx.array) -> mx.array:
    """The same array, computed now."""
    mx.eval(array)
    return array


class Tensors:
    """A checkpoint being read: `take` what the config asks for, then `finish`.

    `file` is what messages call it; `dtype` is what the taken tensors are converted to.
    """

    def __init__(self, arrays: Mapping[str, mx.array], file: str, dtype: mx.Dtype) -> None:
        self._left = {canonical(name): array for name, array in arrays.items()}
        self._file = file
        self.dtype = dtype

    def take(self, name: str, *shape: int, dtype: mx.Dtype | None = None) -> mx.array:
        """The tensor `name`, evaluated. Raises WeightsError for a missing or misshapen one.

        It is read by itself: no work of a GPU is ever submitted that waits for the disk (macOS
        ends a process whose GPU commands stall).
        """
        return evaluated(evaluated(self._checked(name, shape)).astype(dtype or self.dtype))

    def skip(self, name: str, *shape: int) -> None:
        """As `take`, for a tensor that isn't needed: it is never read."""
        self._checked(name, shape)

    def _checked(self, name: str, shape: tuple[int, ...]) -> mx.array:
        array = self._left.pop(name, None)
        if array is None:
            raise WeightsError(
                f"{self._file} has no tensor {name}{self._near(name)}; is it a Mimi file, "
                "and is its mimi_config.json the right one?"
            )
        if array.shape != shape:
            raise WeightsError(
                f"{name} in {self._file} is {list(array.shape)} where the config asks for "
                f"{list(shape)}; is its mimi_config.json the right one?"
            )
        if not mx.issubdtype(array.dtype, mx.floating):
            raise WeightsError(f"{name} in {self._file} holds {array.dtype}, not floats")
        return array

    def drop(self, names: Iterable[str]) -> None:
        """Known tensors that inference doesn't need; absent ones don't matter."""
        for name in names:
            self._left.pop(name, None)

    def finish(self) -> None:
        """Raises WeightsError when a tensor was left over."""
        if self._left:
            names = sorted(self._left)
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise WeightsError(
                f"{self._file} holds {names[0]}{more}, which the config has no place for; "
                "is its mimi_config.json the right one?"
            )

    def _near(self, name: str) -> str:
        near = difflib.get_close_matches(name, self._left, n=1, cutoff=0.9)
        return f" (but {near[0]})" if near else ""
