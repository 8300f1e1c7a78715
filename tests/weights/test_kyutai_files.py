"""Files as Kyutai's `moshi_mlx` writes them (bf16, q8, q4): loaded without a flag, same logits."""

from functools import cache
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

import moshi_mlx
from moshi_mlx.weights.loading import save_lm

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = {
    "kyutai_bf16": "model.safetensors",
    "kyutai_q4": "model.q4.safetensors",
    "kyutai_q8": "model.q8.safetensors",
}


@cache
def arrays(path: Path) -> dict[str, mx.array]:
    found = mx.load(str(path))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("folder", "inputs"), [*((f, "") for f in FILES), ("kyutai_bf16", "zero.")]
)
def test_logits_equal_those_of_kyutais_code(folder: str, inputs: str) -> None:
    golden = arrays(GOLDEN / folder / "golden.safetensors")
    lm = moshi_mlx.load_lm(GOLDEN / folder, dtype="float32")
    text, audio = (np.array(x)[0] for x in lm.forward(golden[f"{inputs}codes"]))
    want, delays = np.array(golden[f"{inputs}audio"]), lm.config.delays[1:]
    np.testing.assert_allclose(text, np.array(golden[f"{inputs}text"]), atol=1e-3)
    for k, delay in enumerate(delays[: lm.config.dep_q]):
        kept = len(want) - delay
        assert np.isnan(audio[k, kept:]).all()
        np.testing.assert_allclose(audio[k, :kept], want[delay:, k], atol=1e-3)


@pytest.mark.parametrize("folder", ["kyutai_q4", "kyutai_q8"])
def test_no_input_adds_nothing_also_where_embeddings_are_quantized(folder: str) -> None:
    """Kyutai's code can't say (its -1 reads the last row): without, the stream must not matter."""
    golden = arrays(GOLDEN / folder / "golden.safetensors")
    lm = moshi_mlx.load_lm(GOLDEN / folder, dtype="float32")
    tokens = mx.array([[[-1]]])
    assert not np.array(lm.audio_emb(lm.audio_emb.rows(mx.full((1, 4, 1), -1)))).any()
    assert not np.array(lm.text_emb(tokens)).any()
    codes = np.array(golden["codes"])
    codes[:, 3] = -1
    text, _ = lm.forward(codes)
    assert np.isfinite(np.array(text)).all()


@pytest.mark.parametrize("folder", FILES)
def test_as_stored_without_a_dtype_and_written_back_to_the_bit(folder: str, tmp_path: Path) -> None:
    lm = moshi_mlx.load_lm(GOLDEN / folder)
    assert lm.dtype == mx.bfloat16
    kinds = {str(t.dtype) for _, t in tree_flatten(lm.parameters())}
    quantized = folder != "kyutai_bf16"
    assert kinds == (
        {"mlx.core.bfloat16", "mlx.core.uint32"} if quantized else {"mlx.core.bfloat16"}
    )
    save_lm(lm, tmp_path / "again.safetensors")
    again, before = arrays(tmp_path / "again.safetensors"), arrays(GOLDEN / folder / FILES[folder])
    assert set(again) == set(before)
    for name, tensor in before.items():
        assert again[name].dtype == tensor.dtype and mx.array_equal(again[name], tensor), name


def test_one_of_several_files_in_a_folder(tmp_path: Path) -> None:
    for name in ("config.json", "model.q4.safetensors"):
        (tmp_path / name).write_bytes((GOLDEN / "kyutai_q4" / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"another, which would be taken first")
    codes = arrays(GOLDEN / "kyutai_q4" / "golden.safetensors")["codes"]
    text, _ = moshi_mlx.load_lm(tmp_path / "model.q4.safetensors", "float32").forward(codes)
    want, _ = moshi_mlx.load_lm(GOLDEN / "kyutai_q4", "float32").forward(codes)
    assert mx.array_equal(text, want)


@pytest.mark.parametrize("folder", FILES)
def test_a_conversation_runs_on_every_file(folder: str) -> None:
    lm = moshi_mlx.load_lm(GOLDEN / folder, dtype="float32")
    one, two = lm.generator(seed=3), lm.generator(seed=3)
    rng = np.random.default_rng(0)
    for _ in range(20):
        codes = rng.integers(0, lm.config.card, lm.config.user_q)
        a, b = one.step(codes), two.step(codes)
        assert a.text_token == b.text_token and np.array_equal(a.sampled, b.sampled)
        assert a.sampled.max() < lm.config.card and a.sampled.min() >= 0
