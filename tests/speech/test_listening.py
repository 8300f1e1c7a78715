"""A microphone written down: a virtual one on a virtual clock, and the command."""

import signal
import threading

import numpy as np
import pytest
import soundfile

from app.audio.stream.port import Capture, EndOfInput
from app.audio.virtual_port import ArraySource, VirtualPort
from app.cli import main
from app.speech.listening import Listening
from tests.support.fakes.heard_words import GOLDEN, WORD, heard_words
from tests.support.processes.endings import Command, until

FRAME = 1920


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    return heard_words(tmp_path_factory.mktemp("heard") / "model")


class Told:
    """What a user sees of it."""

    def __init__(self, stt, port):
        self.shown, self.lines, self.saved = "", [], []
        self.time_s, self.at_second_word = 0.0, threading.Event()
        self.listening = Listening(
            port, stt.stream(), self.show, self.lines.append, self.saved.append, self.clock
        )

    def show(self, text):
        self.shown += text
        if len(self.shown.split()) > 1:
            self.at_second_word.set()

    def clock(self):
        self.time_s += 40.0
        return self.time_s


def microphone(pcm):
    return VirtualPort(ArraySource(pcm), lambda block: None)


def test_words_come_and_turns_end_with_a_line(heard):
    """Two bursts, a long pause in which the turn ends, two bursts."""
    pause = np.zeros(40 * FRAME, np.float32)
    pcm = np.concatenate([heard.sound(4), pause, heard.sound(4)])
    told = Told(heard.stt, microphone(pcm))
    transcript = told.listening.run(threading.Event())
    assert told.shown == f"{WORD} {WORD}\n{WORD} {WORD}\n"
    assert transcript.words == heard.stt.transcribe(pcm).words
    assert told.saved and told.lines == []
    assert [w.text for w in told.saved[0].words] == [WORD]  # the second isn't over yet


def test_it_stops_when_it_is_asked_to(heard):
    port = microphone(heard.sound(600))
    told = Told(heard.stt, port)
    transcript = told.listening.run(told.at_second_word)
    assert told.shown.startswith(WORD) and told.shown.endswith("\n") and port.now() < 60
    assert transcript.words
    (before,) = told.saved  # what a model that is behind has heard so far is safe first
    assert before.words and len(before.tokens) < len(transcript.tokens)


class SlowPort:
    """Gives what has piled up while the model was busy."""

    def __init__(self, sizes):
        self._sizes = iter(sizes)

    def flush(self): ...

    def read(self, timeout_s):
        if (size := next(self._sizes, None)) is None:
            raise EndOfInput
        silence = np.zeros(size, np.float32)
        return Capture(silence, silence, 0.0)


def test_sound_that_piled_up_is_heard_whole_and_a_slow_machine_is_told_once(heard):
    told = Told(heard.stt, SlowPort([FRAME, 30_000, 40_000, FRAME, 24_500]))
    transcript = told.listening.run(threading.Event())
    samples = FRAME + 30_000 + 40_000 + FRAME + 24_500
    assert len(transcript.tokens) == 13 + -(-samples // FRAME) + 7
    assert len(told.lines) == 2 and all("too slow" in line for line in told.lines)
    assert told.shown == ""


def test_the_command_writes_down_a_virtual_microphone(heard, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wav = tmp_path / "talk.wav"
    soundfile.write(wav, heard.sound(5), 24_000, subtype="FLOAT")
    model = str(heard.folder)
    command = ["transcribe", "--live", "--virtual-input", str(wav), "--model", model]
    assert main([*command, "--format", "txt,srt"]) == 0
    said = capsys.readouterr()
    assert said.out.split() == [WORD] * 2
    (txt,) = tmp_path.glob("live-*.txt")
    assert txt.read_text().split() == [WORD] * 2 and list(tmp_path.glob("live-*.srt"))
    assert f"transcript: {txt.name}" in said.err


def test_ctrl_c_ends_it_and_says_where_the_transcript_is(heard, tmp_path):
    wav = tmp_path / "talk.wav"
    soundfile.write(wav, heard.sound(600), 24_000, subtype="FLOAT")
    where = ["--output-dir", tmp_path / "out", "--virtual-input", wav]
    command = Command(tmp_path, "transcribe", "--live", *where, "--model", heard.folder)
    until(lambda: WORD in command.said.split())
    assert command.end(signal.SIGINT, 20) == 0
    (txt,) = (tmp_path / "out").iterdir()
    assert f"transcript: {txt}" in command.said and set(txt.read_text().split()) == {WORD}
    assert "Traceback" not in command.said


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--live", "a.wav"], "leave the files out"),
        ([], "say which recordings"),
        (["a.wav", "--virtual-input", "b.wav"], "are for --live"),
        (["--live", "--prompt", "Loonah"], "go together"),
        (["--live", "--virtual-input", "{out}.wav"], "no sound file at"),
        (["--live", "--virtual-input", "x", "--input", "y"], "leave --input out"),
        (["--live", "--virtual-input", "x", "--input-channel", "0"], "counted from 1"),
        (["--live", "--virtual-input", "x", "--format", "doc"], "no format 'doc'"),
    ],
)
def test_bad_arguments_are_one_line_before_a_model_is_loaded(arguments, line, tmp_path, capsys):
    filled = [argument.format(out=tmp_path / "out") for argument in arguments]
    status = main(["transcribe", *filled, "--model", "no/such-model", "--offline"])
    assert status == (1 if "no sound file" in line else 2)
    said = capsys.readouterr().err
    assert line in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_nothing_said_leaves_no_file(heard, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wav = tmp_path / "talk.wav"
    soundfile.write(wav, np.zeros(2400, np.float32), 24_000)
    command = ["transcribe", "--live", "--virtual-input", str(wav)]
    assert main([*command, "--model", str(heard.folder)]) == 0
    assert "nothing was said" in capsys.readouterr().err
    assert not list(tmp_path.glob("live*"))


def test_a_prompt_is_heard_before_recordings(heard, tmp_path, capsys):
    wav = tmp_path / "talk.wav"
    soundfile.write(wav, heard.sound(3), 24_000, subtype="FLOAT")
    command = ["transcribe", str(wav), "--model", str(GOLDEN)]
    assert main(command) == 0
    plain = capsys.readouterr().out
    assert main([*command, "--prompt", "a", "--prompt-file", str(wav)]) == 0
    assert capsys.readouterr().out != plain
    assert main([*command, "--prompt", "a", "--prompt-file", str(tmp_path / "no.wav")]) == 1
    assert "no sound file at" in capsys.readouterr().err
