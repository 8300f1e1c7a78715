"""A conversation's model that runs a language model by a frame of its own.

Speech to text after a prompt and text to speech do: what goes between the two transformers is
theirs, all else is the language model's.
"""

from abc import ABC, abstractmethod
from typing import Any

import mlx.core as mx

from .buffers import Buffers, Conditions
from .compiled_step import FrameFunctions
from .model import Lm
from .sampling import Draws
from .step_inputs import StepInputs


class OwnFrame(ABC):
    """A `FrameModel` of `lm`; `forced_texts`: numbers that stand for the text token."""

    forced_texts: int

    def __init__(self, lm: Lm) -> None:
        self.lm, self.config = lm, lm.config
        self.kv_bits, self.model_digest = lm.kv_bits, lm.model_digest
        self.functions = FrameFunctions(self)

    @abstractmethod
    def step(
        self, inputs: StepInputs, buffers: Buffers, draws: Draws
    ) -> tuple[mx.array, mx.array | None]: ...

    @property
    def dtype(self) -> mx.Dtype:
        return self.lm.dtype

    def new_buffers(self, kv_bits: int | None = None, rows: int = 1) -> Buffers:
        return self.lm.new_buffers(kv_bits, rows)

    def conditions(self, values: Any, guided: bool = False, negatives: Any = None) -> Conditions:
        return self.lm.conditions(values, guided, negatives)
