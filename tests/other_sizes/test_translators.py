"""Hibiki and hibiki-zero of other sizes, guided or not: whole runs are PyTorch's to their end."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moshi_mlx
from tests.support.models.lm_goldens import GREEDY
from tests.support.models.random_models import translation_config, written
from tests.support.torch_peer import TORCH_PEER, Arrays, made_by_torch

pytestmark = TORCH_PEER
# Their command's own loop; it runs until EOS or to the last code of the silence.
SCRIPT = """
from moshi.run_inference import InferenceState

class Screen:
    def __init__(self):
        self.text = ""

    def log(self, *told):
        pass

    def print_header(self):
        pass

    def print_token(self, text):
        self.text += text

def run(job, given):
    info, lm, said, out = opened(job["folder"]), lm_of(job["folder"]), [], []
    heard = [*given["source"].T, *given["silence"].T]
    codec = Codes(len(given["source"]), lm.card, heard)
    state = InferenceState(
        info, codec, info.get_text_tokenizer(), lm, 1, job["cfg_coef"], "cpu", use_sampling=False
    )
    state.lm_gen.on_text_hook = lambda token: said.append(int(token[0]))
    state.printer, decode, ended = Screen(), codec.decode, True
    codec.decode = lambda codes: out.append(codes[0, :, 0].numpy().copy()) or decode(codes)
    try:
        state.run(torch.zeros(1, 1, 1920 * given["source"].shape[1]))
    except StopIteration:
        ended = False
    return {"tokens": said, "codes": out, "text": state.printer.text, "ended": ended}
"""


@dataclass(frozen=True)
class Case:
    """A model by its seed, guided by `coef`."""

    seed: int
    zero: bool
    coef: float

    def config(self) -> dict[str, Any]:
        return translation_config(np.random.default_rng(self.seed), self.zero)

    def given(self) -> dict[str, np.ndarray]:
        raw, rng = self.config(), np.random.default_rng(self.seed)
        sizes = {"source": int(rng.integers(1, 50)), "silence": int(rng.integers(40, 90))}
        K = raw["dep_q"]
        return {name: rng.integers(0, raw["card"], (K, n)) for name, n in sizes.items()}

    @property
    def name(self) -> str:
        return f"{'zero' if self.zero else 'hibiki'}-{self.seed}"


CASES = [
    *(Case(seed, False, coef) for seed in (1, 2, 3) for coef in (1.0, 2.0, 3.0)),
    *(Case(seed, True, 1.0) for seed in (1, 2, 3, 4)),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    models = {case.name: case.config() for case in CASES}
    return {name: written(place / name, raw) for name, raw in models.items()}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, folders) -> dict[Case, Arrays]:
    jobs = []
    for case in CASES:
        job = {"folder": str(folders[case.name]), "cfg_coef": case.coef, "weights": case.seed}
        jobs.append((job, case.given()))
    made = made_by_torch(SCRIPT, tmp_path_factory.mktemp("theirs"), jobs)
    return dict(zip(CASES, made, strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_translation_by_codes(folders, theirs, case: Case) -> None:
    """Tokens, codes, text and the frame that ends it."""
    given, their = case.given(), theirs[case]
    translator = moshi_mlx.load_translator(folders[case.name], dtype="float32")
    ours = translator.translate_codes(given["source"], given["silence"], case.coef, **GREEDY)
    assert ours.tokens.tolist() == their["tokens"].tolist()
    np.testing.assert_array_equal(ours.codes.T, their["codes"])
    assert ours.text == str(their["text"])
    assert ours.end_output == (len(their["codes"]) - 1 if their["ended"] else None)


def test_some_end_and_some_do_not(theirs) -> None:
    assert {bool(made["ended"]) for made in theirs.values()} == {True, False}
