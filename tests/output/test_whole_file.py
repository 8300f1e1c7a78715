"""Outputs come whole or not at all, through links and pipes, with the rights they should have."""

import os
import socket
import threading
from pathlib import Path

import pytest

from moshi_mlx.output.whole_file import OutputError, beside, check_outputs, whole_files, write_text


def refused(message: str, outputs: list[Path], **options) -> None:
    with pytest.raises(OutputError, match=message) as caught:
        check_outputs(outputs, **options)
    assert "\n" not in str(caught.value)


def test_what_is_there_needs_force_and_an_input_is_never_an_output(tmp_path):
    old, hard, link = tmp_path / "old", tmp_path / "hard", tmp_path / "link"
    old.write_text("precious")
    (tmp_path / "sub").mkdir()
    os.link(old, hard)
    link.symlink_to(old)
    refused("exists: choose another name, or replace it$", [old])
    refused("exists", [link])
    check_outputs([old], force=True)
    for name in (old, hard, link, tmp_path / "sub" / ".." / "old"):
        refused("is the input", [name], inputs=[old], force=True)
    refused("named for two outputs", [hard, link], force=True)
    refused("named for two outputs", [tmp_path / "a", tmp_path / "sub" / ".." / "a"])
    assert old.read_text() == "precious" and sorted(os.listdir(tmp_path)) == [
        *("hard", "link", "old", "sub")
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none/a", "none is no folder; make it first"),
        (".", "it is a folder; give the name of a file in it"),
        ("x" * 300, "File name too long"),
    ],
)
def test_places_that_take_no_file(tmp_path, name, message):
    refused(message, [tmp_path / name])
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
def test_another_way_to_a_file_is_no_stream(tmp_path, monkeypatch):
    """Which is written into as it is, whatever it holds."""
    monkeypatch.chdir(tmp_path)
    Path("old").write_text("precious")
    (tmp_path / "devices").symlink_to("/dev")
    (tmp_path / "here").symlink_to("/proc/self/cwd")
    around = f"{tmp_path}/old"
    for name in ("/proc/self/cwd/old", f"/proc/self/root{around}", f"/dev/..{around}", "here/old"):
        refused("exists", [Path(name)])
        refused("is the input old itself", [Path(name)], inputs=[Path("old")], force=True)
    with open("old", "r+") as file:
        number = Path(f"/dev/fd/{file.fileno()}")
        check_outputs([number])
        refused("is the input old itself", [number], inputs=[Path("old")])
    assert beside(Path("devices/null"), ".vtt") == Path("/dev/null")
    assert beside(Path("/proc/self/cwd/a.wav"), ".vtt") == Path("/proc/self/cwd/a.vtt")


def test_a_socket_is_told_before_the_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # its name must be short
    with socket.socket(socket.AF_UNIX) as end:
        end.bind("socket")
        refused("it is a socket; choose another name", [Path("socket")], force=True)


def test_a_link_to_itself(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    refused(r"loop can't be written \(it is a link that leads to itself\)", [tmp_path / "loop"])
    refused("a is no folder; make it first", [tmp_path / "a" / "b"], inputs=[tmp_path / "loop"])
    with pytest.raises(OutputError, match="a link that leads to itself"):
        write_text(tmp_path / "loop", "text")
    assert os.readlink(tmp_path / "loop") == "loop" and len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize(("umask", "rights"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_rights_are_those_of_the_umask_or_of_what_was_there(tmp_path, umask, rights):
    private = tmp_path / "private"
    private.write_text("")
    private.chmod(0o600)
    before = os.umask(umask)
    try:
        write_text(tmp_path / "new", "text")
        write_text(private, "text")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == rights
    assert private.stat().st_mode & 0o777 == 0o600


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("old")
    (tmp_path / "link").symlink_to("real/file")
    (tmp_path / "dangling").symlink_to("real/new")
    for name in ("link", "dangling"):
        write_text(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink()
    assert {p.name: p.read_text() for p in (tmp_path / "real").iterdir()} == {
        "file": "new",
        "new": "new",
    }


def test_a_pipe_is_written_into(tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    check_outputs([pipe])
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "text")
    reader.join(60)
    assert got == ["text"] and pipe.is_fifo() and os.listdir(tmp_path) == ["pipe"]


def test_a_device_stays_one():
    write_text(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()


def test_several_files_come_together_or_not_at_all(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("precious")
    with pytest.raises(RuntimeError), whole_files(old, new) as (first, second):
        first.write_text("1")
        second.write_text("2")
        raise RuntimeError
    assert old.read_text() == "precious" and os.listdir(tmp_path) == ["old"]
    with pytest.raises(OutputError, match="can't be written"), whole_files(old, new) as temporary:
        temporary[0].write_text("1")
        new.mkdir()  # the second one can't take its name
        (new / "x").touch()
    assert old.read_text() == "precious" and sorted(os.listdir(tmp_path)) == ["new", "old"]
    assert (new / "x").exists()


def test_a_disk_that_is_full_leaves_what_was_there(tmp_path):
    with pytest.raises(OutputError, match=r"No space left on device.*is the disk full"):
        write_text(Path("/dev/full"), "text")
    assert not list(tmp_path.iterdir())


def test_among_devices_nothing_is_made(tmp_path):
    for device in ("/dev/null", "/dev/stdout", "/proc/self/fd/1"):
        assert beside(Path(device), ".vtt") == Path("/dev/null")
    assert beside(Path("/dev/shm/a.wav"), ".vtt") == Path("/dev/shm/a.vtt")
    assert beside(tmp_path / "a.b.wav", ".vtt") == tmp_path / "a.b.vtt"
    assert beside(Path(""), ".vtt") == Path("")  # a folder, which is told


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
def test_a_file_that_a_system_folder_will_not_have_is_told_before_the_work():
    refused("/proc/a.wav can't be written", [Path("/proc/a.wav")])
    if os.access("/dev/shm", os.W_OK):
        name = Path(f"/dev/shm/moshi-test-{os.getpid()}")
        check_outputs([name])
        assert not name.exists()
