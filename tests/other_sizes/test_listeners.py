"""Speech to text of other sizes and delays: tokens and heads are PyTorch's, also flushed."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.stt import Prompt
from tests.support.models.random_models import listening_config, written_each
from tests.support.torch_peer import TORCH_PEER, Arrays, made_by_torch

pytestmark = TORCH_PEER
# Their own Mimi and their loop, whose first frame goes in twice; the hooks of their script with a
# prompt.
SCRIPT = """
def run(job, given):
    info = opened(job["folder"])
    spelled = info.get_text_tokenizer().encode(job["prompt"])
    codes = info.get_mimi().encode(torch.tensor(given["pcm"])[None, None])[0]
    return listened(lm_of(job["folder"]), codes, spelled, job["cut"])
"""
SILENCE_FRAMES = 10  # after a prompt


def sound(seed: int, seconds: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(0.0, 0.1, round(seconds * 24_000)), np.float32)


def whole(*parts: np.ndarray) -> np.ndarray:
    """Each part in whole frames, one after the other."""
    return np.concatenate([np.pad(part, (0, -len(part) % 1920)) for part in parts])


@dataclass(frozen=True)
class Case:
    """A model by its seed and what it hears, after a prompt of `prompt_s` or without."""

    seed: int
    seconds: float
    prompt_s: float = 0.0

    def config(self) -> dict[str, Any]:
        return listening_config(np.random.default_rng(self.seed))

    @property
    def pcm(self) -> np.ndarray:
        return sound(self.seed, self.seconds)

    @property
    def prompt(self) -> Prompt | None:
        return Prompt("the of", sound(99, self.prompt_s)) if self.prompt_s else None

    @property
    def frames(self) -> int:
        """Of the prompt, its silence counted."""
        return len(whole(self.prompt.pcm)) // 1920 + SILENCE_FRAMES if self.prompt else 0

    @property
    def lead(self) -> tuple[int, int, int]:
        """Frames before the sound, steps that the text is behind, frames after the sound."""
        times = self.config()["stt_config"]
        delay = times["audio_delay_seconds"] * 12.5
        before = math.ceil(times["audio_silence_prefix_seconds"] * 12.5)
        return before, int(delay), math.ceil(delay)

    @property
    def cut(self) -> int:
        """Tokens of the prompt, as their script cuts them off."""
        before, delay, _ = self.lead
        return self.frames + before + delay

    def heard(self) -> np.ndarray:
        before, _, after = self.lead
        first = [self.prompt.pcm, np.zeros(SILENCE_FRAMES * 1920)] if self.prompt else []
        return whole(np.zeros(before * 1920), *first, self.pcm, np.zeros(after * 1920))


CASES = [
    *(Case(seed, 2.0 + seed) for seed in (1, 2, 3, 4, 5)),
    *(Case(seed, 3.1, prompt_s) for seed, prompt_s in ((1, 1.2), (3, 0.5), (4, 2.0))),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[int, Path]:
    configs = {case.seed: case.config() for case in CASES}
    return written_each(tmp_path_factory.mktemp("models"), configs)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, folders) -> dict[Case, Arrays]:
    jobs = []
    for case in CASES:
        text = case.prompt.text if case.prompt else ""
        job = {"folder": str(folders[case.seed]), "prompt": text, "cut": case.cut}
        jobs.append((job | {"weights": case.seed}, {"pcm": case.heard().astype(np.float32)}))
    made = made_by_torch(SCRIPT, tmp_path_factory.mktemp("theirs"), jobs)
    return dict(zip(CASES, made, strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_recording(folders, theirs, case: Case) -> None:
    """Tokens and pauses to the last frame; of a prompt, silence is left."""
    stt, their = moshi_mlx.load_stt(folders[case.seed], dtype="float32"), theirs[case]
    ours = stt.transcribe(case.pcm, case.prompt, restarts=False)
    cut = case.cut if case.prompt else 0
    assert ours.tokens.tolist() == [3] * (cut - case.frames) + their["tokens"][cut:].tolist()
    if not stt.has_pauses:
        assert ours.pauses is None and their["heads"].size == 0
        return
    np.testing.assert_allclose(ours.pauses, their["heads"][case.frames :], atol=1e-4)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_stream_flushed_anywhere(folders, theirs, case: Case) -> None:
    """Each flush gives the words of the recording so far, and nothing of the whole moves."""
    stt, rng, at = (
        moshi_mlx.load_stt(folders[case.seed], dtype="float32"),
        np.random.default_rng(case.seed),
        0,
    )
    stream, words = stt.stream(case.prompt, False), []
    while at < len(case.pcm):
        more = int(rng.integers(1, 20_000))
        words += stream.push(case.pcm[at : at + more])
        at += more
        if rng.random() < 0.3:
            short = stt.transcribe(case.pcm[:at], case.prompt, restarts=False)
            assert [*words, *stream.flush()] == list(short.words)
    words += stream.finish()
    cut = case.cut if case.prompt else 0
    want = [3] * (cut - case.frames) + theirs[case]["tokens"][cut:].tolist()
    assert stream.transcript().tokens.tolist() == want
    assert words == list(stt.transcribe(case.pcm, case.prompt, restarts=False).words)
