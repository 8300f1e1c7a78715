"""A prompt in one pass: all its tokens are known, so no head and no depth transformer is needed.

What is kept are keys and values, as the steps one by one would have left them in the rings.
Shapes: r rows of one conversation, T positions, C width, H heads, D head width, n live slots.
"""

from itertools import repeat
from typing import Any

import mlx.core as mx
import numpy as np

from ...config.lm_config import NO_INPUT, NOT_GENERATED, LmConfig
from ...errors import MoshiError
from ..buffers import Conditions
from ..delay_line import LineState
from ..layers.kv_ring import Ring, quantized
from ..layers.transformer import Transformer


def prefill(
    transformer: Transformer, x: mx.array, given: Conditions, kv_bits: int
) -> tuple[Ring, ...]:
    """Inputs [r, T, C] of positions 0 to T - 1 -> what the rings hold after them, evaluated.

    Layer by layer, so that memory holds one layer's attention at a time.
    """
    window, slots = transformer.config.context or x.shape[1], []
    attended = zip(given.keys, given.values, strict=True) if given.keys else repeat(None)
    for block, own in zip(transformer.layers, attended, strict=False):
        x, kv = block.remember(x, own, kv_bits)
        kv = in_slots(kv, window)
        slots.append((kv,) if kv_bits == 16 else quantized(kv))
        mx.eval(slots[-1])  # and with it x before this layer; that after the last is never made
    return tuple(slots)


def in_slots(kv: mx.array, window: int) -> mx.array:
    """Keys and values [2, r, H, T, D] in the order of time -> [2, r, H, n, D], position p in slot
    p % window."""
    T = kv.shape[3]
    return kv if window >= T else mx.roll(kv[..., T - window :, :], T % window, 3)


def checked_prompt(tokens: Any, config: LmConfig) -> np.ndarray:
    """int32 [T + P, 1 + n_q] of what `Lm.prompt` takes, streams that haven't begun set to initial.

    Raises MoshiError.
    """
    array, streams = np.array(tokens), 1 + config.n_q
    if array.ndim != 2 or array.shape[1] != streams:
        raise MoshiError(
            f"a prompt's tokens must have the shape [positions, {streams}], not {list(array.shape)}"
        )
    if not np.issubdtype(array.dtype, np.integer):
        raise MoshiError(f"a prompt's tokens must be integers, not {array.dtype}")
    text = (config.text_card + 1) ** (2 if config.demux_second_stream else 1)
    most = np.array([text] + [config.card + 1] * config.n_q)
    if ((array < NOT_GENERATED) | (array >= most)).any():
        raise MoshiError(
            f"a prompt's tokens must lie between -1 and {text - 1}, its codes {config.card}"
        )
    delays = np.array(config.delays)
    initial = np.array([config.text_card] + [config.card] * config.n_q)
    begun = np.arange(len(array))[:, None] > delays
    return np.where(begun, array, initial).astype(np.int32)


def prompt_length(tokens: np.ndarray, config: LmConfig, embedded: int = 0) -> int:
    """T: how many positions are known whole; `embedded`: of the first so many nothing need be.

    Raises MoshiError where something is missing in the middle.
    """
    known = (tokens != NOT_GENERATED).all(axis=1)
    known[:embedded] = True
    T = len(known) if known.all() else int(np.argmin(known))
    if not T:
        raise MoshiError("a prompt needs at least one position whose tokens are all known")
    if len(known) - T > config.max_delay:
        raise MoshiError(
            f"position {T} of the prompt has a token that isn't known (-2); only the last "
            f"{config.max_delay} positions may have such"
        )
    return T


def open_end(tokens: np.ndarray, T: int, config: LmConfig) -> np.ndarray:
    """The same, nothing given after position T - 1 of a stream that hasn't begun: it is sampled.

    Raises MoshiError for codes there that can't be decoded.
    """
    begun = np.arange(len(tokens))[:, None] > np.array(config.delays)
    begun[:T] = True
    tokens = np.where(begun, tokens, NOT_GENERATED)
    if (tokens[T:, 1 : 1 + config.dep_q] >= config.card).any():
        raise MoshiError(f"codes after a prompt's end must be below {config.card}")
    return tokens


def line_after(tokens: np.ndarray, T: int, config: LmConfig) -> LineState:
    """The delay line before the step that ends a prompt, at position T - 1."""
    size = config.max_delay + 2
    line = np.full((1 + config.n_q, size), NOT_GENERATED, np.int32)
    for p in range(max(0, T - size), T):
        line[:, p % size] = tokens[p]
    own = line[: 1 + config.dep_q]  # is read when sound is made of it: nothing but codes
    most = np.array([config.text_card_out] + [config.card] * config.dep_q)[:, None] - 1
    np.clip(own, 0, most, out=own)
    for stream in range(1 + config.dep_q, 1 + config.n_q):
        for p in range(T, T - 1 + config.delays[stream]):  # of frames before the prompt's last
            line[stream, p % size] = NO_INPUT
    return LineState(T - 1, line, tokens[T - 1 :])
