"""Conditions of a conversation: words from a list, or tensors, summed in or attended to.

Source: PyTorch `moshi/conditioners/base.py` and `text.py`. Always in fp32, as there.
Shapes: S source steps, C model width.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..config.lm_config import ConditionerConfig, LmConfig
from ..errors import ConfigError


class Conditioner(nn.Module):
    """One condition -> [1, S, C]; without a value it gives the learnt padding.

    A tensor condition is an array [S, dim], or a pair of it and a mask [S] of the steps that count.
    """

    def __init__(self, config: ConditionerConfig, output_dim: int) -> None:
        super().__init__()
        self.config = config
        if config.kind == "lut":
            self.embed = nn.Embedding(config.num_bins + 1, config.dim)
        self.output_proj = nn.Linear(config.dim, output_dim, bias=False)
        self.learnt_padding = mx.zeros((1, 1, output_dim))

    def word(self, name: str, word: str) -> int:
        values = self.config.possible_values
        if values is None:
            return int(hashlib.sha256(word.encode()).hexdigest(), 16) % self.config.num_bins
        if word not in values:
            raise ConfigError(f"condition {name!r} can't be {word!r}; known: {', '.join(values)}")
        return values.index(word)

    def __call__(self, name: str, value: Any) -> mx.array:
        if value is None:
            return self.learnt_padding
        if self.config.kind == "lut":
            return self.output_proj(self.embed(mx.array([[self.word(name, str(value))]])))
        tensor, mask = value if isinstance(value, tuple) else (value, None)
        tensor = mx.array(tensor, mx.float32).reshape(1, -1, np.shape(tensor)[-1])
        if tensor.shape[-1] != self.config.dim:
            raise ConfigError(
                f"condition {name!r} needs an array [steps, {self.config.dim}], "
                f"not {list(np.shape(value))}"
            )
        out = self.output_proj(tensor)
        if mask is None:
            return out
        kept = mx.array(mask, mx.float32).reshape(1, -1, 1)
        return out * kept + self.learnt_padding * (1 - kept)


class ConditionProvider(nn.Module):
    """All conditioners of a model, and how they are fused."""

    def __init__(self, config: LmConfig) -> None:
        super().__init__()
        self.fuser = config.fuser
        self.conditioners = {
            name: Conditioner(entry, config.transformer.dim)
            for name, entry in config.conditioners.items()
        }

    def dropped(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """`values` with every one dropped: words are left out, tensors keep their length."""
        kinds = {name: c.config.kind for name, c in self.conditioners.items()}
        return {
            name: _without(value)
            for name, value in values.items()
            if value is not None and kinds.get(name) == "tensor"
        }

    def __call__(self, values: Mapping[str, Any]) -> tuple[mx.array | None, mx.array | None]:
        """name -> value; returns (sum [1, 1, C] or None, cross attention source [1, S, C] or None).

        Raises ConfigError for a name or value that the model doesn't know.
        """
        if unknown := sorted(set(values) - set(self.conditioners)):
            known = ", ".join(self.conditioners) or "none"
            raise ConfigError(f"no condition {unknown[0]!r} in this model; known: {known}")
        found = {name: c(name, values.get(name)) for name, c in self.conditioners.items()}
        total = None
        for name in self.fuser.sum:
            total = found[name] if total is None else total + found[name]
        cross = [found[name] for name in self.fuser.cross]
        if not cross:
            return total, None
        source = mx.concatenate(cross, axis=1)
        if self.fuser.cross_pos_emb:
            source = source + self.fuser.cross_pos_emb_scale * sin_positions(*source.shape[1:])
        return total, source


def _without(value: Any) -> tuple[np.ndarray, np.ndarray]:
    """A tensor condition of the same length of which no step counts."""
    shape = np.shape(value[0] if isinstance(value, tuple) else value)
    steps = np.zeros(shape, np.float32).reshape(-1, shape[-1])
    return steps, np.zeros(len(steps), np.float32)


def sin_positions(S: int, C: int) -> mx.array:
    """Sinusoidal positions [1, S, C] (PyTorch: create_sin_embedding)."""
    half = C // 2
    phase = mx.arange(S)[:, None] / (10_000.0 ** (mx.arange(half) / (half - 1)))
    return mx.concatenate([mx.cos(phase), mx.sin(phase)], axis=-1)[None]
