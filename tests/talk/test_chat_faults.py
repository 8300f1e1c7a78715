"""What may go wrong in a talk: one line, the right status, the recording intact, nothing left."""

import os
import resource
import signal
import time
from pathlib import Path

import pytest
import soundfile

from moshi_mlx.hub import NANO
from tests.support.processes.chat_process import CHAT, ChatProcess, check_take, takes_in
from tests.support.processes.endings import until, until_ours

QUESTION = str(NANO / "samples" / "four_plus_three.wav")
ENDLESS = ("--virtual-input", QUESTION, "--tail", "600")
ANSWERED = ("--virtual-input", QUESTION, "--tail", "2")


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("model", "error: RuntimeError: [metal] no memory (a bug"),
        ("codec", "error: PanicException: index out of bounds (a bug"),
        ("codec beside", "error: rustymimi failed in decode_step: index out of bounds"),
    ],
)
def test_a_model_or_codec_that_raises(tmp_path, fault, line):
    start = ("-m", "tests.support.processes.faulty_chat", fault)
    record = ("--record", str(tmp_path / "talks"))
    with ChatProcess(tmp_path, *ENDLESS, *record, start=start) as chat:
        chat.wait_for("raised at")
        assert chat.end() == 1
        (told,) = [one for one in chat.notes.splitlines() if one.startswith("error")]
        assert told.startswith(line)
        assert "threads left: []" in chat.notes and "Traceback" not in chat.notes
    (take,) = takes_in(tmp_path / "talks")
    manifest = check_take(take)
    assert manifest["ended"] == "failed" and manifest["frames"] >= 8


@pytest.mark.parametrize("moment", ["importing", "loading", "talking", "twice"])
def test_ctrl_c_at_any_moment(tmp_path, moment):
    with ChatProcess(tmp_path, *ENDLESS, "--record", str(tmp_path / "talks")) as chat:
        if moment == "importing":
            until_ours(chat.process)
        elif moment == "loading":
            deadline = time.monotonic() + 30
            while not (tmp_path / "talks").exists() and time.monotonic() < deadline:
                time.sleep(0.005)
        else:
            chat.wait_for("conversation 1")
            time.sleep(0.5)
        if moment == "twice":
            chat.process.send_signal(signal.SIGINT)
        status = chat.interrupt()
        assert "Traceback" not in chat.notes and status == 130, chat.notes
        told = [f"recorded: {take}" in chat.notes for take in takes_in(tmp_path / "talks")]
        assert all(told) and (told or moment in ("importing", "loading"))
    for take in takes_in(tmp_path / "talks"):
        assert check_take(take)["ended"] == "stopped"


def test_an_end_by_the_system(tmp_path):
    with ChatProcess(tmp_path, *ENDLESS, "--record", str(tmp_path / "talks")) as chat:
        chat.wait_for("conversation 1")
        time.sleep(0.5)
        chat.process.send_signal(signal.SIGTERM)
        assert chat.end() == 143 and "Traceback" not in chat.notes
    (take,) = takes_in(tmp_path / "talks")
    check_take(take)
    assert f"recorded: {take}" in chat.notes


def test_a_reader_that_goes_away(tmp_path):
    reading, writing = os.pipe()
    with ChatProcess(tmp_path, *ANSWERED, stdout=writing) as chat:
        os.close(writing)
        os.close(reading)
        assert chat.end() == 0, chat.notes
        assert "BrokenPipe" not in chat.notes and "Traceback" not in chat.notes


def test_a_disk_that_fills_up_while_recording(tmp_path):
    def full_at_100_kb():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    args = (*ANSWERED, "--record", str(tmp_path / "talks"))
    with ChatProcess(tmp_path, *args, preexec_fn=full_at_100_kb) as chat:
        assert chat.end() == 1
        assert "error: recording stopped: No space left on device" in chat.notes
        assert chat.said == "Four plus three is seven.\n", "the talk went on"
    (take,) = takes_in(tmp_path / "talks")
    assert check_take(take, finished=True)["ended"] == "disk failed"


def lines(take: Path) -> int:
    """Frames recorded so far."""
    timings = take / "timings.jsonl"
    return timings.read_text().count("\n") if timings.exists() else 0


def test_killed_outright_less_than_a_second_is_lost(tmp_path):
    with ChatProcess(tmp_path, *ENDLESS, "--record", str(tmp_path / "talks")) as chat:
        chat.wait_for("conversation 1")
        until(lambda: any(lines(take) > 20 for take in takes_in(tmp_path / "talks")))
        chat.process.kill()
        chat.end()
    (take,) = takes_in(tmp_path / "talks")
    talk = check_take(take, finished=False)
    assert len(talk["timings"]) > 20
    assert 1920 * len(talk["timings"]) - len(talk["sound"]) < 24_000
    assert soundfile.info(take / "talk.wav").frames == len(talk["sound"])


def test_a_virtual_output_on_a_full_disk_is_one_line(tmp_path):
    def full_at_60_kb():
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    args = (*ANSWERED, "--virtual-output", str(tmp_path / "out.wav"))
    with ChatProcess(tmp_path, *args, preexec_fn=full_at_60_kb) as chat:
        assert chat.end() == 1
        (told,) = [line for line in chat.notes.splitlines() if line.startswith("error")]
        assert "out.wav can't be written (No space left on device)" in told
    assert soundfile.info(tmp_path / "out.wav").frames > 20_000, "what fitted is whole"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--virtual-output", "a.wav"], "--virtual-output needs --virtual-input"),
        (["--virtual-input", QUESTION, "--input", "x"], "--virtual-input is a device of its own"),
        (["--virtual-input", "no.wav"], "no sound file at no.wav"),
        (["--virtual-input", QUESTION, "--virtual-output", "a.mp3"], "choose .wav"),
        (["--virtual-input", QUESTION, "--tail", "-3"], "--tail is 0 to 3600 seconds, not -3"),
        (["--virtual-input", QUESTION, "--tail", "nan"], "--tail is 0 to 3600 seconds, not nan"),
        (["--virtual-input", QUESTION, "--bits", "8"], "leave --bits out"),
        (["--virtual-input", QUESTION, "--record", "pyproject.toml"], "can't record to"),
    ],
)
def test_bad_input_is_one_line(args, message, capsys):
    from app.cli import main

    usage = message.startswith(("--", "leave"))
    assert main([*CHAT, *args]) == (2 if usage else 1)
    told = capsys.readouterr().err.splitlines()
    assert message in told[-1] and len([line for line in told if "error" in line]) == 1


def test_a_number_out_of_range_is_wrong_usage(capsys):
    from app.cli import main

    with pytest.raises(SystemExit) as usage:
        main([*CHAT, "--virtual-input", QUESTION, "--text-temperature", "-1"])
    told = capsys.readouterr().err.splitlines()[-1]
    assert usage.value.code == 2 and "--text-temperature: must be a number from 0" in told


def talk_to(out, *options):
    from app.cli import main

    return main([*CHAT, "--virtual-input", QUESTION, "--virtual-output", str(out), *options])


def test_a_virtual_output_replaces_nothing_unasked(tmp_path, capsys):
    out = tmp_path / "out.wav"
    out.write_bytes(b"an earlier talk")
    assert talk_to(out) == 1
    assert (
        "out.wav exists: choose another name, or replace it with --force" in capsys.readouterr().err
    )
    assert talk_to(out, "--force", "--model", str(tmp_path)) == 1  # there is no model
    assert out.read_bytes() == b"an earlier talk"
    assert talk_to(tmp_path / "new.wav", "--model", str(tmp_path)) == 1
    assert talk_to(out, "--force", "--tail", "0") == 0
    assert soundfile.info(out).frames > 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]


def test_a_virtual_output_is_never_the_input_nor_a_pipe(tmp_path, capsys):
    question, pipe, link = tmp_path / "q.wav", tmp_path / "pipe.wav", tmp_path / "link.wav"
    question.write_bytes(Path(QUESTION).read_bytes())
    os.mkfifo(pipe)
    link.symlink_to(question)
    for out, message in (
        (question, "is the input"),
        (link, "is the input"),
        (pipe, "pipe.wav is no file"),
    ):
        assert talk_to(out, "--virtual-input", str(question), "--force") == 1
        assert message in capsys.readouterr().err
    assert question.read_bytes() == Path(QUESTION).read_bytes()


def test_unknown_choices_list_the_known_ones(capsys):
    from app.cli import main

    with pytest.raises(SystemExit) as usage:
        main(["chat", "--echo", "loud"])
    assert usage.value.code == 2 and "linear" in capsys.readouterr().err
