"""A microphone translated: a virtual one on a virtual clock, and the command."""

import json
import resource
import signal
import subprocess
import sys
from importlib.machinery import ModuleSpec
from threading import Event
from types import ModuleType

import numpy as np
import pytest
import soundfile

import moshi_mlx
from app.audio.stream.port import Capture, EndOfInput
from app.audio.virtual_port import ArraySource, VirtualPort
from app.cli import main
from app.provenance.index import Index, default_path
from app.speech.translating import Translating
from tests.support.models.small_speaker import with_codec
from tests.support.processes.endings import Command, until

FRAME = 1920
GREEDY = {"text_temperature": 0.0, "audio_temperature": 0.0, "seed": 0}
OPTIONS = ["--text-temperature", "0", "--audio-temperature", "0", "--seed", "0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """hibiki-zero's small model beside a small Mimi of the same codes."""
    return with_codec(tmp_path_factory.mktemp("hibiki") / "model", "dsm_hibiki_zero")


@pytest.fixture(scope="module")
def translator(folder):
    return moshi_mlx.load_translator(folder, dtype="float32")


def noise(samples, seed=0):
    return (np.random.default_rng(seed).standard_normal(samples) * 0.1).astype(np.float32)


class Told:
    """What a user sees and hears of it."""

    def __init__(self, translator, port, sleep, clean=None):
        self.shown, self.lines, self.heard, self.said = "", [], [], []
        self.begun = Event()
        self.stream = translator.stream(**GREEDY)
        self.translating = Translating(
            port, self.stream, clean, self.show, self.lines.append, [self.keep], sleep
        )

    def show(self, text):
        self.shown += text

    def keep(self, heard, frame):
        self.heard.append(heard)
        self.said.append(frame.pcm)
        self.begun.set()

    def run(self, end=None, cut=None):
        self.translating.run(end or Event(), cut or Event())


def microphone(pcm, played=None):
    sink = (lambda block: None) if played is None else (lambda block: played.append(block.copy()))
    port = VirtualPort(ArraySource(pcm), sink)
    return port, port.advance


def test_what_is_heard_live_is_the_recordings_translation(translator):
    pcm, played = noise(10 * FRAME, seed=2), []
    told = Told(translator, *microphone(pcm, played))
    told.run()
    whole = translator.translate(pcm, **GREEDY)
    said = np.concatenate(told.said)
    assert np.array_equal(said, whole.pcm) and told.stream.ended and told.lines == []
    assert np.array_equal(np.concatenate(told.heard)[: len(pcm)], pcm)
    assert not np.concatenate(told.heard)[len(pcm) :].any()
    words = translator.transcript(whole).text.split()
    assert told.shown.split()[: len(words)] == words and len(words) > 3
    assert told.shown.endswith("\n") and not told.shown.startswith(" ")
    heard = np.concatenate(played)  # all of it, in time
    sounding = np.flatnonzero(heard)
    assert sounding[-1] - sounding[0] == pytest.approx(len(said), abs=FRAME)


def test_at_the_end_the_rest_is_said_and_at_a_cut_it_is_not(translator):
    port, sleep = microphone(noise(600 * FRAME))
    told = Told(translator, port, sleep)
    told.run(told.begun)
    assert told.stream.ended and len(told.said) > 2 and port.now() < 60
    port, sleep = microphone(noise(600 * FRAME))
    told = Told(translator, port, sleep)
    told.run(told.begun, told.begun)
    assert len(told.said) == 1 and not told.stream.ended


def test_a_cut_while_the_rest_is_said_ends_it(translator):
    cut, port = Event(), microphone(noise(3 * FRAME))[0]

    def sleep(seconds):
        port.advance(seconds)
        cut.set()

    told = Told(translator, port, sleep)
    told.run(cut=cut)
    assert told.said and not told.stream.ended


class GonePort:
    """Gives what has piled up while the model was busy; its loudspeaker has gone."""

    def __init__(self, sizes):
        self._sizes, self.now_s = iter(sizes), 0.0

    def now(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds

    def flush(self): ...

    def read(self, timeout_s):
        if (size := next(self._sizes, None)) is None:
            raise EndOfInput
        return Capture(noise(size), noise(size, seed=9), 0.0)

    def play(self, pcm):
        return 0.0

    def buffered_s(self):
        return 0.48


def test_what_piled_up_is_heard_whole_and_a_device_that_has_gone_holds_nothing_up(translator):
    port = GonePort([FRAME, 30_000, 40_000, FRAME, 24_500])
    told = Told(translator, port, port.sleep)
    told.run()
    assert len(told.lines) == 2 and all("too slow" in line for line in told.lines)
    assert told.stream.ended and len(told.said) >= (98_340 // FRAME)
    assert port.now_s < 0.08 * len(told.said) + 1


def test_the_loudspeakers_sound_is_taken_out_of_what_is_heard(translator):
    def clean(near, far):
        assert np.array_equal(far, noise(len(far), seed=9))
        return np.zeros_like(near)

    told, cut = Told(translator, GonePort([FRAME, FRAME]), lambda seconds: None, clean), Event()
    cut.set()
    told.run(cut=cut)
    assert told.heard and not np.concatenate(told.heard).any()


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "source.wav"
    soundfile.write(path, noise(10 * FRAME, seed=2), 24_000, subtype="FLOAT")
    return path


@pytest.mark.parametrize("stereo", [(), ("--stereo",)])
def test_the_command_keeps_what_the_file_would_have_become(
    folder, recording, stereo, tmp_path, capsys
):
    live, whole, played = (tmp_path / f"{name}.wav" for name in ("live", "whole", "played"))
    options = ["--model", str(folder), *stereo, *OPTIONS, "--format", "json"]
    virtual = ["--virtual-input", str(recording), "--virtual-output", str(played)]
    assert main(["translate", "--live", str(live), *virtual, *options]) == 0
    said = capsys.readouterr()
    assert main(["translate", str(recording), str(whole), *options]) == 0
    assert np.allclose(soundfile.read(live)[0], soundfile.read(whole)[0], atol=1e-4)
    assert (tmp_path / "live.json").read_text() == (tmp_path / "whole.json").read_text()
    text = json.loads((tmp_path / "live.json").read_text())["text"]
    words = text.split()
    assert said.out.split()[: len(words)] == words and words and f"{live}: " in said.err
    assert soundfile.read(played)[0].any()


class BadSignature(ModuleType):
    """A c2pa that fails as no version of it should; `seen` once it is asked to sign."""

    def __init__(self, folder):
        super().__init__("c2pa")
        self.__spec__ = ModuleSpec("c2pa", None)
        self.Settings, self.folder, self.seen = self, folder, []

    def from_dict(self, settings):
        self.seen.append({path.name for path in self.folder.iterdir()})
        raise RuntimeError("a bug of theirs")


def test_a_live_text_is_there_before_its_sound_is_signed(folder, recording, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setitem(sys.modules, "c2pa", bad := BadSignature(tmp_path))
    out = tmp_path / "live.wav"
    virtual = ["--virtual-input", str(recording), "--model", str(folder)]
    with pytest.raises(RuntimeError, match="a bug of theirs"):
        main(["translate", "--live", str(out), *virtual, *OPTIONS])
    assert "live.txt" in bad.seen[0] and (tmp_path / "live.txt").read_text().strip()
    assert len(soundfile.read(out)[0]) > 5 * FRAME


def test_without_an_output_nothing_is_left(folder, recording, tmp_path, capsys):
    virtual = ["--virtual-input", str(recording)]
    assert main(["translate", "--live", *virtual, "--model", str(folder), *OPTIONS]) == 0
    assert capsys.readouterr().out.strip()
    assert [path.name for path in tmp_path.iterdir()] == ["source.wav"]


def test_what_was_said_is_recognised_later(folder, recording, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    virtual = ["--virtual-input", str(recording), "--index"]
    assert main(["translate", "--live", *virtual, "--model", str(folder), *OPTIONS]) == 0
    with Index(default_path()) as index:
        assert len(index.talks()) == 1


def test_a_disk_that_is_full_ends_the_file_and_not_the_talk(folder, recording, tmp_path):
    out = tmp_path / "out.wav"
    words = ["translate", "--live", out, "--virtual-input", recording, "--model", folder]
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *map(str, words), *OPTIONS],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(told) == 1 and "recording stopped" in told[0], done.stderr
    assert len(soundfile.read(out)[0]) == 5 * FRAME and done.stdout.strip()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_everything_written(how, folder, tmp_path):
    wav, out = tmp_path / "talk.wav", tmp_path / "out.wav"
    soundfile.write(wav, noise(3000 * FRAME), 24_000)
    command = Command(
        tmp_path, "translate", "--live", out, "--virtual-input", wav, "--model", folder, *OPTIONS
    )
    until(lambda: out.exists() and out.stat().st_size > 20_000)
    assert command.end(how, 60) == (0 if how == signal.SIGINT else 143)
    assert "Traceback" not in command.said and len(soundfile.read(out)[0]) > 5 * FRAME
    assert f"{out}: " in command.said and (tmp_path / "out.txt").exists()


def test_a_second_ctrl_c_does_not_wait_for_the_rest(folder, tmp_path):
    """Of silence the small model makes a speech without an end."""
    wav, out = tmp_path / "talk.wav", tmp_path / "out.wav"
    soundfile.write(wav, np.zeros(3000 * FRAME), 24_000)
    options = ["--virtual-input", wav, "--model", folder, *OPTIONS]
    command = Command(tmp_path, "translate", "--live", out, *options)
    until(lambda: out.exists() and out.stat().st_size > 20_000)
    command.process.send_signal(signal.SIGINT)
    until(lambda: "the rest is being said" in command.said)
    with pytest.raises(subprocess.TimeoutExpired):
        command.process.wait(1)
    assert command.end(signal.SIGINT, 20) == 0
    assert f"{out}: " in command.said and (tmp_path / "out.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        ([], 2, "say which recording"),
        (["{in}"], 2, "where its translation goes"),
        (["{in}", "{out}.wav", "--live"], 2, "leave INPUT out"),
        (["{in}", "{out}.wav", "--speaker", "x"], 2, "are for --live"),
        (["{in}", "{out}.wav", "--echo", "off"], 2, "are for --live"),
        (["--live", "--stereo"], 2, "give OUTPUT too"),
        (["--live", "--format", "srt"], 2, "give OUTPUT too"),
        (["--live", "{out}.flac"], 1, "choose that ending"),
        (["--live", "{in}", "--virtual-input", "{in}"], 1, "is the input"),
        (["--live", "--virtual-output", "{out}.wav"], 2, "needs --virtual-input"),
        (["--live", "--virtual-input", "{in}", "--speaker", "x"], 2, "leave --input and"),
        (["--live", "--virtual-input", "{out}.wav"], 1, "no sound file at"),
        (["--live", "--virtual-input", "{in}", "--virtual-output", "{in}"], 1, "is the input"),
        (["--live", "--input-channel", "0"], 2, "counted from 1"),
        (["--live", "{in}/out.wav", "--virtual-input", "{in}"], 1, "no folder"),
    ],
)
def test_bad_arguments_are_one_line_before_a_model_is_loaded(
    arguments, status, line, recording, tmp_path, capsys
):
    names = {"in": recording, "out": tmp_path / "out"}
    filled = [argument.format(**names) for argument in arguments]
    assert main(["translate", *filled, "--model", "no/such-model", "--offline"]) == status
    said = capsys.readouterr().err
    assert line in said and said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["source.wav"]
