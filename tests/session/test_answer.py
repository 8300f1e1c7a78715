"""What programs do with the library beside stepping: answers, streams, sound files, names."""

import json
import re
import shutil
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import moshi_mlx
from moshi_mlx.errors import AudioError, ConfigError, DownloadError, MoshiError, WeightsError
from moshi_mlx.hub import NANO
from moshi_mlx.text.word import SpokenWords, Word
from tests.support.models.loaded import nano as shared_nano

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
QUESTION = NANO / "samples" / "four_plus_three.wav"


@pytest.fixture(scope="module")
def nano() -> moshi_mlx.Moshi:
    return shared_nano()


@cache
def names_after(document: str) -> dict[str, Any]:
    """What a document's Python leaves; later blocks go on from earlier ones."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    names: dict[str, Any] = {"__name__": "document"}
    for block in blocks:
        exec(compile(block, document, "exec"), names)
    return names


@pytest.mark.parametrize("document", ["README.md", "docs/library.md"])
def test_the_documents_python_runs(document: str) -> None:
    assert isinstance(names_after(document)["moshi"], moshi_mlx.Moshi)


def test_a_recording_is_answered_in_one_call() -> None:
    """As the documentation does it, greedily."""
    names = names_after("docs/library.md")
    heard, answer = names["question"], names["answer"]
    np.testing.assert_array_equal(heard, moshi_mlx.audio.read(QUESTION))
    assert answer.text == "Four plus three is seven." and answer.seed == 0
    assert answer.aligned.shape == (len(heard) + 4 * 24_000, 2) == (len(answer.pcm), 2)
    np.testing.assert_array_equal(answer.aligned[: len(heard), 0], heard)
    np.testing.assert_array_equal(answer.aligned[:, 1], answer.pcm)
    assert [word.text for word in answer.words] == ["Four", "plus", "three", "is", "seven."]
    assert all(a.start_s < a.end_s <= b.start_s for a, b in pairwise(answer.words))
    for word in (answer.words[0], answer.words[-1]):
        at = slice(int(word.start_s * 24_000), int((word.end_s + 0.2) * 24_000))
        assert np.abs(answer.pcm[at]).max() > 0.05, "a word is heard about when it is said to be"
    assert "Four plus three" in repr(answer) and len(repr(answer)) < 120


@pytest.mark.parametrize(
    ("pcm", "tail_s", "message"),
    [
        (np.zeros((2, 100), np.float32), 0.0, "one channel"),
        (np.zeros(100, np.int16), 0.0, "int16"),
        (np.zeros(100, np.float32), -1.0, "tail_s is 0 to 3600 seconds, not -1.0"),
        (np.zeros(100, np.float32), float("nan"), "tail_s is 0 to 3600 seconds, not nan"),
    ],
)
def test_what_is_no_recording_is_refused(nano, pcm, tail_s: float, message: str) -> None:
    with pytest.raises(MoshiError, match=message):
        nano.answer(pcm, tail_s)


def test_blocks_of_any_length_are_the_frames_that_they_make(nano: moshi_mlx.Moshi) -> None:
    pcm = moshi_mlx.audio.read(QUESTION)[: 10 * 1920 - 50]
    cuts = [0, 1, 480, 481, 6000, 12_000, len(pcm)]
    blocks = (pcm[a:b] for a, b in pairwise(cuts))
    with nano.session(seed=3) as session:
        streamed = list(session.stream(blocks))
    with nano.session(seed=3) as session:
        stepped = [session.step(frame) for frame in np.pad(pcm, (0, 50)).reshape(-1, 1920)]
    assert len(streamed) == len(stepped) == 10
    for ours, theirs in zip(streamed, stepped, strict=True):
        assert ours.text_token == theirs.text_token
        np.testing.assert_array_equal(ours.pcm, theirs.pcm)


def test_a_reply_comes_as_soon_as_its_frame_is_whole(nano: moshi_mlx.Moshi) -> None:
    given = []

    def blocks():
        for number in range(8):
            given.append(number)
            yield np.zeros(480, np.float32)

    with nano.session(seed=0) as session:
        replies = session.stream(blocks())
        next(replies)
        assert given == [0, 1, 2, 3]
        next(replies)
        assert len(given) == 8 and list(replies) == []
        with pytest.raises(MoshiError, match="one channel"):
            next(session.stream([np.zeros((2, 480), np.float32)]))


def test_pieces_become_words_with_their_times() -> None:
    words, reader = [], SpokenWords()
    for at, piece in [(0, " Fo"), (1, "ur"), (2, ""), (3, " plus"), (20, " é"), (21, ".")]:
        words += reader.push(at * 0.08, piece)
    words += reader.finish()
    assert reader.finish() == []
    assert [word.text for word in words] == ["Four", "plus", "é."]
    assert words[0][1:] == pytest.approx((0.0, 0.24))
    assert words[1][1:] == pytest.approx((0.24, 0.72)), "nothing follows for half a second"
    assert words[2][1:] == pytest.approx((1.6, 2.16))
    assert SpokenWords().push(0.0, " ") == [] and SpokenWords().finish() == []


def test_sound_files_are_read_and_written(tmp_path: Path) -> None:
    pcm = np.sin(np.arange(4800) / 20).astype(np.float32) * 2  # too loud: clipped
    for name in ("a.wav", "a.flac"):
        moshi_mlx.audio.write(tmp_path / name, pcm)
        read = moshi_mlx.audio.read(tmp_path / name)
        np.testing.assert_allclose(read, pcm.clip(-1, 1), atol=1e-4)
    moshi_mlx.audio.write(tmp_path / "b.wav", np.stack([pcm, 0 * pcm], axis=1))
    assert soundfile.info(tmp_path / "b.wav").channels == 2


@pytest.mark.parametrize(
    ("name", "samples", "message"),
    [
        ("a.mp3", np.zeros(10, np.float32), "written as .wav or .flac"),
        ("a.wav", np.zeros(10, np.int16), "not int16"),
        ("a.wav", np.zeros((1, 1, 1), np.float32), r"not float32 \[1, 1, 1\]"),
        ("a.wav", np.full(10, np.nan, np.float32), "no numbers"),
        ("none/a.wav", np.zeros(10, np.float32), "is no folder"),
    ],
)
def test_sound_that_cannot_be_written_leaves_no_file(tmp_path, name, samples, message) -> None:
    with pytest.raises(MoshiError, match=message):
        moshi_mlx.audio.write(tmp_path / name, samples)
    assert [*tmp_path.iterdir()] == []
    with pytest.raises(AudioError, match="no sound file at"):
        moshi_mlx.audio.read(tmp_path / name)


def test_mimi_is_found_by_the_names_that_load_knows(tmp_path: Path) -> None:
    pcm = moshi_mlx.audio.read(QUESTION)[: 5 * 1920]
    named = moshi_mlx.load_mimi("nano", codec="mlx", dtype="float32", offline=True)
    by_file = moshi_mlx.load_mimi(NANO / "mimi.safetensors", num_codebooks=8)
    np.testing.assert_array_equal(named.encode(pcm), by_file.encode(pcm))
    assert moshi_mlx.load_mimi("nano", num_codebooks=3).encode(pcm).shape[0] == 3
    # the sizes that a model's config names, and as many codebooks as it has
    for name in ("mimi.safetensors", "tokenizer.model"):
        shutil.copy(NANO / name, tmp_path)
    shutil.copy(NANO / "mimi_config.json", tmp_path / "sizes.json")
    raw = json.loads((NANO / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | {"mimi_config_name": "sizes.json"}))
    np.testing.assert_array_equal(moshi_mlx.load_mimi(tmp_path).encode(pcm), named.encode(pcm))


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("nano", {"codec": "opus"}, MoshiError, "no codec 'opus'"),
        ("nano", {"dtype": "int8"}, MoshiError, "unknown dtype 'int8'"),
        ("nano", {"revision": "v1"}, MoshiError, "a revision can't be chosen"),
        ("kyutai/none", {"offline": True}, DownloadError, "offline, but kyutai/none isn't on"),
        ("a/b/c", {}, DownloadError, "neither a folder here nor a repository"),
    ],
)
def test_a_mimi_that_there_is_not(name, options, error, message) -> None:
    with pytest.raises(error, match=message):
        moshi_mlx.load_mimi(name, **options)


def test_a_folder_without_mimi_or_with_that_of_transformers(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="has no mimi file"):
        moshi_mlx.load_mimi(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "mimi"}')
    with pytest.raises(ConfigError, match="in the layout of transformers"):
        moshi_mlx.load_mimi(tmp_path)


def test_objects_say_what_they_are(nano: moshi_mlx.Moshi) -> None:
    assert repr(nano).startswith("<Moshi nano: <Lm 6 layers x 128") and "codebooks>" in repr(nano)
    with nano.session(seed=7) as session:
        session.step(np.zeros(1920, np.float32))
        assert repr(session) == "<Session with nano: seed 7, 0.08 s so far>"
    assert repr(session) == "<Session with nano: seed 7, closed>"
    helium = moshi_mlx.load_helium(GOLDEN / "helium")
    assert repr(helium) == "<Helium 2 layers x 32, 96 pieces>"
    assert Word("a", 0.0, 1.0).text == "a"


def handed_out(nano: moshi_mlx.Moshi) -> Iterator[object]:
    """What the library's own calls give a program, of every kind of model."""
    lm, silent = nano.lm, np.zeros(nano.lm.config.user_q, np.int32)
    yield from (nano, lm, nano.codec, nano.tokenizer, nano.codec.stream())
    with nano.session(seed=7) as session:
        session.step(np.zeros(1920, np.float32))
        yield from (session, session.snapshot())
    yield session
    generator = lm.generator(seed=3)
    generator.step(silent)
    tokens = np.full((25, 1 + lm.config.n_q), -1)
    tokens[:, 0] = lm.config.text_padding_id
    yield from (generator, generator.snapshot(), lm.prompt(tokens), lm.generator(batch=2))
    yield nano.answer(np.zeros(4800, np.float32), 0.0, seed=0)
    second = np.zeros(24_000, np.float32)
    transcriber = moshi_mlx.load_stt(GOLDEN / "dsm_stt")
    stream = transcriber.stream()
    stream.push(second)
    yield from (transcriber, stream, transcriber.transcribe(second))
    speaker = moshi_mlx.load_tts(GOLDEN / "dsm_tts")
    speech = speaker.stream(voices=["ada"], seed=1)
    speech.write("hello there ")
    yield from (speaker, speech, speaker.speak(["hello"], voices=["ada"], seed=1))
    translator = moshi_mlx.load_translator(GOLDEN / "dsm_hibiki")
    heard = np.zeros((translator.lm.config.user_q, 20), np.int32)
    yield from (translator, translator.translate_codes(heard, heard), translator.generator(seed=1))
    yield moshi_mlx.load_helium(GOLDEN / "helium")


def test_whatever_the_library_hands_out_prints_as_one_line(nano: moshi_mlx.Moshi) -> None:
    told = [repr(one) for one in handed_out(nano)]
    assert all(len(line) < 250 and "\n" not in line for line in told), told
    assert not [line for line in told if "object at 0x" in line or "array(" in line]
    assert "<LmGenerator: seed 3, 1 frames so far>" in told
    assert any(line.startswith("<LmState: seed 3, 1 frames, 0.") for line in told)
    assert "<TranscriptStream: 0.96 s heard>" in told


def test_the_version_is_that_of_the_distribution() -> None:
    assert moshi_mlx.__version__ == version("moshi-local")
