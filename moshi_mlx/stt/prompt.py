"""A prompt: a sound whose words are known, heard before the speaker. It sets how names are spelled.

While it is heard the model may choose between silence, the start of a word and the prompt's next
piece alone; afterwards the text stays in its past. Source: kyutai-labs/delayed-streams-modeling,
`transcribe_from_file_via_pytorch_with_prompt.py`.
"""

from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ..clock import FRAME_SAMPLES
from ..codec.interface import checked_pcm
from ..config.lm_config import NO_INPUT
from ..errors import MoshiError
from ..lm.buffers import Buffers
from ..lm.layers.linear import linear_of
from ..lm.model import frame_noise
from ..lm.own_frame import OwnFrame
from ..lm.sampling import Draws
from ..lm.step_inputs import StepInputs

SILENCE_FRAMES = 10  # between a prompt and the speaker


class Prompt(NamedTuple):
    """text: what is said in pcm, float32 [n] at 24 kHz."""

    text: str
    pcm: np.ndarray


def prompt_frames(prompt: Prompt) -> np.ndarray:
    """float32 [frames, 1920], its silence counted. Raises MoshiError for what is no prompt."""
    if not isinstance(prompt, tuple) or len(prompt) != 2 or not isinstance(prompt[0], str):
        raise MoshiError("a prompt is a text and the sound that it is said in: Prompt(text, pcm)")
    pcm = checked_pcm(prompt[1])
    if not prompt[0].strip() or not len(pcm):
        raise MoshiError("a prompt needs a text and the sound that it is said in")
    silence = SILENCE_FRAMES * FRAME_SAMPLES
    return np.pad(pcm, (0, -len(pcm) % FRAME_SAMPLES + silence)).reshape(-1, FRAME_SAMPLES)


class PromptedFrame(OwnFrame):
    """One frame of `lm`, as a conversation's model: `forced_text` is the prompt's next piece.

    -1: the prompt is over, everything may be sampled.
    """

    forced_texts = 1

    def step(
        self, inputs: StepInputs, buffers: Buffers, draws: Draws
    ) -> tuple[mx.array, mx.array | None]:
        """The text token [1], and the extra heads."""
        i, config = inputs, self.config
        out = self.lm.temporal_step(i.text, i.rows, buffers, i.at, i.given)
        logits = linear_of(out, self.lm.text_linear)
        pieces, piece = mx.arange(logits.shape[-1]), i.forced_text
        may = (pieces == config.text_padding_id) | (pieces == config.text_end_padding_id)
        may = may | (pieces == piece) | (piece == NO_INPUT)
        noise = frame_noise(i.key, draws, config)
        token = draws[0](mx.where(may, logits, -mx.inf), i.scale(0), noise[0])
        return token.astype(mx.uint32), self.lm.heads(out)
