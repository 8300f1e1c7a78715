"""Text to speech against whole runs of Kyutai's PyTorch package, and streams against the whole."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.errors import ConfigError, MoshiError
from moshi_mlx.tts.script import FRAME_RATE_HZ
from tests.support.models.small_speaker import with_codec

GOLDEN = Path(__file__).parents[1] / "golden"
FOLDERS = ("dsm_tts", "dsm_tts_cfg", "dsm_tts_prefix")
GREEDY: Any = {"text_temperature": 0.0, "audio_temperature": 0.0}
NAMES = (
    *("n_q", "padding_between", "padding_bonus", "max_padding", "initial_padding"),
    *("final_padding", "cfg_is_no_text", "cfg_is_no_prefix"),
)
RUNS = {
    (folder, name): run
    for folder in FOLDERS
    for name, run in json.loads((GOLDEN / folder / "golden.json").read_text()).items()
}


@pytest.fixture(scope="module")
def speakers():
    return {name: moshi_mlx.load_tts(GOLDEN / name, dtype="float32") for name in FOLDERS}


@pytest.fixture(scope="module")
def arrays():
    return {name: mx.load(str(GOLDEN / name / "golden.safetensors")) for name in FOLDERS}


def options_of(folder, run, prefix=None):
    voices = [GOLDEN / folder / voice for voice in run["voices"]]
    given = {name: run[name] for name in NAMES}
    coef = run["cfg_condition"] or run["cfg_coef"]
    prefix = None if prefix is None else np.array(prefix)[1:]
    return given | GREEDY | {"voices": voices, "cfg_coef": coef, "prefix": prefix}


@pytest.mark.parametrize(("folder", "name"), RUNS)
def test_a_script_is_spoken_as_pytorch_speaks_it(speakers, arrays, folder, name):
    run, golden = RUNS[folder, name], arrays[folder]
    options = options_of(folder, run, golden.get(f"{name}.prefix"))
    speech = speakers[folder].speak(run["turns"], **options)
    assert speech.fed.tolist() == np.array(golden[f"{name}.fed"]).tolist()
    assert np.array_equal(speech.codes, np.array(golden[f"{name}.frames"])[1:])
    assert speech.end_step == run["end_step"] and len(speech.fed) == run["steps"]
    assert [list(word) for word in speech.words] == run["transcript"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_script_of_entries_is_spoken_as_its_text(speakers, arrays, folder):
    """One of each model; that a text becomes the very entries is seen in test_script.py."""
    name = next(name for of, name in RUNS if of == folder)
    run, golden = RUNS[folder, name], arrays[folder]
    options = options_of(folder, run, golden.get(f"{name}.prefix"))
    by_entries = speakers[folder].speak([], entries=run["entries"], **options)
    assert np.array_equal(by_entries.codes, np.array(golden[f"{name}.frames"])[1:])


def test_text_that_arrives_bit_by_bit_is_spoken_as_the_whole_is(speakers):
    run, rng = RUNS["dsm_tts", "dialog"], random.Random(2)
    options = options_of("dsm_tts", run)
    whole = speakers["dsm_tts"].speak(run["turns"], **options)
    stream, early = speakers["dsm_tts"].stream(**options), 0
    for i, turn in enumerate(run["turns"]):
        words = turn.replace("<break ", "<break_").split()
        while words:
            part, words = words[: (n := rng.randint(1, 3))], words[n:]
            stream.say(" ".join(part).replace("<break_", "<break "), i % 2)
            early += sum(1 for _ in stream.frames())
    stream.end()
    late = sum(1 for _ in stream.frames())
    spoken = stream.speech()
    assert early > late > 0 and spoken.words == whole.words
    assert np.array_equal(spoken.codes, whole.codes) and np.array_equal(spoken.fed, whole.fed)


@pytest.fixture(scope="module")
def with_mimi(tmp_path_factory):
    """The small model beside a small Mimi of the same codes."""
    folder = with_codec(tmp_path_factory.mktemp("tts") / "model")
    return moshi_mlx.load_tts(folder, dtype="float32")


def test_the_sound_is_that_of_the_codes(with_mimi):
    speech = with_mimi.speak("Hello.", **GREEDY, seed=0, mark=None)
    sounding = speech.codes[:, with_mimi.delay_steps :]
    assert sounding.min() >= 0 and speech.pcm is not None
    whole = np.clip(with_mimi.mimi.decode(sounding), -1, 1)
    assert len(speech.pcm) == sounding.shape[1] * 1920
    assert np.allclose(speech.pcm, whole, atol=1e-5)
    assert speech.word_times[0] == ("Hello.", speech.words[0][1] / FRAME_RATE_HZ)


@pytest.mark.parametrize("n_q", [8, 3])
def test_the_sound_goes_on_from_the_voice_that_was_heard_first(tmp_path, n_q):
    """Its decoder has heard it too, over more frames than go through it at once."""
    folder = with_codec(tmp_path / "model", "dsm_tts_prefix")
    speaker = moshi_mlx.load_tts(folder, dtype="float32")
    voice = np.random.default_rng(0).integers(0, 48, (8, 20))
    speech = speaker.speak("Hello.", **GREEDY, prefix=voice, n_q=n_q, mark=None)
    said = speech.codes[:, speaker.delay_steps :]
    assert np.array_equal(said[:, :20], voice[:n_q]) and speech.pcm is not None
    whole = np.clip(speaker.mimi.decode(said), -1, 1)
    assert np.allclose(speech.pcm, whole[20 * 1920 :], atol=1e-5)


def test_silent_steps_do_not_run_the_depth_transformer(speakers):
    """Nothing but the text token is drawn there: the graph of a frame of no codebooks."""
    speaker = moshi_mlx.load_tts(GOLDEN / "dsm_tts", dtype="float32")
    stream = speaker.stream(**GREEDY)
    stream.say("Hello.")
    stream.end()
    frames = stream.frames()
    for _ in range(stream.first_sound):
        next(frames)
    sounding = speaker.frame(stream.n_q).functions.of(stream.draws)
    assert speaker.frame(0).functions.of(stream.draws).traces and not sounding.traces
    next(frames)
    assert sounding.traces


def test_seeds_and_codebooks(speakers):
    speak = speakers["dsm_tts"].speak
    one, same, other = (speak(["Hello."], seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.codes, same.codes) and one.fed.tolist() == same.fed.tolist()
    assert one.codes.shape != other.codes.shape or not np.array_equal(one.codes, other.codes)
    assert speak(["Hello."], n_q=3, seed=1).codes.shape[0] == 3


@pytest.mark.parametrize(
    ("turns", "options", "line"),
    [
        ([], {}, "no words"),
        ([""], {}, "no words"),
        (['<break time="1s"/>'], {}, "no words"),
        (["a"], {"n_q": 9}, "speaks with 1 to 8 codebooks"),
        (["a"], {"n_q": 0}, "speaks with 1 to 8 codebooks"),
        (["a"], {"cfg_coef": 9.0}, "can't be '9.0'"),
        (["a"], {"voices": ["no.safetensors"]}, "no voice file at"),
        (["a"], {"prefix": np.zeros((3, 5), int)}, r"a prefix is codes, int \[8, frames\]"),
        (["a"], {"prefix": np.full((8, 5), 48)}, "must lie between 0 and 47"),
        (["a"], {"text_temperature": -1.0}, "text_temperature must be"),
        (["a"], {"seed": -1}, "the seed must lie"),
        (['<break time="1,5s"/> a'], {}, "write seconds with a point"),
    ],
)
def test_what_cannot_be_said_is_one_line(speakers, turns, options, line):
    with pytest.raises(MoshiError, match=line):
        speakers["dsm_tts"].speak(turns, **options)


def test_a_stream_that_was_ended_takes_no_more_text(speakers):
    stream = speakers["dsm_tts"].stream()
    stream.end()
    with pytest.raises(MoshiError, match="was ended"):
        stream.say("more")
    with pytest.raises(MoshiError, match="speakers 0 and 1"):
        speakers["dsm_tts"].stream().say("a", 2)


def test_models_of_other_kinds_are_refused(speakers, tmp_path):
    with pytest.raises(ConfigError, match="no text to speech model"):
        moshi_mlx.load_tts("nano")
    with pytest.raises(MoshiError, match="takes no voice files"):
        speakers["dsm_tts_prefix"].speak(["a"], voices=["x"])
    with pytest.raises(MoshiError, match="cfg_coef must lie between 0 and 20"):
        speakers["dsm_tts_prefix"].speak(["a"], cfg_coef=float("nan"))
    shutil.copytree(GOLDEN / "dsm_tts", tmp_path / "m")
    raw = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(raw | {"tts_config": {}}))
    with pytest.raises(ConfigError, match="needs audio_delay"):
        moshi_mlx.load_tts(tmp_path / "m")
