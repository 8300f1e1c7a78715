"""Text to speech of other sizes: whole scripts are PyTorch's, guided either way or by a prefix."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from tests.support.models.lm_goldens import GREEDY
from tests.support.models.random_models import speaking_config, written
from tests.support.torch_peer import TORCH_PEER, Arrays, made_by_torch

pytestmark = TORCH_PEER
SCRIPT = """
from moshi.models.tts import TTSModel

def run(job, given):
    info, how = opened(job["folder"]), job["options"]
    info.get_mimi = lambda device: Codes(how["n_q"])
    tts = TTSModel.from_checkpoint_info(
        info, dtype=torch.float32, temp=0.0, max_gen_length=400,
        **{name: how[name] for name in ("n_q", "padding_bonus")},
        **{name + "_padding": how[name + "_padding"] for name in ("max", "initial", "final")},
    )
    entries = tts.prepare_script(job["turns"], padding_between=how["padding_between"])
    distilled = bool(tts.valid_cfg_conditionings)
    tts.cfg_coef = 1.0 if distilled else how["cfg_coef"]
    attributes = []
    if tts.multi_speaker:
        voices = [Path(voice) for voice in how["voices"]]
        coef = how["cfg_coef"] if distilled else None
        attributes = [tts.make_condition_attributes(voices, coef)]
    prefix = given["prefix"]
    silent = np.full((1, prefix.shape[1]), -1)
    heard = [torch.tensor(np.concatenate([silent, prefix])).long()] if prefix.size else None
    without = {name: how[name] for name in ("cfg_is_no_text", "cfg_is_no_prefix")}
    made = tts.generate([entries], attributes, heard, **without)
    words = made.all_transcripts[0]
    return {
        "fed": [fed for _, fed in made.logged_text_tokens[0]],
        "codes": torch.cat(made.frames, dim=2)[0, 1:].numpy(),
        "end": made.end_steps[0],
        "words": [word for word, _ in words],
        "steps": [step for _, step in words],
    }
"""
TURNS = [
    "It's a fine day (isn't it), the first of many.",
    'No: it <break time="0.5s"/> rains.',
    "Oh, ’tis extraordinary!",
]
USUAL: dict[str, Any] = {
    "padding_between": 1,
    "padding_bonus": 0.0,
    "max_padding": 8,
    "initial_padding": 2,
    "final_padding": 4,
    "cfg_is_no_text": True,
    "cfg_is_no_prefix": True,
}


@dataclass(frozen=True)
class Case:
    """A speech of a model by its kind and seed; `other`: options that aren't the usual ones."""

    kind: str
    seed: int
    cfg_coef: float
    turns: int = 3
    voices: int = 0
    left_out: int = 0  # codebooks
    prefix_frames: int = 0
    other: dict[str, Any] = field(default_factory=dict)

    def config(self) -> dict[str, Any]:
        return speaking_config(np.random.default_rng(self.seed), self.kind)

    def prefix(self) -> np.ndarray:
        raw = self.config()
        rng = np.random.default_rng(3)
        return rng.integers(0, raw["card"], (raw["n_q"], self.prefix_frames))

    def options(self, folder: Path) -> dict[str, Any]:
        """What both are told."""
        n_q = self.config()["n_q"] - self.left_out
        voices = [str(folder / name) for name in VOICES[: self.voices]]
        return USUAL | self.other | {"n_q": n_q, "voices": voices, "cfg_coef": self.cfg_coef}


VOICES = ("ada.wav.1e68beda@240.safetensors", "ben.wav.1e68beda@240.safetensors")
CASES = [
    Case("distilled", 1, 3.0, voices=2),
    Case("distilled", 1, 1.5, voices=1, left_out=1, other={"padding_bonus": 2.0}),
    Case("distilled", 2, 2.0, voices=2, other={"max_padding": 2, "initial_padding": 0}),
    Case("distilled", 3, 4.0, turns=1, voices=1, left_out=2, other={"final_padding": 0}),
    Case("guided", 4, 2.0, voices=2),
    Case("guided", 4, 1.0, voices=1, other={"padding_between": 0, "padding_bonus": -2.0}),
    Case("guided", 5, 3.0, voices=2, left_out=1, other={"cfg_is_no_text": False}),
    Case("guided", 6, 0.5, voices=1, other={"initial_padding": 5, "final_padding": 7}),
    Case("prefix", 7, 2.0, prefix_frames=9),
    Case("prefix", 7, 3.0, prefix_frames=1, other={"cfg_is_no_prefix": False}),
    Case("prefix", 8, 1.7, prefix_frames=13, other={"cfg_is_no_text": False}),
    Case("prefix", 9, 1.0, prefix_frames=5, other={"padding_between": 2}),
    Case("prefix", 9, 2.0, left_out=1),
]


def model_folder(place: Path, case: Case) -> Path:
    """With two voices, where the model has them."""
    raw = case.config()
    folder = written(place / str(case.seed), raw)
    voice = raw["conditioners"].get("speaker_wavs")
    for i, name in enumerate(VOICES if voice else ()):
        rng = np.random.default_rng(i)
        latents = rng.standard_normal((1, voice["tensor"]["dim"], 4)).astype(np.float32)
        told = {"sig": "1e68beda", "epoch": "240"}
        mx.save_safetensors(str(folder / name), {"speaker_wavs": mx.array(latents)}, told)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[int, Path]:
    place = tmp_path_factory.mktemp("models")
    first = {case.seed: case for case in reversed(CASES)}
    return {seed: model_folder(place, case) for seed, case in first.items()}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, folders) -> list[Arrays]:
    jobs = []
    for case in CASES:
        folder = folders[case.seed]
        job = {"folder": str(folder), "options": case.options(folder), "weights": case.seed}
        jobs.append((job | {"turns": TURNS[: case.turns]}, {"prefix": case.prefix()}))
    return made_by_torch(SCRIPT, tmp_path_factory.mktemp("theirs"), jobs)


@pytest.mark.parametrize("i", range(len(CASES)))
def test_a_script(folders, theirs, i: int) -> None:
    """Text, codes, words and their steps, the end."""
    case, their = CASES[i], theirs[i]
    speaker = moshi_mlx.load_tts(folders[case.seed], dtype="float32")
    prefix = case.prefix() if case.prefix_frames else None
    options = case.options(folders[case.seed])
    ours = speaker.speak(TURNS[: case.turns], prefix=prefix, **options, **GREEDY)
    assert ours.fed.tolist() == their["fed"].tolist() and len(ours.fed) > 20
    np.testing.assert_array_equal(ours.codes, their["codes"])
    assert ours.end_step == int(their["end"])
    words = zip(their["words"].tolist(), their["steps"].tolist(), strict=True)
    assert list(ours.words) == list(words)
