"""Drawing tokens from logits and noise that are known, against numpy.

Shapes: B rows, V vocabulary.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from moshi_mlx.config.reading import parse_config
from moshi_mlx.lm.model import frame_noise
from moshi_mlx.lm.sampling import Sampler

from .. import probe
from ..part import NONE, Deviation, Fallback
from ..site import DTYPES, Site, host, unequal

ROWS = 16
# vocabulary, top-k, top-p: text of the 7B, its codes, nano's, all tokens, a nucleus
CASES = ((32_000, 25, 0.0), (2048, 250, 0.0), (256, 50, 0.0), (2048, 0, 0.0), (2048, 0, 0.8))
TEMPERATURE = 0.7
LOUD = 60.0
CLOSE = 1e-4  # two candidates so close are not told apart
OF_NOISE = 1e-4  # Gumbel noise of two logarithms, up to about 16

MakeSampler = Callable[[int, float], Sampler]


def sampler(top_k: int, top_p: float) -> Sampler:
    return Sampler(False, top_k, top_p)


@dataclass(frozen=True)
class SamplingCheck:
    """Top-k, top-p, greedy, in every dtype of logits; and the noise that a frame draws."""

    make: MakeSampler = sampler
    name: str = "sampling"
    fallback: Fallback = NONE

    def check(self, site: Site) -> Iterator[Deviation]:
        for kind, dtype in DTYPES.items():
            for V, top_k, top_p in CASES:
                off = self.drawn(site, dtype, V, top_k, top_p)
                what = f"top-p {top_p}" if top_p else f"top-k {top_k}"
                yield Deviation(f"{kind}, {what} of {V}", off, 0.0)
        yield self.noise(site)

    def drawn(self, site: Site, dtype: mx.Dtype, V: int, top_k: int, top_p: float) -> float:
        """The share of tokens that are others than numpy's."""
        of = probe.random(f"logits {V}")
        logits = probe.as_bf16(3 * of.standard_normal((ROWS, V)))
        with site.under_test():
            given = mx.array(logits).astype(dtype)
            logits = host(given)
        kept, margin = allowed(logits, top_k, top_p)
        noise = of.gumbel(size=(ROWS, V)).astype(np.float32)
        favour(noise, logits, kept)
        with site.under_test():
            draw, greedy = self.make(top_k, top_p), Sampler(True, 0, 0.0)
            ours = host(draw(given, mx.array(TEMPERATURE), mx.array(noise)))
            likeliest = host(greedy(given, mx.array(0.0), mx.array(0.0)))
        score = np.where(kept, logits.astype(np.float64) / TEMPERATURE + noise, -np.inf)
        best = np.sort(score, axis=-1)
        margin = np.minimum(margin, best[:, -1] - best[:, -2])
        told = np.where(margin > CLOSE, score.argmax(-1), -1)
        return max(unequal(ours.astype(np.int64), told), unequal(likeliest, logits.argmax(axis=-1)))

    def noise(self, site: Site) -> Deviation:
        """Of one frame, against that of the CPU: the same bits, and logarithms."""
        config = parse_config(probe.TALKER, "probe")
        draws = (self.make(25, 0.0), self.make(250, 0.0))

        def drawn() -> np.ndarray:
            key = mx.array([3, 7], mx.uint32)
            return host(mx.concatenate(frame_noise(key, draws, config), axis=-1))

        with site.judge():
            right = drawn()
        with site.under_test():
            ours = drawn()
        same = np.isfinite(right)
        off = np.abs(ours[same] - right[same]).max()
        if np.isnan(ours).any() or not same.mean() > 0.999:
            off = np.nan
        return Deviation("noise of a frame", float(off), OF_NOISE)


def allowed(logits: np.ndarray, top_k: int, top_p: float) -> tuple[np.ndarray, np.ndarray]:
    """Which tokens may be drawn, [B, V], and how clear the edge of a nucleus is, [B]."""
    if top_p:
        scaled = logits.astype(np.float64) / TEMPERATURE
        probs = np.exp(scaled - scaled.max(-1, keepdims=True))
        probs /= probs.sum(-1, keepdims=True)
        ordered = -np.sort(-probs, axis=-1)
        before = np.cumsum(ordered, -1) - ordered
        last = np.where(before > top_p, np.inf, ordered).min(-1)
        return probs >= last[:, None], np.abs(before - top_p).min(-1)
    kept = np.ones(logits.shape, bool)
    if top_k:
        kept = logits >= np.sort(logits, axis=-1)[:, -top_k][:, None]
    return kept, np.full(len(logits), np.inf)


def favour(noise: np.ndarray, logits: np.ndarray, kept: np.ndarray) -> None:
    """Noise that draws the last token which may be drawn in even rows, in odd ones the first that
    may not: one token more or fewer is seen at once."""
    for row in range(len(noise)):
        if row % 2 == 0:
            noise[row, np.where(kept[row], logits[row], np.inf).argmin()] = LOUD
        elif not kept[row].all():
            noise[row, np.where(kept[row], -np.inf, logits[row]).argmax()] = LOUD
