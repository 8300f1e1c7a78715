"""Generated sound on disk: it says of itself what it is, is signed when closed, never lost."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import soundfile

import moshi_mlx
from app.cli import main
from app.events import ConversationEnded, ConversationStarted, FrameDone, Ready, Settings
from app.provenance.asking import credentials_of
from app.provenance.credentials import available
from app.provenance.index import Index, default_path
from app.provenance.marking import Marking
from app.provenance.origin import HUMAN, MACHINE, Origin
from app.provenance.seal import seal
from app.recording.recorder import Recorder
from app.speech.speech_files import kept
from moshi_mlx.errors import MoshiError
from moshi_mlx.provenance import detect, make_key, mark
from tests.support.models.small_speaker import with_codec
from tests.support.rooms import GOLDEN, voice

RATE, FRAME = 24_000, 1920
QUESTION = Path(moshi_mlx.__file__).parent / "nano" / "samples" / "four_plus_three.wav"
VOICE = str(GOLDEN / "dsm_tts" / "ada.wav.1e68beda@240.safetensors")
GREEDY = ["--text-temperature", "0", "--audio-temperature", "0", "--seed", "0"]
needs_c2pa = pytest.mark.skipif(not available(), reason="the extra c2pa isn't installed")


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def record(folder: Path, seal=None, flac: bool = False, mark: str = "public key") -> Path:
    recorder = Recorder(folder, flac, seal=seal)
    recorder(Ready("/home/anna/my-model", "q4", 0.1, mark, "0" * 40, "pirate"))
    recorder(ConversationStarted(1, 7, Settings()))
    rng = np.random.default_rng(0)
    for index in range(25):
        heard, reply = rng.uniform(-0.5, 0.5, (2, FRAME)).astype(np.float32)
        recorder(FrameDone(1, index, heard, reply, "", 0, 1.0, 0.0, 1.0, 0.0, 0))
    recorder(ConversationEnded(1, "hung up", 25))
    recorder.close()
    assert recorder.failure is None
    return recorder.takes[0]


def manifest(take: Path) -> dict:
    return json.loads((take / "manifest.json").read_text())


@pytest.mark.parametrize("flac", [False, True])
def test_what_is_sealed_is_the_finished_file_and_the_manifest_says_so(tmp_path, flac):
    sealed: list[tuple[Path, Origin]] = []

    def keep(path: Path, origin: Origin) -> str:
        assert soundfile.info(path).frames == 25 * FRAME
        sealed.append((path, origin))
        return ""

    take = record(tmp_path, keep, flac)
    assert [path.name for path, _ in sealed] == ["talk.flac" if flac else "talk.wav"]
    origin = sealed[0][1]
    assert (origin.channels, origin.seed, origin.mark) == ((HUMAN, MACHINE), 7, "public key")
    assert manifest(take)["signed"] is True and manifest(take)["mark"] == "public key"
    assert manifest(take)["adapter"] == origin.adapter == "pirate"


def test_why_a_recording_is_unsigned_is_told(tmp_path):
    take = record(tmp_path, lambda path, origin: "unsigned: no room", mark="none")
    assert manifest(take)["signed"] is False and "no room" in manifest(take)["why"]
    assert manifest(take)["mark"] == "none" and manifest(take)["finished"]


@pytest.mark.parametrize("flac", [False, True])
def test_a_recording_says_of_itself_that_it_is_generated(tmp_path, flac):
    take = record(tmp_path, flac=flac)
    with soundfile.SoundFile(take / ("talk.flac" if flac else "talk.wav")) as file:
        assert file.comment.startswith("AI-generated: the right channel; the other is a person")
        assert file.software.startswith("moshi-local") and "anna" not in file.comment
        assert file.frames == 25 * FRAME


@needs_c2pa
def test_a_recording_is_signed_with_this_machines_key(tmp_path):
    take = record(tmp_path, seal)
    told = credentials_of(take / "talk.wav")
    assert told["state"] == "Trusted" and manifest(take)["signed"] is True
    assert told["generation"]["seed"] == "7" and told["generation"]["revision"] == "0" * 40
    assert told["generation"]["model"] == "my-model"
    assert told["generation"]["adapter"] == "pirate"


def answer(tmp_path: Path, *options: str) -> Path:
    out = tmp_path / "answer.wav"
    command = ["file", str(QUESTION), str(out), "--model", "nano", *GREEDY, *options]
    assert main(command) == 0
    return out


@pytest.fixture(scope="module")
def speaking(tmp_path_factory) -> dict[str, list[str]]:
    """Every command that writes what a model says: its words but for the file."""
    folder = tmp_path_factory.mktemp("models")
    speaker = with_codec(folder / "speaker")
    translator = with_codec(folder / "translator", "dsm_hibiki_zero")
    # Of speech its random weights make a minute; of this noise six seconds.
    noise = np.random.default_rng(1).standard_normal(63 * FRAME) * 0.1
    soundfile.write(folder / "noise.wav", noise.astype(np.float32), RATE)
    return {
        "file": ["file", str(QUESTION), "{out}", "--model", "nano", "--tail", "1.5"],
        "say": ["say", "Do you hear me?", "-o", "{out}", "--voice", VOICE, "--model", str(speaker)],
        "translate": ["translate", str(folder / "noise.wav"), "{out}", "--model", str(translator)],
    }


def said_by(command: list[str], out: Path, *options: str) -> int:
    words = [str(out) if word == "{out}" else word for word in command]
    return main([*words, *GREEDY, *options])


SPEAKING = ("file", "say", "translate")


@pytest.mark.parametrize("name", SPEAKING)
def test_every_command_that_speaks_marks_and_tells_of_no_mark(name, speaking, tmp_path, capsys):
    plain, marked = tmp_path / "plain.wav", tmp_path / "marked.wav"
    assert said_by(speaking[name], plain, "--no-mark") == 0
    assert capsys.readouterr().err.count("carries no mark (--no-mark)") == 1
    assert said_by(speaking[name], marked) == 0
    assert "no mark" not in capsys.readouterr().err
    before, after = (soundfile.read(path, dtype="float32")[0] for path in (plain, marked))
    assert np.any(before) and not np.allclose(before, after, atol=1e-3)
    if abs(before).max() < 0.9:
        np.testing.assert_allclose(after, mark(before), atol=2e-4)  # 16 bit
    else:  # a model of random weights, whose file is clipped
        assert [any(window.found for window in detect(pcm)) for pcm in (before, after)] == [0, 1]
    if available():
        told = [credentials_of(path)["generation"]["mark"] for path in (plain, marked)]
        assert told == ["none", "public key"]
    assert main(["trace", str(plain)]) == (0 if available() else 3)
    assert "its mark is in" not in capsys.readouterr().out


@needs_c2pa
@pytest.mark.parametrize("name", SPEAKING)
def test_a_key_that_others_can_read_signs_nothing_and_is_told(name, speaking, tmp_path, capsys):
    place = default_path().parent
    place.mkdir(parents=True)
    (place / "signing.pem").write_text("")
    (place / "signing.pem").chmod(0o644)
    out = tmp_path / "out.wav"
    assert said_by(speaking[name], out) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "signing" in line]
    assert len(told) == 1 and told[0].startswith(f"{out}: the signing key")
    assert "can be read by others: chmod 600" in told[0]
    assert soundfile.info(out).frames and credentials_of(out)["state"] == "none"


@pytest.mark.parametrize("name", SPEAKING)
def test_an_index_of_no_use_is_told_before_anything_is_said(name, speaking, tmp_path, capsys):
    default_path().parent.mkdir(parents=True)
    default_path().write_bytes(b"no database" * 1000)
    assert said_by(speaking[name], tmp_path / "out.wav", "--index") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: the index") and said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["config"]


def test_an_index_that_fails_on_the_way_loses_nothing_of_the_sound(tmp_path):
    """As when the disk fills up: a line, and the file is there."""
    told: list[str] = []
    out, index = tmp_path / "out.wav", tmp_path / "index.sqlite"
    with kept(out, Origin("nano"), index, told.append) as take:
        take(voice("voice_rms"))
        with sqlite3.connect(index) as database:
            database.execute("drop table landmark")
        take(voice("voice_awb"))
        take(voice("voice_awb"))
    assert len(told) == 1 and told[0].startswith("nothing more goes into the index: the index ")
    assert soundfile.info(out).frames == len(voice("voice_rms")) + 2 * len(voice("voice_awb"))
    told.clear()
    with (
        pytest.raises(MoshiError, match="can't be used"),  # told before the first sound
        kept(tmp_path / "other.wav", Origin("nano"), index, told.append),
    ):
        raise AssertionError
    assert not (tmp_path / "other.wav").exists()


def test_a_file_is_marked_says_so_and_is_in_the_index(tmp_path, capsys):
    key = tmp_path / "mine.key"
    make_key(key)
    out = answer(tmp_path, "--mark-key", str(key), "--mark-payload", "77", "--index")
    capsys.readouterr()
    with Index(default_path()) as index:
        assert len(index.talks()) == 1
    assert main(["trace", str(out), "--key", str(key), "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)[0]
    assert verdict["comment"].startswith("AI-generated")
    found = [window for window in verdict["windows"] if window["found"]]
    assert found and all(w["payload"] == 77 and w["key"] == str(key) for w in found)
    if available():
        assert verdict["credentials"]["generation"]["mark"] == "private key"


def test_bad_options_are_one_line(tmp_path, capsys):
    command = ["file", str(QUESTION), str(tmp_path / "a.wav"), "--model", "nano"]
    with pytest.raises(SystemExit) as usage:
        main([*command, "--mark-payload", "4096"])
    assert usage.value.code == 2 and "from 0 to 4095" in capsys.readouterr().err
    assert main([*command, "--mark-key", str(tmp_path / "gone")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_key_is_in_no_log():
    assert "secret" not in repr(Marking(key=b"secret"))
