"""Voices by name: of the model's folder, of Kyutai's repository, and near misses."""

import shutil
from pathlib import Path, PurePath

import pytest

import moshi_mlx
from moshi_mlx.errors import DownloadError, MoshiError
from moshi_mlx.tts.voice_names import KYUTAIS, VoiceFinder, matching, voice_name
from tests.support.fakes.fake_hub import serving

GOLDEN = Path(__file__).parents[1] / "golden" / "dsm_tts"
ADA = GOLDEN / "ada.wav.1e68beda@240.safetensors"
FITS = "1e68beda@240"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("ada.wav.1e68beda@240.safetensors", "ada"),
        ("expresso/ex03-ex01_happy_001_channel1_334s.wav.1e68beda@240.safetensors",
         "expresso/ex03-ex01_happy_001_channel1_334s"),
        ("mine.safetensors", "mine"),
        ("v1.2.wav.x@1.safetensors", "v1.2"),
    ],
)  # fmt: skip
def test_a_voice_is_called_as_its_recording(path, name):
    assert voice_name(PurePath(path)) == name


def test_a_name_is_meant_whole_before_its_last_part():
    known = ["ada", "vctk/ada", "vctk/Ben"]
    assert matching("ADA", known) == ["ada"] and matching("ben", known) == ["vctk/Ben"]
    assert matching("carl", known) == []


@pytest.fixture
def folder(tmp_path):
    """Two voices, one of them in two folders; a voice that is damaged; weights."""
    for name in ("a/ada", "b/ada", "b/ben"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ADA, tmp_path / f"{name}.wav.{FITS}.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no header")
    shutil.copy(GOLDEN / "model.safetensors", tmp_path)
    return tmp_path


def test_the_folders_voices_are_found_by_name(folder):
    finder = VoiceFinder(folder)
    assert finder.find("ben") == folder / "b" / f"ben.wav.{FITS}.safetensors"
    assert finder.find("A/Ada") == folder / "a" / f"ada.wav.{FITS}.safetensors"
    assert finder.find(ADA) == ADA
    with pytest.raises(MoshiError, match="several voices are called ada: take a/ada or b/ada"):
        finder.find("ada")
    with pytest.raises(MoshiError, match=r"has no voice bem \(did you mean ben\?\); there are a/a"):
        finder.find("bem")
    with pytest.raises(MoshiError, match="no voice model"):
        finder.find("model")


@pytest.mark.parametrize("path", ["./ada", "/ada", "~/ada", "ada.safetensors", " "])
def test_a_path_is_no_name(folder, path):
    with pytest.raises(MoshiError, match="no voice file at"):
        VoiceFinder(folder).find(path)


def test_a_folder_without_voices_says_so(tmp_path):
    with pytest.raises(MoshiError, match="has no voice ada: give a voice file"):
        VoiceFinder(tmp_path).find("ada")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Kyutai's repository, with a voice of another model."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with serving(monkeypatch) as server:
        server.repositories[KYUTAIS] = {
            f"vctk/ada.wav.{FITS}.safetensors": ADA.read_bytes(),
            "vctk/eve.wav.00000000@1.safetensors": ADA.read_bytes(),
            "README.md": b"# licences",
        }
        yield server


def test_kyutais_voices_are_fetched_one_by_one(hub, tmp_path):
    finder = VoiceFinder(tmp_path / "model", FITS)
    for name in ("vctk/ada", "ada"):
        assert finder.find(name).read_bytes() == ADA.read_bytes()
    with pytest.raises(MoshiError, match=r"no voice eve; there are vctk/ada"):
        finder.find("eve")  # of another model
    fetched = {path for command, path, _ in hub.requests if command == "GET" and "resolve" in path}
    assert len(fetched) == 1
    hub.repositories.clear()
    hub.requests.clear()
    offline = VoiceFinder(tmp_path / "model", FITS, offline=True)
    assert offline.find("ada").read_bytes() == ADA.read_bytes() and not hub.requests
    assert finder.find("ada").read_bytes() == ADA.read_bytes()  # the copy that is here


def test_without_an_answer_or_a_copy_it_says_so(hub, tmp_path):
    hub.repositories.clear()
    for offline, why in ((True, "offline, and nothing"), (False, "no repository")):
        with pytest.raises(MoshiError, match=f"no voice ada: give a voice file .*{why}"):
            VoiceFinder(tmp_path / "model", FITS, offline).find("ada")


def test_a_download_that_fails_is_one_line(hub, tmp_path):
    hub.gated.add(KYUTAIS)
    with pytest.raises(DownloadError):
        VoiceFinder(tmp_path / "model", FITS).find("ada")


def test_a_model_is_given_voices_by_name():
    speaker = moshi_mlx.load_tts(GOLDEN, dtype="float32")
    options = {"text_temperature": 0.0, "audio_temperature": 0.0, "seed": 0}
    named = speaker.speak("Hello.", voices=["Ada", "ben"], **options)
    files = [GOLDEN / f"{name}.wav.{FITS}.safetensors" for name in ("ada", "ben")]
    assert (named.codes == speaker.speak("Hello.", voices=files, **options).codes).all()
    speaker.model_id = {**speaker.model_id, "sig": "00000000"}
