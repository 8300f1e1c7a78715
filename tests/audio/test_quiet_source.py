"""MP3 files that are damaged: read as far as they go, told in our words, and in ours alone."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

import moshi_mlx
from app.cli import main
from moshi_mlx.audio.file import read_mono
from moshi_mlx.audio.quiet_source import QuietSource, stderr_lines
from moshi_mlx.errors import AudioError

QUESTION = Path(moshi_mlx.__file__).parent / "nano" / "samples" / "who_made_you.wav"
RATE = 24_000
SPEECH = soundfile.read(QUESTION, dtype="float32")[0]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("mp3") / "a.mp3"
    soundfile.write(path, np.tile(SPEECH, 4), RATE, format="MP3")
    return path.read_bytes()


def damages(whole: bytes) -> Iterator[tuple[str, bytes]]:
    """Each makes mpg123 speak, and leaves sound that can be read, or none."""
    noise = np.random.default_rng(0).bytes(3000)
    middle = len(whole) // 2
    yield "bytes changed", whole[:middle] + noise[:300] + whole[middle + 300 :]
    yield "bytes put in", whole[:middle] + noise[:500] + whole[middle:]
    yield "bytes lost", whole[:middle] + whole[middle + 300 :]
    yield "a frame cut", whole[:-100]
    yield "nothing whole", whole[:300] + noise


def said_by(code: str, *args: object) -> tuple[str, str]:
    """stdout and stderr of a process: what C code writes, no fixture of pytest's sees."""
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], cwd=ROOT, capture_output=True, text=True
    )
    return run.stdout, run.stderr


READS = """
import sys
from pathlib import Path
from moshi_mlx.audio.file import read_mono
from moshi_mlx.errors import AudioError
for path in sorted(Path(sys.argv[1]).glob("*.mp3")):
    try:
        read_mono(path)
        print("read", flush=True)
    except AudioError as error:
        print(error, flush=True)
"""


def test_the_decoder_itself_is_never_heard(tmp_path: Path, whole: bytes) -> None:
    """What a file lacks is a note of ours, or one line."""
    for name, data in damages(whole):
        (tmp_path / f"{name}.mp3").write_bytes(data)
    out, err = said_by(READS, tmp_path)
    cut, changed, lost, put_in, nothing = out.splitlines()  # in the order of their names
    assert put_in == "read" and "(damaged); give a recording in" in nothing
    for line in (cut, changed, lost):
        assert "claims 3.5 s of sound and holds 3.4 s: it is damaged" in line
    (note,) = err.splitlines()
    assert note.startswith("note: ") and note.endswith(
        "bytes put in.mp3: the file is damaged; what can't be decoded of it is left out"
    )


def test_it_would_be_heard(tmp_path: Path, whole: bytes) -> None:
    """The test above can fail."""
    (tmp_path / "a.mp3").write_bytes(dict(damages(whole))["bytes put in"])
    code = "import soundfile, sys; soundfile.read(sys.argv[1])"
    assert "mpg123" in said_by(code, tmp_path / "a.mp3")[1]


def test_a_whole_file_has_no_note(tmp_path: Path, whole: bytes) -> None:
    (tmp_path / "a.mp3").write_bytes(whole)
    notes: list[str] = []
    assert abs(len(read_mono(tmp_path / "a.mp3", notes.append)) - 4 * len(SPEECH)) < RATE / 10
    assert notes == []


def test_a_trace_of_a_damaged_file_is_quiet(tmp_path: Path, whole: bytes, capfd) -> None:
    (tmp_path / "a.mp3").write_bytes(dict(damages(whole))["bytes changed"])
    assert main(["trace", str(tmp_path / "a.mp3")]) == 3  # nothing found
    said = capfd.readouterr().err
    assert "mpg123" not in said and "Note:" not in said


def test_what_others_write_meanwhile_comes_through(capfd) -> None:
    with stderr_lines() as lines:
        os.write(2, b"[src/libmpg123/layer3.c:do_layer3():1804] error: dequantization failed!\n")
        os.write(2, b"\nNote: Trying to resync...\na warning of ours\nhalf a line")
    assert len(lines) == 5
    assert capfd.readouterr().err == "a warning of ours\nhalf a line"
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"


def test_threads_that_read_at_once_leave_stderr_as_it_was(
    tmp_path: Path, whole: bytes, capfd
) -> None:
    (tmp_path / "a.mp3").write_bytes(dict(damages(whole))["bytes lost"])
    before, damaged = os.fstat(2), []

    def read() -> None:
        for _ in range(5):
            with QuietSource(tmp_path / "a.mp3") as sound:
                while len(sound.block(10_000)):
                    os.write(2, b"of a neighbour\n")
                damaged.append(sound.damaged)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert damaged == [True] * 20
    assert (os.fstat(2).st_dev, os.fstat(2).st_ino) == (before.st_dev, before.st_ino)
    said = capfd.readouterr().err.splitlines()
    assert len(said) > 100 and set(said) == {"of a neighbour"}


def test_without_a_descriptor_or_a_folder_it_is_read_all_the_same(tmp_path: Path) -> None:
    code = """
import os, sys, tempfile
from moshi_mlx.audio.file import read_mono
tempfile.tempdir = sys.argv[2]
print(len(read_mono(sys.argv[1])), flush=True)
tempfile.tempdir = None
os.close(2)
print(len(read_mono(sys.argv[1])))
"""
    out, err = said_by(code, QUESTION, tmp_path / "none")
    assert out == f"{len(SPEECH)}\n" * 2, err


def test_a_name_says_nothing(tmp_path: Path, capsys) -> None:
    (tmp_path / "noise.raw").write_bytes(bytes(range(256)) * 40)
    assert main(["trace", str(tmp_path / "noise.raw")]) == 1
    assert "noise.raw can't be read as sound" in capsys.readouterr().err
    soundfile.write(tmp_path / "a.raw", SPEECH, RATE, format="WAV")
    with QuietSource(tmp_path / "a.raw") as sound:
        assert (sound.format, sound.frames) == ("WAV", len(SPEECH))


def test_what_is_no_sound_is_refused_as_ever(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(b"ID3\x04" + bytes(5000))
    with pytest.raises(AudioError, match="can't be read as sound"):
        read_mono(tmp_path / "a.mp3")
