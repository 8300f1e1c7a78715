"""`moshi.prompt(voice=...)`: a name of the model's, a file, or a recording of somebody."""

import numpy as np
import pytest
import soundfile

import moshi_mlx
from moshi_mlx.audio.file import read_mono
from moshi_mlx.errors import AudioError, MoshiError, WeightsError
from moshi_mlx.lm.state.prompt_cache import PromptCache
from moshi_mlx.persona.choice import chosen_voice, is_recording
from moshi_mlx.persona.recording import LONGEST_S, at_loudness, codes_of_recording
from tests.support.models.speaking_persona import speaking_persona
from tests.support.models.talking_folder import PERSONA

SPEECH = PERSONA.parent / "voice_rms.flac"
RATE = 24_000


@pytest.fixture(scope="module")
def moshi(tmp_path_factory):
    return moshi_mlx.load(speaking_persona(tmp_path_factory.mktemp("plex")), dtype="float32")


@pytest.fixture
def spoken(tmp_path):
    """Five seconds of speech, quiet, at another rate, in stereo."""
    pcm = read_mono(SPEECH)[: 5 * RATE] * 0.1
    path = tmp_path / "my.wav"
    soundfile.write(path, np.repeat(pcm[::2, None], 2, axis=1), RATE // 2)
    return path


def prompt(moshi, tmp_path, **options):
    return moshi.prompt("You are a sailor.", cache=PromptCache(tmp_path / "prompts"), **options)


def same(a, b):
    return all(
        np.array_equal(np.array(x), np.array(y))
        for one, other in zip(a.past.slots, b.past.slots, strict=True)
        for x, y in zip(one, other, strict=True)
    )


def test_a_name_is_the_voices_file(moshi, tmp_path):
    path = moshi.folder / "voices" / "WIDE.safetensors"
    named, by_path, other = (
        prompt(moshi, tmp_path, voice=voice) for voice in ("wide", path, "FAR")
    )
    assert same(named, by_path) and not same(named, other)
    with pytest.raises(MoshiError, match=r"no voice WID \(did you mean WIDE\?\); there are FAR, W"):
        prompt(moshi, tmp_path, voice="WID")
    with pytest.raises(MoshiError, match=r"no voice at none\.wav"):
        prompt(moshi, tmp_path, voice="none.wav")
    with pytest.raises(WeightsError, match="can't be read as a torch file"):
        (tmp_path / "x.pt").write_bytes(b"no zip")
        prompt(moshi, tmp_path, voice=tmp_path / "x.pt")


def test_a_recording_becomes_the_codes_of_a_fresh_encoder(moshi, spoken, tmp_path):
    codes = codes_of_recording(spoken, moshi.codec, 8)
    assert codes.shape == (8, 63) and codes.dtype == np.int32  # 5 s, the last frame filled up
    stream, pcm = moshi.codec.stream(), at_loudness(read_mono(spoken), spoken)
    pcm = np.pad(pcm, (0, 63 * 1920 - len(pcm))).reshape(-1, 1920)
    assert np.array_equal(codes, np.stack([stream.encode(frame)[:8] for frame in pcm], axis=1))
    heard = prompt(moshi, tmp_path, voice=spoken)
    assert same(heard, prompt(moshi, tmp_path, voice=codes))
    assert heard.frames > 63
    assert is_recording(spoken) and not is_recording("WIDE") and not is_recording("none.wav")


def test_a_recording_is_heard_as_loud_as_the_models_voices(spoken):
    """By another meter than the one that did it: BS.1770's mean square, speech without pauses."""
    tone = 0.01 * np.sin(2 * np.pi * 997 * np.arange(3 * RATE) / RATE).astype(np.float32)
    loud = at_loudness(tone, spoken)
    # A sine of 997 Hz at 0 dBFS in one channel has -3.01 LUFS (EBU Tech 3341, by its definition).
    peak_db = 20 * np.log10(np.abs(loud).max())
    assert peak_db - 3.01 == pytest.approx(-24.0, abs=0.1)
    first, second = (at_loudness(read_mono(spoken) * k, spoken) for k in (1.0, 0.3))
    assert np.allclose(first, second, atol=1e-4)


@pytest.mark.parametrize(
    ("pcm", "line"),
    [
        (np.zeros(2 * RATE, np.float32), "is silent"),
        (np.full(2 * RATE, 1e-5, np.float32), "is silent"),
        (np.ones(RATE // 2, np.float32), "lasts 0.5 s: a voice is 1 to 30 s"),
        (np.ones(int(LONGEST_S + 1) * RATE, np.float32), "lasts 31.0 s"),
        (np.zeros(0, np.float32), "holds no sound"),
    ],
)
def test_recordings_that_are_no_voice_are_one_line(pcm, line, moshi, tmp_path):
    path = tmp_path / "my.wav"
    soundfile.write(path, pcm, RATE)
    with pytest.raises(AudioError, match=line), chosen_voice(path, tmp_path, moshi.codec, 8, "it"):
        pass


def test_what_is_no_sound_and_a_model_that_takes_none_are_one_line(moshi, spoken, tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(AudioError):
        prompt(moshi, tmp_path, voice=tmp_path / "text.wav")
    with pytest.raises(MoshiError, match="takes no persona"):
        prompt(moshi_mlx.load("nano"), tmp_path, voice=spoken)
