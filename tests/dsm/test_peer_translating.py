"""Kyutai's PyTorch package translates as we do: sound to sound to its end, greedy, small models."""

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
# Their command's own loop; the codes are taken where it decodes them.
SCRIPT = """
from moshi.run_inference import InferenceState

def run(job, given):
    info = opened(job["folder"])
    mimi, codes = info.get_mimi(), []
    state = InferenceState(
        info, mimi, info.get_text_tokenizer(), info.get_moshi(dtype=torch.float32), 1,
        job["cfg_coef"], "cpu", use_sampling=False,
    )
    decode = mimi.decode
    mimi.decode = lambda found: codes.append(found.clone()) or decode(found)
    ((tokens, pcm),) = state.run(torch.tensor(given["pcm"])[None, None])
    whole = torch.cat(codes, 2)[0]
    return {"tokens": tokens.numpy(), "pcm": pcm[0].numpy(), "codes": whole.numpy()}
"""
CASES = [
    *(("dsm_hibiki", coef, seed) for coef in (1.0, 3.0) for seed in (0, 1)),
    *(("dsm_hibiki_zero", 1.0, seed) for seed in (0, 1, 2)),
]


def sound(seed: int) -> np.ndarray:
    """2 s and more, in whole frames: their loop drops the rest."""
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal((25 + seed) * 1920)).astype(np.float32)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """The small models, a small Mimi beside each."""
    place = tmp_path_factory.mktemp("models")
    return {
        name: with_codec(place / name, name, LONG) for name in ("dsm_hibiki", "dsm_hibiki_zero")
    }


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, folders) -> dict[tuple, Arrays]:
    jobs = [
        ({"folder": str(folders[name]), "cfg_coef": coef}, {"pcm": sound(seed)})
        for name, coef, seed in CASES
    ]
    made = made_by_torch(SCRIPT, tmp_path_factory.mktemp("theirs"), jobs)
    return dict(zip(CASES, made, strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_a_recording(folders, theirs, case: tuple[str, float, int]) -> None:
    """Text and codes to the frame that ends it, and their sound."""
    name, coef, seed = case
    translator = moshi_mlx.load_translator(folders[name], dtype="float32")
    ours, their = translator.translate(sound(seed), coef, mark=None, **GREEDY), theirs[case]
    assert ours.end_output is not None
    assert ours.tokens[: ours.codes.shape[1]].tolist() == their["tokens"].tolist()
    assert np.array_equal(ours.codes, their["codes"])
    assert ours.pcm is not None and np.allclose(ours.pcm, their["pcm"], atol=1e-4)
