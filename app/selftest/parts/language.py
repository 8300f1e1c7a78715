"""The language model against Kyutai's PyTorch code: in time, in depth, with conditions, compiled.

Shapes: T steps, S depth slices, K codebooks, C width.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from moshi_mlx.lm.model import Lm

from .. import probe
from ..goldens import columns_of, golden, rows_of
from ..models import RIGHT, Makers
from ..part import NONE, UNCOMPILED, Deviation, Fallback, NotHereError
from ..site import DTYPES, Site, apart, host, unequal
from ..steps import Compile, ForcedSteps, Logits, op_by_op
from .rounding import OF_MODEL

CONDITIONS_MASK = [1.0] * (probe.VOICE_STEPS - 1) + [0.0]


COMPILED_STEPS = 6
SAMPLED = {"seed": 5, "text_temperature": 0.7, "audio_temperature": 0.8}


def kept(logits: np.ndarray, steps: int) -> np.ndarray:
    """Of logits [..., T, V] what a golden has."""
    return kept_columns(logits[..., rows_of(steps), :])


def kept_columns(logits: np.ndarray) -> np.ndarray:
    return logits[..., columns_of(logits.shape[-1])]


def likeliest(logits: Logits) -> np.ndarray:
    """[1 + S, T]."""
    return np.concatenate([logits.text.argmax(-1)[None], logits.audio.argmax(-1)])


@dataclass(frozen=True)
class TemporalCheck:
    """Steps past a ring's wrap, teacher forced: text logits in float32 and halves."""

    makers: Makers = RIGHT
    name: str = "temporal transformer"
    fallback: Fallback = NONE

    def check(self, site: Site) -> Iterator[Deviation]:
        for kind, dtype in DTYPES.items():
            steps = probe.STEPS if kind == "fp32" else probe.SHORT_STEPS
            with site.under_test():
                lm = self.makers.lm(probe.TALKER, dtype)
                inputs = probe.tokens(lm.config, probe.STEPS, "talker")
                known = probe.known(lm.config, probe.STEPS, "talker known")
                ours = ForcedSteps(lm).run(inputs[:, :steps], known[:, :steps])
            rows = rows_of(steps)
            right = golden()["talker.text"][: len(rows)]
            yield Deviation(
                f"{kind}, {steps} steps", apart(kept(ours.text, steps), right), OF_MODEL[kind]
            )
            if kind == "fp32":
                wrong = unequal(ours.text.argmax(-1), golden()["talker.greedy"][0])
                yield Deviation("likeliest words", wrong, 0.0)


@dataclass(frozen=True)
class DepthCheck:
    """A frame slice by slice, and whole sequences at once, given the same temporal outputs."""

    makers: Makers = RIGHT
    name: str = "depth transformer"
    fallback: Fallback = NONE

    def check(self, site: Site) -> Iterator[Deviation]:
        for kind, dtype in DTYPES.items():
            with site.under_test():
                lm = self.makers.lm(probe.TALKER, dtype)
                known = mx.array(probe.known(lm.config, probe.SHORT_STEPS, "depth"))
                out = mx.array(probe.temporal_outputs(lm.config, probe.SHORT_STEPS)).astype(dtype)
                frames = [self.frame(lm, out[t : t + 1], known[:, t]) for t in range(len(out))]
                slices = np.stack(frames, axis=1)
                whole = lm.depth(out[None], known[:1], known[None, 1:])
                at_once = host(whole[0].swapaxes(0, 1))
            right = golden()["talker.depth"]
            yield Deviation(
                f"{kind}, slice by slice", apart(kept_columns(slices), right), OF_MODEL[kind]
            )
            yield Deviation(f"{kind}, at once", apart(kept_columns(at_once), right), OF_MODEL[kind])

    def frame(self, lm: Lm, out: mx.array, known: mx.array) -> np.ndarray:
        """Logits [S, card] of one frame whose tokens are known, [1 + S]."""
        logits: list[mx.array] = []

        def choose(s: int, of_slice: mx.array) -> mx.array:
            logits.append(of_slice)
            return known[1 + s : 2 + s]

        lm.depth.frame(out, known[:1], choose)
        return host(mx.concatenate(logits))


@dataclass(frozen=True)
class ConditionCheck:
    """A model that is told how to speak: conditions summed and attended to, low rank tables."""

    makers: Makers = RIGHT
    name: str = "conditions, cross attention"
    fallback: Fallback = NONE

    def check(self, site: Site) -> Iterator[Deviation]:
        steps = probe.SHORT_STEPS
        for kind, dtype in DTYPES.items():
            with site.under_test():
                lm = self.makers.lm(probe.READER, dtype)
                voice = (probe.voice(lm.config), CONDITIONS_MASK)
                given = lm.conditions({"mood": "glad", "voice": voice})
                inputs = probe.tokens(lm.config, steps, "reader")
                known = probe.known(lm.config, steps, "reader known")
                ours = ForcedSteps(lm, given=given).run(inputs, known)
            for what, logits in (("text", ours.text), ("audio", ours.audio)):
                off = apart(kept(logits, steps), golden()[f"reader.{what}"])
                yield Deviation(f"{kind}, {what}", off, OF_MODEL[kind])
            if kind == "fp32":
                wrong = unequal(likeliest(ours), golden()["reader.greedy"])
                yield Deviation("likeliest tokens", wrong, 0.0)


@dataclass(frozen=True)
class CompiledCheck:
    """The compiled step against the same operations one by one, and the tokens of both.

    `compile`: what is tried, as `mx.compile`.
    """

    compile: Compile = mx.compile
    name: str = "compiled step"
    fallback: Fallback = UNCOMPILED

    def check(self, site: Site) -> Iterator[Deviation]:
        if not site.compiles:
            raise NotHereError("nothing is compiled here: there is no C++ compiler that works")
        for kind in ("fp32", "bf16") if site.on_gpu else ("fp32",):
            with site.under_test():
                lm = RIGHT.lm(probe.SMALL_TALKER, DTYPES[kind])
                inputs = probe.tokens(lm.config, COMPILED_STEPS, "compiled")
                known = probe.known(lm.config, COMPILED_STEPS, "compiled known")
                ours, right = (
                    ForcedSteps(lm, compile).run(inputs, known)
                    for compile in (self.compile, op_by_op)
                )
            yield Deviation(f"{kind}, text", apart(ours.text, right.text), OF_MODEL[kind] / 2)
            yield Deviation(f"{kind}, codes", apart(ours.audio, right.audio), OF_MODEL[kind] / 2)
            if kind == "fp32":
                yield Deviation("sampled tokens", self.sampled(site, lm), 0.0)

    def sampled(self, site: Site, lm: Lm) -> float:
        """The share of tokens of a talk that are others when it is compiled."""
        user = np.zeros(lm.config.user_q, np.int32)
        talks = []
        with site.under_test():
            for compiled in (True, False):
                talk = lm.generator(compiled=compiled, **SAMPLED)
                steps = [talk.step(user) for _ in range(COMPILED_STEPS)]
                talks.append(np.array([[s.text_token, *s.sampled] for s in steps]))
        return unequal(*talks)
