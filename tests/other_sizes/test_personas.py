"""PersonaPlex of other sizes: the prompt and what is said after it, by NVIDIA's rules in PyTorch.

The loop below is written after the facts of NVIDIA's code on Kyutai's layers; on the golden, which
NVIDIA's own code made, it gives the same numbers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.persona.torch_file import read_torch_file
from tests.support.models.lm_goldens import GREEDY
from tests.support.models.personaplex import ARRAYS, FOLDER
from tests.support.models.random_models import persona_config, written_each
from tests.support.torch_peer import TORCH_PEER, Arrays, made_by_torch

pytestmark = TORCH_PEER
TALK = 60  # frames after the prompt
# A call writes what is given, each stream behind its delay, runs the position before, and fills
# its own where nothing was given. The first runs nothing: what is given to it is lost.
SCRIPT = """
def run(job, given):
    lm = lm_of(job["folder"])
    delays, K, streams = np.array(lm.delays), lm.dep_q // 2, lm.n_q + 1
    voice, silence, sine, user = (given[n] for n in ("voice", "silence", "sine", "user"))
    N, gap = voice.shape[1], [(3, silence)] * 6
    frames = [(3, voice[:, i]) for i in range(N)] + gap
    frames += [(int(piece), silence) for piece in given["text"]] + gap
    P, made = len(frames), {"text": [], "sampled": [], "out": []}
    size, embeddings = max(delays) + 3, []
    line = np.full((streams, P + user.shape[1] + size), -2)
    first = np.array([lm.text_card] + [lm.card] * lm.n_q)

    def put(stream, call, token):
        line[stream, call + delays[stream]] = token

    with lm.streaming(1):
        for call in range(P + user.shape[1]):
            talk = call >= P
            for k in range(K):
                put(1 + K + k, call, user[k, call - P] if talk else sine[k])
            if not talk:
                text, own = frames[call]
                for stream, token in enumerate([text, *own]):
                    put(stream, call, token)
            line[call <= delays, call] = first[call <= delays]
            if call == 0:
                continue
            tokens = torch.tensor(line[:, call - 1])[None, :, None]
            if call < N:
                summed = sum(lm.emb[i](tokens[:, 1 + i]) for i in range(lm.n_q))
                embeddings.append(summed + lm.text_emb(tokens[:, 0]))
            hidden, logits = lm.forward_text(tokens)
            now, best = line[:, call], [int(logits.argmax())]
            now[0] = best[0] if now[0] == -2 else now[0]
            with lm.depformer.streaming(1):
                for k in range(lm.dep_q):
                    before = torch.tensor([[[now[k]]]])
                    best.append(int(lm.forward_depformer(k, before, hidden).argmax()))
                    now[1 + k] = best[1 + k] if now[1 + k] == -2 else now[1 + k]
            if talk:
                made["text"].append(best[0])
                made["sampled"].append(best[1 : 1 + K])
                frame = call - max(delays) + delays[: 1 + K]
                made["out"].append(line[np.arange(1 + K), frame])
            if call == N - 1:
                cache = np.full((streams, size), -2)
                for stream, delay in enumerate(delays):
                    for p in range(max(0, N - size + delay), N + delay):
                        cache[stream, p % size] = line[stream, p]
                kept = {"embeddings": torch.stack(embeddings), "cache": torch.tensor(cache[None])}
                torch.save(kept, job["voice"])
    return made
"""


@dataclass(frozen=True)
class Case:
    """A model by its seed; frames of the voice, ids of the text, beyond the context by `over`."""

    seed: int
    voice: int
    text: int

    def config(self) -> dict[str, Any]:
        return persona_config(np.random.default_rng(self.seed))

    def given(self) -> dict[str, np.ndarray]:
        raw, rng = self.config(), np.random.default_rng(self.text)
        K, card = raw["n_q"] // 2, raw["card"]
        return {
            "text": rng.integers(4, raw["text_card"], self.text),
            "voice": rng.integers(0, card, (K, self.voice)),
            "silence": rng.integers(0, card, K),
            "sine": rng.integers(0, card, K),
            "user": rng.integers(0, card, (K, TALK)),
        }


def of(seed: int) -> list[Case]:
    """A voice and a text, nothing at all, the context filled, and more than the context."""
    context = Case(seed, 0, 0).config()["context"]
    longest = [Case(seed, 0, max(context - 12, 1)), Case(seed, 4, context + 7)]
    return [Case(seed, 9, 5), Case(seed, 0, 0), Case(seed, 2, 0), *longest]


CASES = [case for seed in (1, 2, 3, 4) for case in of(seed)]


def voice_file(folder: Path, case: Case) -> Path:
    return folder / f"{case.voice}-{case.text}.pt"


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[int, Path]:
    configs = {case.seed: case.config() for case in CASES}
    return written_each(tmp_path_factory.mktemp("models"), configs)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, folders) -> dict[Case, Arrays]:
    jobs = []
    for case in CASES:
        folder = folders[case.seed]
        job = {"folder": str(folder), "voice": str(voice_file(folder, case))}
        jobs.append((job | {"weights": case.seed}, case.given()))
    made = made_by_torch(SCRIPT, tmp_path_factory.mktemp("theirs"), jobs)
    return dict(zip(CASES, made, strict=True))


def test_the_loop_is_nvidias_on_the_golden(tmp_path) -> None:
    """A voice too: its file holds what NVIDIA's holds."""
    (tmp_path / "model.safetensors").symlink_to(FOLDER / "model.safetensors")
    (tmp_path / "config.json").symlink_to(FOLDER / "config.full.json")
    names = {"voice": "voice_codes", "text": "text_prompt", "user": "user_codes"}
    given = {name: ARRAYS[names.get(name, name)] for name in (*names, "silence", "sine")}
    job = {"folder": str(tmp_path), "voice": str(tmp_path / "voice.pt")}
    (made,) = made_by_torch(SCRIPT, tmp_path, [(job, given)])
    np.testing.assert_array_equal(made["text"], ARRAYS["text_tokens"])
    np.testing.assert_array_equal(made["sampled"][1:], ARRAYS["audio_sampled"][1:, :8])
    np.testing.assert_array_equal(made["out"], ARRAYS["out_tokens"][:, :9])
    ours, nvidias = (read_torch_file(f) for f in (tmp_path / "voice.pt", FOLDER / "voice.pt"))
    np.testing.assert_array_equal(ours["cache"], nvidias["cache"])
    np.testing.assert_allclose(ours["embeddings"], nvidias["embeddings"], atol=1e-6)


FORMS = [
    (case, form) for case in CASES for form in ("codes", "file") if case.voice or form != "file"
]


@pytest.mark.parametrize(("case", "form"), FORMS, ids=str)
def test_a_conversation_after_a_prompt(folders, theirs, case: Case, form: str) -> None:
    """Text, own codes and complete frames, with the voice as codes and as a `.pt` file."""
    folder, given, their = folders[case.seed], case.given(), theirs[case]
    lm = moshi_mlx.load_lm(folder, dtype="float32")
    voice = given["voice"] if form == "codes" else voice_file(folder, case)
    prompt = lm.persona_prompt(given["text"], voice, given["silence"], given["sine"])
    assert prompt.frames == case.voice + 6 + case.text + 6
    generator = lm.generator(seed=0, prompt=prompt, **GREEDY)
    found = [generator.step(codes) for codes in [None, *given["user"].T[:-1]]]
    assert [step.text_token for step in found] == their["text"].tolist()
    free = max(lm.config.delays)  # before, the prompt's last frames give codes in place of samples
    np.testing.assert_array_equal([s.sampled for s in found[free:]], their["sampled"][free:])
    np.testing.assert_array_equal([s.codes for s in found], their["out"][:, 1:])
