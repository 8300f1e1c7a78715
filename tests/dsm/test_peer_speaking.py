"""Kyutai's PyTorch package speaks what we speak: whole scripts, greedy, the same small models."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moshi_mlx
from tests.support.models.small_speaker import with_codec
from tests.support.torch_peer import TORCH_PEER, Arrays, made_by_torch

pytestmark = TORCH_PEER
# Of the codec: past it, streams of theirs forget one position too early (two come at a time).
LONG = 4000
GREEDY: Any = {"text_temperature": 0.0, "audio_temperature": 0.0}
SCRIPT = """
from moshi.models.tts import TTSModel

def run(job, given):
    tts = TTSModel.from_checkpoint_info(
        opened(job["folder"]), max_padding=job["max_padding"], dtype=torch.float32, temp=0.0,
        n_q=job["n_q"], padding_bonus=job["padding_bonus"], final_padding=4,
    )
    entries = tts.prepare_script(job["turns"], padding_between=job["padding_between"])
    voices = [Path(voice) for voice in job["voices"]]
    distilled = bool(tts.valid_cfg_conditionings)
    tts.cfg_coef = 1.0 if distilled else job["cfg_coef"]
    attributes = []
    if tts.multi_speaker:
        attributes = [tts.make_condition_attributes(voices, job["cfg_coef"] if distilled else None)]
    prefixes = [torch.tensor(given["prefix"]).long()] if len(given["prefix"]) else None
    made = tts.generate([entries], attributes, prefixes)
    frames = torch.cat(made.frames, dim=2)[0].numpy()
    with tts.mimi.streaming(1):
        sounding = [f[:, 1:] for f in made.frames[tts.delay_steps:] if (f[:, 1:] >= 0).all()]
        pcm = torch.cat([tts.mimi.decode(codes) for codes in sounding], dim=2)[0, 0].numpy()
    words = made.all_transcripts[0]
    return {
        "fed": [fed for _, fed in made.logged_text_tokens[0]],
        "codes": frames[1:],
        "end": made.end_steps[0],
        "words": [word for word, _ in words],
        "steps": [step for _, step in words],
        "pcm": np.clip(pcm, -1, 1),
    }
"""


@dataclass(frozen=True)
class Case:
    """A speech, in options of both packages. `voices`: of the model's folder."""

    model: str
    turns: list[str]
    cfg_coef: float
    voices: list[str] = field(default_factory=list)
    n_q: int = 8
    padding_between: int = 1
    padding_bonus: float = 0.0
    max_padding: int = 8
    prefix_frames: int = 0

    def options(self, folder: Path) -> dict[str, Any]:
        """What both are told."""
        return {
            "cfg_coef": self.cfg_coef,
            "voices": [str(folder / voice) for voice in self.voices],
            "n_q": self.n_q,
            "padding_between": self.padding_between,
            "padding_bonus": self.padding_bonus,
            "max_padding": self.max_padding,
        }

    def prefix(self) -> np.ndarray:
        """Codes of a voice [8, F]; none of F 0."""
        return np.random.default_rng(3).integers(0, 48, (8, self.prefix_frames))


ADA, BEN = "ada.wav.1e68beda@240.safetensors", "ben.wav.1e68beda@240.safetensors"
OTHER = ["ada.wav.0badcafe@7.safetensors", "ben.wav.0badcafe@7.safetensors"]
SAID = ["It's a fine day (isn't it), the first of many.", "No: it rains.", "Oh."]
CASES = {
    "two speakers": Case("dsm_tts", SAID, 3.0, [ADA, BEN]),
    "a break": Case("dsm_tts", ['Wait <break time="0.7s"/> for it.'], 1.5, [BEN, BEN]),
    "fewer codebooks": Case("dsm_tts", SAID[:1], 2.0, [ADA], n_q=3),
    "slower": Case("dsm_tts", SAID[:2], 2.0, [ADA], padding_bonus=1.5, padding_between=2),
    "guided": Case("dsm_tts_cfg", SAID, 2.5, OTHER),
    "not guided": Case("dsm_tts_cfg", SAID[:2], 1.0, OTHER[:1], max_padding=4),
    "after a voice": Case("dsm_tts_prefix", SAID[:2], 2.0, prefix_frames=9),
    "no voice": Case("dsm_tts_prefix", SAID[:1], 1.0),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """The small models, a small Mimi beside each."""
    place = tmp_path_factory.mktemp("models")
    return {
        name: with_codec(place / name, name, LONG) for name in {c.model for c in CASES.values()}
    }


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, folders) -> dict[str, Arrays]:
    jobs = []
    for case in CASES.values():
        folder, prefix = folders[case.model], case.prefix()
        silent = np.full((1, prefix.shape[1]), -1)
        given = np.concatenate([silent, prefix]) if case.prefix_frames else np.zeros((0, 0))
        job = {"folder": str(folder), "turns": case.turns, **case.options(folder)}
        jobs.append((job, {"prefix": given}))
    made = made_by_torch(SCRIPT, tmp_path_factory.mktemp("theirs"), jobs)
    return dict(zip(CASES, made, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_a_script(folders, theirs, name: str) -> None:
    """Text, codes and the steps of words to the last one; the sound of these codes."""
    case, their = CASES[name], theirs[name]
    speaker = moshi_mlx.load_tts(folders[case.model], dtype="float32")
    prefix = case.prefix() if case.prefix_frames else None
    options = case.options(folders[case.model])
    ours = speaker.speak(case.turns, prefix=prefix, mark=None, **GREEDY, **options)
    assert ours.fed.tolist() == their["fed"].tolist() and len(ours.fed) > 30
    assert np.array_equal(ours.codes, their["codes"])
    assert ours.end_step == int(their["end"])
    words = zip(their["words"].tolist(), their["steps"].tolist(), strict=True)
    assert list(ours.words) == list(words)
    sound = their["pcm"][case.prefix_frames * 1920 :]
    assert ours.pcm is not None and np.allclose(ours.pcm, sound[: len(ours.pcm)], atol=1e-4)
