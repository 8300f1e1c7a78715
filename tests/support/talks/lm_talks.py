"""Conversations of the language model alone, with codes made by chance, and the tokens they fed."""

from collections.abc import Iterable

import numpy as np

from moshi_mlx.generator import LmGenerator, Step
from moshi_mlx.lm.model import Lm


def user_codes(lm: Lm, frames: int, seed: int = 0) -> np.ndarray:
    """int [frames, user_q]."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, lm.config.card, (frames, lm.config.user_q))


def steps(generator: LmGenerator, user: Iterable[np.ndarray]) -> list[Step]:
    return [generator.step(codes) for codes in user]


def said(made: list[Step]) -> np.ndarray:
    """Everything in one array: text, own samples, and the complete codes (-9 where there are none).

    [frames, 1 + 2 dep_q]
    """
    rows = [
        [s.text_token, *s.sampled, *(np.full_like(s.sampled, -9) if s.codes is None else s.codes)]
        for s in made
    ]
    return np.array(rows)


def fed(lm: Lm, made: list[Step], user: np.ndarray) -> np.ndarray:
    """What the model was given at the positions of `made` and after it, as far as it is known.

    int [len(made) + 1 + max_delay, 1 + n_q], -2 for what isn't.
    """
    config, N = lm.config, len(made)
    own = np.array([[s.text_token, *s.sampled] for s in made])  # of step s, fed at s + 1
    own = own.reshape(N, 1 + config.dep_q)
    tokens = np.full((N + 1 + config.max_delay, 1 + config.n_q), -2)
    for stream, delay in enumerate(config.delays):
        if stream <= config.dep_q:
            tokens[1 : N + 1, stream] = own[:, stream]
        else:
            heard = user[: len(tokens) - delay, stream - 1 - config.dep_q]
            tokens[delay : delay + len(heard), stream] = heard
        tokens[: delay + 1, stream] = config.card if stream else config.text_card
    return tokens
