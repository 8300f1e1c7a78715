"""The sequences that calibration and the report see: a model's own talk, or stored codes."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
import soundfile

from moshi_mlx.audio.file import read_mono
from moshi_mlx.errors import MoshiError
from quantize.calibrated.material import MIN_FRAMES, read_material, talk
from tests.support.models.loaded import nano as shared_nano


@pytest.fixture(scope="module")
def nano():
    return shared_nano()


@pytest.fixture(scope="module")
def question(nano):
    return nano.folder / "samples" / "one_plus_one.wav"


def never():
    raise AssertionError("nobody needs to talk here")


def test_a_greedy_talk_is_what_teacher_forcing_predicts(nano, question):
    """The generator's streams, laid out as a sequence, are the arg max of every logit."""
    codes = talk(nano, read_mono(question), text_temperature=0.0, audio_temperature=0.0)
    text, audio = nano.lm.forward(codes[None])
    predicted = np.concatenate([np.array(text.argmax(-1)), np.array(audio.argmax(-1))[0]])
    known = ~np.isnan(np.array(audio[0, :, :, 0]))  # the delays leave the last frames open
    assert (predicted[0] == codes[0]).mean() > 0.99  # ties in float32
    assert (predicted[1:] == codes[1 : 1 + nano.config.dep_q])[known].mean() > 0.99
    words = nano.tokenizer.stream((0, 3))
    said = "".join(words.push(int(token)) for token in codes[0])
    assert "two" in said.lower()


def test_recordings_and_stored_codes(nano, question, tmp_path):
    user = nano.codec.encode(read_mono(question))
    (tmp_path / "a.wav").write_bytes(question.read_bytes())
    (talked,) = read_material(tmp_path, nano.config, lambda: nano)
    assert talked.codes.shape == (17, talked.frames) and talked.frames > user.shape[1] + 30
    own = 1 + nano.config.dep_q
    assert (talked.codes[own:, : user.shape[1] - 1] == user[: nano.config.user_q, :-1]).all()
    (again,) = read_material(tmp_path, nano.config, lambda: nano)
    (other,) = read_material(tmp_path, nano.config, lambda: nano, seed=1)
    assert (again.codes == talked.codes).all() and (other.codes != talked.codes).any()
    stored = tmp_path / "stored"
    stored.mkdir()
    np.savez(stored / "a.npz", x=talked.codes, y=talked.codes[:, :20].astype(np.int64))
    np.save(stored / "b.npy", talked.codes)
    mx.save_safetensors(str(stored / "c.safetensors"), {"z": mx.array(talked.codes)})
    found = read_material(stored, nano.config, never)
    assert [s.frames for s in found] == [talked.frames, 20, talked.frames, talked.frames]
    assert all((s.codes == talked.codes[:, : s.frames]).all() for s in found)


def codes(shape=(17, 40), value=1, dtype=np.int32):
    return np.full(shape, value, dtype)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.wav", lambda p: p.write_bytes(b"not sound"), "can't be read as sound"),
        ("a.wav", lambda p: soundfile.write(p, np.zeros(9000), 24000), "lasts 0.38 s: at least"),
        ("a.npy", lambda p: p.write_bytes(b"nonsense"), "can't be read as stored codes"),
        ("a.npz", lambda p: p.write_bytes(b"PK nonsense"), "can't be read as stored codes"),
        ("a.safetensors", lambda p: p.write_bytes(b"nonsense"), "can't be read as stored codes"),
        ("a.npz", lambda p: np.savez(p), "holds no codes"),
        ("a.npy", lambda p: np.save(p, codes((9, 40))), "codes are [17, frames]"),
        ("a.npy", lambda p: np.save(p, codes((1, 17, 40))), "codes are [17, frames]"),
        ("a.npy", lambda p: np.save(p, codes((17, MIN_FRAMES - 1))), "has 7 frames; 8 are needed"),
        ("a.npy", lambda p: np.save(p, codes(value=257)), "must lie between -1 and 256"),
        ("a.npy", lambda p: np.save(p, codes(value=-2)), "must lie between -1 and 256"),
        ("a.npy", lambda p: np.save(p, codes(dtype=np.float32)), "must be integers"),
        ("a.txt", lambda p: p.write_text("hello"), "holds no recordings"),
    ],
)
def test_bad_material_is_named(nano, tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(MoshiError) as error:
        read_material(tmp_path, nano.config, never)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert name in str(error.value) or name == "a.txt"


def test_no_folder(nano, tmp_path):
    with pytest.raises(MoshiError, match="can't be read as a folder of recordings"):
        read_material(tmp_path / "none", nano.config, never)


def test_a_talker_with_other_tokens(nano, question, tmp_path):
    (tmp_path / "a.wav").write_bytes(question.read_bytes())
    with pytest.raises(MoshiError, match="has other tokens than the model"):
        read_material(tmp_path, replace(nano.config, card=40), lambda: nano)
