"""Whole models: the embedded one against Kyutai's PyTorch code, several talks at once, Helium."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from moshi_mlx.config.reading import parse_config
from moshi_mlx.lm.batch import BatchGenerator
from moshi_mlx.lm.conversation import Step
from moshi_mlx.lm.model import Lm
from moshi_mlx.weights.loading import load_lm

from .. import probe
from ..goldens import golden, helium_ids, user_codes
from ..part import NONE, Deviation, Fallback
from ..site import DTYPES, Site, apart, host, unequal
from ..steps import ForcedSteps
from .language import kept, likeliest
from .rounding import OF_MODEL

if TYPE_CHECKING:
    from moshi_mlx.helium import Helium

GREEDY: dict[str, Any] = {"text_temperature": 0.0, "audio_temperature": 0.0}
BATCH, BATCH_STEPS, LEAVES_AT = 3, 12, 5
GUIDANCE = 2.0


def tokens_of(steps: Sequence[Step]) -> np.ndarray:
    """[T, 1 + S]."""
    return np.array([[step.text_token, *step.sampled] for step in steps])


@dataclass(frozen=True)
class NanoCheck:
    """The embedded model: teacher forced, and a greedy talk."""

    name: str = "embedded model"
    fallback: Fallback = NONE

    def check(self, site: Site) -> Iterator[Deviation]:
        with site.under_test():
            lm = load_lm("nano", "float32", memory_limits=False)
            inputs = probe.tokens(lm.config, probe.STEPS, "nano")
            known = probe.known(lm.config, probe.STEPS, "nano known")
            ours = ForcedSteps(lm).run(inputs, known)
        for what, logits in (("text", ours.text), ("audio", ours.audio)):
            off = apart(kept(logits, probe.STEPS), golden()[f"nano.{what}"])
            yield Deviation(f"{what}, {probe.STEPS} steps", off, OF_MODEL["fp32"])
        wrong = unequal(likeliest(ours), golden()["nano.greedy"])
        yield Deviation("likeliest tokens", wrong, 0.0)
        with site.under_test():
            talk = lm.generator(seed=0, compiled=False, **GREEDY)
            steps = [talk.step(codes) for codes in user_codes(lm.config).T]
        said = np.array([[s.text_token, *s.codes] for s in steps if s.codes is not None])
        right = golden()["nano.talk"]
        yield Deviation("a greedy talk", unequal(said[:, 1:].T, right[1:]), 0.0)


@dataclass(frozen=True)
class BatchCheck:
    """Talks in one pass, one of which leaves and another joins, each as it is alone; guided too.

    The judge holds them one by one, on the CPU.
    """

    name: str = "batches, guidance"
    fallback: Fallback = NONE

    def check(self, site: Site) -> Iterator[Deviation]:
        with site.under_test():
            lm = load_lm("nano", "float32", memory_limits=False)
        for what, options in (("batch", GREEDY), ("guided", {**GREEDY, "cfg_coef": GUIDANCE})):
            with site.judge():
                alone = [self.alone(lm, b, 0, options) for b in range(BATCH)]
                later = self.alone(lm, 0, LEAVES_AT, options)
            with site.under_test():
                ours = self.together(lm, options)
            right = [*alone[1:], np.concatenate([alone[0][:LEAVES_AT], later])]
            off = max(unequal(a, b) for a, b in zip(ours, right, strict=True))
            yield Deviation(what, off, 0.0)

    def user(self, lm: Lm, b: int) -> np.ndarray:
        return np.roll(user_codes(lm.config), 5 * b, axis=1)[:, :BATCH_STEPS].T

    def alone(self, lm: Lm, b: int, first: int, options: dict[str, Any]) -> np.ndarray:
        talk = lm.generator(seed=b, compiled=False, **options)
        return tokens_of([talk.step(codes) for codes in self.user(lm, b)[first:]])

    def together(self, lm: Lm, options: dict[str, Any]) -> list[np.ndarray]:
        """Those that stay, then the slot whose talk leaves and is followed by another."""
        talks = BatchGenerator(lm, BATCH, list(range(BATCH)), compiled=False, **options)
        said: list[list[Step]] = [[] for _ in range(BATCH)]
        for t in range(BATCH_STEPS):
            if t == LEAVES_AT:
                talks.leave(0)
                talks.join(0, seed=0)
            codes = np.stack([self.user(lm, b)[t] for b in range(BATCH)])
            for b, step in enumerate(talks.step(codes)):
                assert step is not None
                said[b].append(step)
        return [tokens_of(steps) for steps in (*said[1:], said[0])]


@dataclass(frozen=True)
class HeliumCheck:
    """The text model: a whole text at once, and token by token with its cache."""

    weights: probe.Change = probe.unchanged
    name: str = "Helium"
    fallback: Fallback = NONE

    def check(self, site: Site) -> Iterator[Deviation]:
        config = parse_config(probe.TALKER, "probe")
        ids = mx.array(helium_ids(config))
        for kind, dtype in DTYPES.items():
            with site.under_test():
                model = self.model(dtype)
                whole = host(model(ids))[0]
                cache = model.make_cache()
                rows = [host(model(ids[:, t : t + 1], cache))[0] for t in range(ids.shape[1])]
            right = golden()["talker.helium"]
            for what, logits in (("at once", whole), ("by token", np.concatenate(rows))):
                off = apart(kept(logits, ids.shape[1]), right)
                yield Deviation(f"{kind}, {what}", off, OF_MODEL[kind])

    def model(self, dtype: mx.Dtype) -> "Helium":
        from moshi_mlx.helium import Helium, HeliumConfig  # mlx-lm takes seconds to import

        config = parse_config(probe.TALKER, "probe")
        inner = replace(config.transformer, context=None)
        model = Helium(HeliumConfig(inner, inner.num_heads, config.text_card + 1))
        names = ("text_emb.", "transformer.", "out_norm.", "text_linear.")
        tensors = probe.tensors(config, self.weights)
        wanted = {n: t for n, t in tensors.items() if n.startswith(names)}
        rows = config.text_card + 1 - len(wanted["text_linear.weight"])
        wanted["text_linear.weight"] = np.pad(wanted["text_linear.weight"], ((0, rows), (0, 0)))
        model.load_weights([(n, mx.array(t).astype(dtype)) for n, t in wanted.items()])
        model.eval()
        mx.eval(model.parameters())
        return model
