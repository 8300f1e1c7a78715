"""A speech to text model that stops writing, as Kyutai's 1B does now and then."""

import mlx.core as mx

from moshi_mlx.lm.compiled_step import FrameFunctions
from moshi_mlx.lm.model import Lm

PAD = 3


class FallsSilent:
    """A model whose state writes nothing after its first `steps`."""

    forced_texts = 1

    def __init__(self, lm: Lm, steps: int) -> None:
        self.lm, self.steps = lm, steps
        self.config, self.kv_bits = lm.config, 16
        self.functions = FrameFunctions(self)

    def new_buffers(self, kv_bits=None, rows=1):
        return self.lm.new_buffers(kv_bits, rows)

    def conditions(self, values, guided=False, negatives=None):
        return self.lm.conditions(values, guided, negatives)

    def step(self, inputs, buffers, draws):
        tokens, heads = self.lm.step(inputs, buffers, draws)
        silent = inputs.at.rotations[::3] >= self.steps  # of q: each one's step
        return mx.where(silent, PAD, tokens).astype(mx.uint32), heads
