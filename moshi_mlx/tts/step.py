"""The frame of a speaking model: its text token is judged between its two transformers.

The machine's two answers are inputs of the graph, which takes the one that fits what the model
asked for; the codes follow it. So a frame has one read. Before sound comes, the depth transformer
isn't run at all.
Source: PyTorch `moshi/models/tts.py`, on_text_hook. Shapes: S depth slices.
"""

import mlx.core as mx

from ..lm.buffers import Buffers
from ..lm.layers.linear import linear_of
from ..lm.model import Lm, frame_noise
from ..lm.own_frame import OwnFrame
from ..lm.sampling import Draws
from ..lm.step_inputs import StepInputs
from .machine import NEW_WORD, PAD


class SpeakingFrame(OwnFrame):
    """One frame of `lm`, as a conversation's model: `forced_text` holds both answers.

    `slices`: how many codebooks are drawn, 0 for none. `scales` has the bonus of PAD as a fourth
    number, after the strength of guidance.
    """

    forced_texts = 2

    def __init__(self, lm: Lm, slices: int) -> None:
        super().__init__(lm)
        self.slices = slices

    def step(self, inputs: StepInputs, buffers: Buffers, draws: Draws) -> tuple[mx.array, None]:
        """Tokens [1 + slices]: the model's own text token, and codes that follow the answer."""
        i, (draw_text, draw_code) = inputs, draws
        out = self.lm.temporal_step(i.text, i.rows, buffers, i.at, i.given)
        noise = frame_noise(i.key, draws, self.config)
        logits = i.of_conversations(linear_of(out, self.lm.text_linear), i.layout.guides_text)
        silence = mx.arange(logits.shape[-1]) == PAD
        logits = logits + mx.where(silence, i.scale(3), 0).astype(logits.dtype)
        token = draw_text(logits, i.scale(0), noise[0]).astype(mx.int32)
        if not self.slices:
            return token, None
        if_word, if_pad = mx.split(i.forced_text, 2)
        said = mx.where(token == NEW_WORD, if_word, if_pad)

        def choose(s: int, logits: mx.array) -> mx.array:
            return draw_code(i.of_conversations(logits), i.scale(1), noise[1 + s])

        codes = self.lm.depth.frame(out, said, choose, self.slices)
        return mx.concatenate([token.astype(mx.uint32), *codes]), None
