"""PersonaPlex' prompts in one pass, with voices as codes and as embeddings: NVIDIA's tokens."""

import io
import pickle
import zipfile
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.errors import MoshiError, WeightsError
from moshi_mlx.lm.model import Lm
from moshi_mlx.persona.prompt import SILENCE, SINE, tagged
from tests.support.models.lm_goldens import GOLDEN, GREEDY, model, tensors
from tests.support.models.personaplex import ARRAYS, CONSTANTS, FOLDER, TEXT, small_personaplex
from tests.support.talks.lm_talks import said, steps


@pytest.fixture(scope="module")
def lm(tmp_path_factory) -> Lm:
    return small_personaplex(tmp_path_factory.mktemp("personaplex"))


def conversation(lm: Lm, prompt, frames: int) -> np.ndarray:
    """Greedy; what is given to the first step is ignored, whatever it is."""
    generator = lm.generator(seed=0, prompt=prompt, **GREEDY)
    assert generator.prompted
    user = ARRAYS["user_codes"].T
    return said(steps(generator, [user[-1], *user[: frames - 1]]))


def check_nvidias(found: np.ndarray, prefix: str) -> None:
    np.testing.assert_array_equal(found[:, 0], ARRAYS[f"{prefix}text_tokens"])
    np.testing.assert_array_equal(found[1:, 1:9], ARRAYS[f"{prefix}audio_sampled"][1:, :8])
    np.testing.assert_array_equal(found[:, 9:], ARRAYS[f"{prefix}out_tokens"][:, 1:9])


@pytest.mark.parametrize("voice", ["codes", "file"])
def test_a_conversation_after_it_is_nvidias(lm: Lm, voice: str, tmp_path) -> None:
    given = ARRAYS["voice_codes"] if voice == "codes" else FOLDER / "voice.pt"
    prompt = lm.persona_prompt(TEXT, voice=given, **CONSTANTS)
    assert prompt.frames == ARRAYS["prompt.offset"][0]
    check_nvidias(conversation(lm, prompt, 60), "")
    prompt.save(tmp_path / "x")
    check_nvidias(conversation(lm, lm.prompt_from(tmp_path / "x"), 60), "")


def test_without_a_voice_and_in_a_batch_too(lm: Lm) -> None:
    prompts = [lm.persona_prompt(TEXT, voice=v, **CONSTANTS) for v in (None, ARRAYS["voice_codes"])]
    check_nvidias(conversation(lm, prompts[0], 20), "novoice.")
    batch, user = lm.generator(batch=2, seed=0, prompt=prompts, **GREEDY), ARRAYS["user_codes"].T
    heard = [user[-1], *user[:19]]
    found = [batch.step(np.stack([codes, codes])) for codes in heard]
    check_nvidias(said([pair[0] for pair in found if pair[0]]), "novoice.")
    np.testing.assert_array_equal(
        [pair[1].text_token for pair in found if pair[1]], ARRAYS["text_tokens"][:20]
    )


def test_an_empty_text_leaves_both_gaps(lm: Lm) -> None:
    prompt = lm.persona_prompt([], **CONSTANTS)
    assert prompt.frames == 12
    assert len(conversation(lm, prompt, 20)) == 20


def test_a_voice_in_bf16_is_near_that_in_fp32(lm: Lm) -> None:
    """It was rounded; what the model remembers of it is as near as that."""
    both = [
        lm.persona_prompt(TEXT, FOLDER / name, **CONSTANTS)
        for name in ("voice.pt", "voice_bf16.pt")
    ]
    for mine, want in zip(*(prompt.past.slots for prompt in both), strict=True):
        np.testing.assert_allclose(np.array(mine[0]), np.array(want[0]), atol=0.05)


def test_the_published_constants_are_the_defaults(lm: Lm, tmp_path) -> None:
    assert len(SILENCE) == len(SINE) == 8 and max(*SILENCE, *SINE) < 2048
    with pytest.raises(MoshiError, match="silence must be codes below 50"):
        lm.persona_prompt(TEXT)
    with pytest.raises(MoshiError, match="sine must be codes below 50"):
        lm.persona_prompt(TEXT, silence=CONSTANTS["silence"])


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (" You are a teacher. ", "<system> You are a teacher. <system>"),
        ("<system> You <system>", "<system> You <system>"),
        ("<system> You", "<system> <system> You <system>"),
        ("<system>", "<system> <system> <system>"),
        ("  ", ""),
    ],
)
def test_a_text_is_tagged_once(text: str, want: str) -> None:
    assert tagged(text) == want


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda lm: lm.persona_prompt([80], **CONSTANTS), "must be ids from 0 to 79"),
        (lambda lm: lm.persona_prompt([-1], **CONSTANTS), "must be ids from 0 to 79"),
        (lambda lm: lm.persona_prompt("You", **CONSTANTS), "must be ids"),
        (
            lambda lm: lm.persona_prompt(TEXT, ARRAYS["voice_codes"][:7], **CONSTANTS),
            r"\[8, frames\]",
        ),
        (lambda lm: lm.persona_prompt(TEXT, np.full((8, 3), 50), **CONSTANTS), "between 0 and 49"),
        (lambda lm: lm.persona_prompt(TEXT, "none.pt", **CONSTANTS), "can't be read as a torch"),
        (lambda lm: lm.persona_prompt(TEXT, silence=[1] * 7, sine=[1] * 8), "must be 8 codes"),
        (lambda lm: lm.persona_prompt(TEXT, silence=[0.5] * 8, sine=[1] * 8), "must be 8 codes"),
        (lambda lm: model("lm_stt").persona_prompt([1]), "a persona needs as many of both"),
        (lambda lm: model("cfg_tts").persona_prompt([1]), "a persona needs as many of both"),
    ],
)
def test_what_is_no_persona_is_one_line(lm: Lm, call, message: str) -> None:
    with pytest.raises(MoshiError, match=message) as caught:
        call(lm)
    assert "\n" not in str(caught.value)


def test_a_voice_of_other_weights_is_told(lm: Lm, tmp_path) -> None:
    weights = {
        name: mx.random.normal(t.shape).astype(t.dtype) * 0.02 if "emb" in name else t
        for name, t in tensors(FOLDER / "model.safetensors").items()
    }
    small_personaplex(tmp_path)
    mx.save_safetensors(str(tmp_path / "model.safetensors"), weights)
    other = moshi_mlx.load_lm(tmp_path, dtype="float32")
    with pytest.raises(MoshiError, match="made with other weights"):
        other.persona_prompt(TEXT, FOLDER / "voice.pt", **CONSTANTS)
    with pytest.raises(
        WeightsError, match="a voice of another model, 32 wide where this one is 48"
    ):
        lm_of_another_width = moshi_mlx.load_lm(GOLDEN / "persona" / "base", dtype="float32")
        lm_of_another_width.persona_prompt([1], FOLDER / "voice.pt", [1] * 8, [1] * 8)


# ---- voices that are none: zips as torch writes them, with other numbers in them


class Storage:
    def __init__(self, kind: str, key: str, count: int) -> None:
        self.kind, self.key, self.count = kind, key, count


class Tensor:
    def __init__(self, storage: Storage, shape: tuple[int, ...]) -> None:
        stride = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
        self.arguments = (storage, 0, shape, stride)

    def __reduce__(self):
        return rebuild, self.arguments


def rebuild(*arguments):
    raise AssertionError("only its name is used")


class FloatStorage: ...


class LongStorage: ...


def written(path: Path, embeddings: np.ndarray | None, cache: np.ndarray | None) -> Path:
    arrays = {"embeddings": embeddings, "cache": cache}
    stream, found = io.BytesIO(), {}
    for key, (name, array) in enumerate(arrays.items()):
        if array is not None:
            kind = "FloatStorage" if array.dtype == np.float32 else "LongStorage"
            found[name] = Tensor(Storage(kind, str(key), array.size), array.shape)

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            if not isinstance(thing, Storage):
                return None
            return ("storage", globals()[thing.kind], thing.key, "cpu", thing.count)

    Pickler(stream, protocol=2).dump(found)
    data = stream.getvalue().replace(__name__.encode(), b"torch")
    data = data.replace(b"ctorch\nrebuild", b"ctorch._utils\n_rebuild_tensor_v2")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("v/data.pkl", data)
        for key, array in enumerate(arrays.values()):
            if array is not None:
                file.writestr(f"v/data/{key}", array.tobytes())
    return path


EMBEDDINGS, CACHE = ARRAYS["voice.embeddings"], ARRAYS["voice.cache"].astype(np.int64)


def with_number(array: np.ndarray, value: float) -> np.ndarray:
    array = array.copy()
    array[..., -1] = value
    return array


def test_the_writer_of_this_test_writes_voices(lm: Lm, tmp_path) -> None:
    path = written(tmp_path / "v.pt", EMBEDDINGS, CACHE)
    check_nvidias(conversation(lm, lm.persona_prompt(TEXT, path, **CONSTANTS), 60), "")


@pytest.mark.parametrize(
    ("embeddings", "cache", "message"),
    [
        (None, CACHE, "must hold embeddings and cache"),
        (EMBEDDINGS, None, "must hold embeddings and cache"),
        (EMBEDDINGS[:, 0], CACHE, "its embeddings are"),
        (EMBEDDINGS[:0], CACHE, "its embeddings are"),
        (EMBEDDINGS[..., :16], CACHE, "of another model, 16 wide where this one is 32"),
        (EMBEDDINGS, CACHE[:, :9], "of another model"),
        (EMBEDDINGS, CACHE[..., :3], "of another model"),
        (with_number(EMBEDDINGS, np.nan), CACHE, "aren't finite"),
        (EMBEDDINGS, np.full_like(CACHE, 51), "tokens that there are none of"),
        (EMBEDDINGS, np.full_like(CACHE, -2), "tokens that there are none of"),
        (EMBEDDINGS, CACHE.astype(np.float32), "tokens that there are none of"),
        (EMBEDDINGS.astype(np.int64), CACHE, "aren't finite"),
    ],
)
def test_a_voice_that_is_none_is_one_line(lm: Lm, tmp_path, embeddings, cache, message) -> None:
    path = written(tmp_path / "v.pt", embeddings, cache)
    with pytest.raises(WeightsError, match=message) as caught:
        lm.persona_prompt(TEXT, path, **CONSTANTS)
    assert "\n" not in str(caught.value)
