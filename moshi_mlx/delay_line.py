"""Which token enters the model when: PyTorch's delay line, in numpy.

Own code k sampled at step s belongs to time s - delay_k and is fed back at step s + 1; the user's
codes of call s are fed in call s (those of call 0 lie in the model's past and are ignored).
Source: PyTorch `moshi/models/lm.py`, LMGen._step. Shapes: K codebooks, text first.
"""

import numpy as np

from .config import NOT_GENERATED, LmConfig


class DelayLine:
    """A ring of max_delay + 2 steps of all 1 + n_q streams."""

    def __init__(self, config: LmConfig) -> None:
        self.config = config
        self.delays = np.array(config.delays, np.int64)
        self.own = 1 + config.dep_q
        self.size = config.max_delay + 2
        self.initial = np.array([config.text_card] + [config.card] * config.n_q, np.int32)
        self.line = np.full((1 + config.n_q, self.size), NOT_GENERATED, np.int32)
        self.step = 0
        self._own_streams = np.arange(self.own)
        self._user_streams = np.arange(self.own, 1 + config.n_q)

    def inputs(self, user_codes: np.ndarray) -> np.ndarray:
        """Take this call's user codes [user_q]; return the step's input tokens [1 + n_q]."""
        at = (self.step + self.delays[self.own :]) % self.size
        self.line[self._user_streams, at] = user_codes
        tokens = self.line[:, self.step % self.size]
        return np.where(self.step <= self.delays, self.initial, tokens)

    def outputs(self, own: np.ndarray) -> np.ndarray | None:
        """Take the step's samples [1 + dep_q]; return the realigned ones, None until complete."""
        self.step += 1
        self.line[: self.own, self.step % self.size] = own
        if self.step <= self.config.max_delay:
            return None
        at = (self.step - self.config.max_delay + self.delays[: self.own]) % self.size
        return self.line[self._own_streams, at]
