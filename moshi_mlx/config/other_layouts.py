"""Layouts of other programs, of models of this kind, that aren't read here: told by name.

A Swift port of PersonaPlex (aufklarer/PersonaPlex-7B-MLX-4bit, -8bit) keeps temporal transformer,
depth transformer and embeddings in files of their own, with names and a rounding of its own.
"""

from collections.abc import Iterable, Mapping
from typing import Any

SPLIT = ("temporal", "depformer")
SPLIT_LAYOUT = (
    "is laid out for a Swift program, its transformers in files of their own, which isn't read "
    "here: take the original, nvidia/personaplex-7b-v1, and make it small with `moshi quantize "
    "nvidia/personaplex-7b-v1 TARGET --recipe q4`"
)


def is_split(config: Mapping[str, Any] | None, names: Iterable[str] = ()) -> bool:
    """Whether a config.json, or the names of the files beside it, are those of the split layout."""
    if config and all(isinstance(config.get(part), Mapping) for part in SPLIT):
        return True
    return {f"{part}.safetensors" for part in SPLIT} <= set(names)
