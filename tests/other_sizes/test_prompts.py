"""Prompts of models of other sizes: what PyTorch's forced steps leave, and how it goes on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.generator import Forced, LmGenerator
from moshi_mlx.lm.model import Lm
from tests.support.models.lm_goldens import GREEDY
from tests.support.models.random_models import conversation_config, described, written
from tests.support.talks.lm_talks import steps
from tests.support.torch_peer import TORCH_PEER, Arrays, made_by_torch

pytestmark = TORCH_PEER
GOES_ON = 40  # greedy steps after the forced ones
GUIDED: dict[str, Any] = {
    "conditions": {"description": "very_good"},
    "negatives": {"description": "very_bad"},
    "cfg_coef": 2.0,
}
SCRIPT = """
from moshi.conditioners import ConditionAttributes

def run(job, given):
    lm, N, made = lm_of(job["folder"]), job["forced"], {}
    text, own, user = given["text"], given["own"], given["user"]
    said, sampled, out = [], [], []

    def on_text(token):
        if len(said) < N:
            token[:] = int(text[len(said)])
        said.append(int(token[0]))

    def on_audio(codes):
        if len(sampled) < N:
            codes[0, :] = torch.tensor(own[:, len(sampled)])
        sampled.append(codes[0].numpy().copy())

    words = [ConditionAttributes(text={"description": w}, tensor={}) for w in job["words"]]
    given_words = lm.condition_provider.prepare_and_provide(words) if words else None
    gen = LMGen(
        lm, use_sampling=False, cfg_coef=job["cfg_coef"], condition_tensors=given_words,
        on_text_hook=on_text, on_audio_hook=on_audio,
    )
    with gen.streaming(1):
        for s in range(user.shape[1]):
            if s == N:
                made["line"] = gen._streaming_state.cache[0].numpy().copy()
                for i, layer in enumerate(lm.transformer.layers):
                    ring = layer.self_attn._streaming_state.kv_cache
                    order = [p % ring.capacity for p in range(max(0, N - ring.capacity), N)]
                    made[f"kv{i}"] = ring.cache[:, :, :, order].numpy().copy()
            found = gen.step(torch.tensor(user[:, s]).long()[None, :, None])
            out.append(np.full(1 + lm.dep_q, -2) if found is None else found[0, :, 0].numpy())
    return made | {"text": said, "sampled": sampled, "out": np.array(out)}
"""


@dataclass(frozen=True)
class Case:
    """A model by its seed, `forced` steps of it; guided as Hibiki is, or plain."""

    seed: int
    where: str
    guided: bool

    def config(self) -> dict[str, Any]:
        rng = np.random.default_rng(self.seed)
        raw = conversation_config(rng)
        return described(rng, raw) if self.guided else raw

    @property
    def forced(self) -> int:
        context = self.config()["context"]
        return {"below": context - 3, "exactly": context, "far above": 3 * context + 2}[self.where]

    def given(self) -> dict[str, np.ndarray]:
        """text [N], own [dep_q, N], user [user_q, N + GOES_ON]."""
        raw, rng, N = self.config(), np.random.default_rng(self.forced), self.forced
        user_q = raw["n_q"] - raw["dep_q"]
        return {
            "text": rng.integers(0, raw["text_card"], N),
            "own": rng.integers(0, raw["card"], (raw["dep_q"], N)),
            "user": rng.integers(0, raw["card"], (user_q, N + GOES_ON)),
        }

    def job(self, folder: Path) -> dict[str, Any]:
        words = ["very_good", "very_bad"] if self.guided else []
        coef = GUIDED["cfg_coef"] if self.guided else 1.0
        told = {"folder": str(folder), "forced": self.forced, "words": words, "cfg_coef": coef}
        return told | {"weights": self.seed}

    def tokens(self) -> np.ndarray:
        """Of the positions 0 to N - 1, and what frames before the last still bring after them."""
        raw, given, N = self.config(), self.given(), self.forced
        most, own = max(raw["delays"]), raw["dep_q"]
        tokens = np.full((N + most, 1 + raw["n_q"]), -2)
        for stream, delay in enumerate(raw["delays"]):
            if stream <= own:
                said = given["text"] if not stream else given["own"][stream - 1]
                tokens[1:N, stream] = said[: N - 1]
            else:
                tokens[delay : N - 1 + delay, stream] = given["user"][stream - 1 - own, : N - 1]
                if not delay:
                    tokens[N - 1, stream] = given["user"][stream - 1 - own, N - 1]
            tokens[: delay + 1, stream] = -1
        return tokens


WHERE = ("below", "exactly", "far above")
CASES = [
    Case(seed, where, guided)
    for seed, guided in ((1, False), (2, False), (3, True), (4, False), (5, True))
    for where in WHERE
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[int, Path]:
    place = tmp_path_factory.mktemp("models")
    return {c.seed: written(place / str(c.seed), c.config()) for c in CASES if c.where == WHERE[0]}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, folders) -> dict[Case, Arrays]:
    jobs = [(case.job(folders[case.seed]), case.given()) for case in CASES]
    made = made_by_torch(SCRIPT, tmp_path_factory.mktemp("theirs"), jobs)
    return dict(zip(CASES, made, strict=True))


def check_state(generator: LmGenerator, N: int, their: Arrays) -> None:
    window = generator.lm.config.transformer.context or 0
    order = [p % window for p in range(max(0, N - window), N)]
    for i, ring in enumerate(generator.buffers.rings):
        mine = np.array(ring[0])[..., order, :]
        np.testing.assert_allclose(mine, their[f"kv{i}"].reshape(mine.shape), atol=1e-4)


def check_rest(generator: LmGenerator, case: Case, their: Arrays) -> None:
    found = steps(generator, case.given()["user"].T[case.forced :])
    N = case.forced
    assert [step.text_token for step in found] == their["text"][N:].tolist()
    np.testing.assert_array_equal([step.sampled for step in found], their["sampled"][N:])
    out = their["out"][N:, 1:]
    heard = [np.full(out.shape[1], -2) if s.codes is None else s.codes for s in found]
    np.testing.assert_array_equal(heard, out)


@pytest.mark.parametrize("whole", [False, True], ids=["stepped", "in one pass"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forced_steps_leave_what_pytorchs_leave(folders, theirs, case: Case, whole: bool) -> None:
    """One by one, or all but the last as a prompt in one pass: keys, values, line, all tokens."""
    lm: Lm = moshi_mlx.load_lm(folders[case.seed], dtype="float32")
    given, their, N = case.given(), theirs[case], case.forced
    options: dict[str, Any] = {**(GUIDED if case.guided else {})}
    prompt = lm.prompt(case.tokens(), **options) if whole else None
    generator = lm.generator(seed=0, prompt=prompt, **options, **GREEDY)
    for s in range(N - 1 if whole else 0, N):
        generator.step(given["user"][:, s], Forced(int(given["text"][s]), given["own"][:, s]))
    check_state(generator, N, their)
    if not whole:
        np.testing.assert_array_equal(generator.snapshot().past.line.line, their["line"])
    check_rest(generator, case, their)
