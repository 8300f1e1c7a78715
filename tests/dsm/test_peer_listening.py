"""Kyutai's PyTorch package hears what we hear, plain and after a prompt: the same tokens and heads.

Runs where PEER_PYTHON names an interpreter with `moshi` and torch (`make test-peer`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.stt import Prompt, Transcriber, Transcript
from tests.support.fakes.heard_words import GOLDEN
from tests.support.torch_peer import TORCH_PEER, Arrays, made_by_torch

pytestmark = TORCH_PEER
# The hook of their script with a prompt, and their loop, whose first frame goes in twice.
SCRIPT = """
def run(job, given):
    codes = torch.tensor(given["codes"])
    return listened(lm_of(job["folder"]), codes, job["pieces"], job["cut"])
"""


def sound(seed, seconds):
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(0.0, 0.1, round(seconds * 24_000)), np.float32)


def whole(*parts):
    """Each part in whole frames, one after the other."""
    return np.concatenate([np.pad(part, (0, -len(part) % 1920)) for part in parts])


@dataclass(frozen=True)
class Case:
    """A recording, after a prompt or without one."""

    pcm: np.ndarray
    prompt: Prompt | None = None

    def job(self, stt: Transcriber) -> tuple[dict[str, Any], Arrays]:
        """What they are told: the codes of all that is heard, with its silence."""
        lead, tail = np.zeros(13 * 1920, np.float32), np.zeros(7 * 1920, np.float32)
        pieces, before = [], []
        if self.prompt is not None:
            before = [self.prompt.pcm, np.zeros(10 * 1920, np.float32)]
            pieces = stt.tokenizer.encode(self.prompt.text)
        heard = stt.mimi.encode(whole(lead, *before, self.pcm, tail))
        return {"folder": str(GOLDEN), "pieces": pieces, "cut": self.cut}, {"codes": heard}

    @property
    def frames(self) -> int:
        """Of the prompt, its silence counted."""
        return 0 if self.prompt is None else len(whole(self.prompt.pcm)) // 1920 + 10

    @property
    def cut(self) -> int:
        """Tokens of the prompt: half a second of delay is six whole steps."""
        return self.frames + 13 + 6 if self.frames else 0


PLAIN = {f"seed {seed}": Case(sound(seed, 5 + seed)) for seed in range(4)}
PROMPTED = {
    f"prompted {seed}": Case(sound(20 + seed, 4), Prompt("a", sound(10 + seed, 2)))
    for seed in range(2)
}
CASES = PLAIN | PROMPTED


@pytest.fixture(scope="module")
def stt() -> Transcriber:
    return moshi_mlx.load_stt(GOLDEN, dtype="float32")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, stt) -> dict[str, Arrays]:
    jobs = [case.job(stt) for case in CASES.values()]
    made = made_by_torch(SCRIPT, tmp_path_factory.mktemp("theirs"), jobs)
    return dict(zip(CASES, made, strict=True))


def ours(stt: Transcriber, case: Case) -> Transcript:
    return stt.transcribe(case.pcm, case.prompt)


@pytest.mark.parametrize("name", PLAIN)
def test_a_recording(stt, theirs, name: str) -> None:
    made, their = ours(stt, PLAIN[name]), theirs[name]
    assert made.tokens.tolist() == their["tokens"].tolist()
    assert made.pauses is not None and np.max(np.abs(made.pauses - their["heads"])) < 1e-4


@pytest.mark.parametrize("name", PROMPTED)
def test_a_recording_after_a_prompt(stt, theirs, name: str) -> None:
    case = PROMPTED[name]
    tokens = theirs[name]["tokens"].tolist()
    assert ours(stt, case).tokens.tolist() == [3] * (case.cut - case.frames) + tokens[case.cut :]
