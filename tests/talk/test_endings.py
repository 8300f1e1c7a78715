"""A command that is ended from outside: in time, with the right status, nothing lost."""

import random
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from app.audio.sound import SoundState
from app.audio.virtual_port import ArraySource, RealtimePort
from app.talk.chat import Chat, ChatOptions
from moshi_mlx.hub import NANO
from quantize.checkpoint.place import LOCK
from tests.support.fakes.fake_engine import FakeEngine
from tests.support.models.quantize_models import RAW_CONFIG, write_model
from tests.support.processes.chat_process import GREEDY, check_take, takes_in
from tests.support.processes.endings import CLOSED, STATUS, Command, until, until_ours

QUESTION = NANO / "samples" / "four_plus_three.wav"
SOON_S = 60.0  # on a busy machine; the program's own deadline: tests/commands/test_deadline.py
CHAT = ("chat", "--model", "nano", "--echo", "off", *GREEDY)
CHAT += ("--virtual-input", QUESTION, "--tail", "600")
GOLDEN = Path(__file__).parents[1] / "golden"
COMMANDS = ("chat", "web", "quantize", "file", "transcribe", "say", "translate")
BENCH = ("bench", "--model", "nano", "--frames", "100000")


class LoggedSound(RealtimePort):
    """A virtual device that says when it is closed, and whether the recording was open then."""

    def __init__(self, closed):
        self._closed = closed
        super().__init__(ArraySource(np.zeros(0, np.float32), tail_s=600.0), lambda block: None)

    def stop(self):
        super().stop()
        self._closed()

    def subscribe(self, listener): ...

    def state(self):
        return SoundState()

    def devices(self):
        return []

    def choose(self, input_name, output_name): ...

    def problem(self):
        return None


def test_devices_close_before_the_recording_even_while_the_model_hangs(tmp_path):
    hangs, over, log = threading.Event(), threading.Event(), []

    def step_seconds():
        if hangs.is_set():
            over.wait(60)
        return 0.0

    def closed():
        (take,) = takes_in(tmp_path)
        log.append((time.monotonic(), check_take(take, finished=False)["finished"]))

    sound = LoggedSound(closed)
    chat = Chat(lambda: FakeEngine(step_seconds), sound, ChatOptions(echo="off", record=tmp_path))
    chat.start()
    until(lambda: chat.snapshot().talk.frames > 5)
    hangs.set()
    time.sleep(0.2)
    begun_s = time.monotonic()
    chat.close_soon()
    ((closed_s, finished),) = log
    assert closed_s - begun_s < 30.0 and not finished
    (take,) = takes_in(tmp_path)
    assert check_take(take)["ended"] == "stopped"
    over.set()
    assert chat.session.join(30.0), "the model's thread is gone before the next test"


def test_a_talk_that_is_ended_before_it_begins_opens_no_device(tmp_path):
    closed = []
    chat = Chat(FakeEngine, LoggedSound(lambda: closed.append(1)), ChatOptions(echo="off"))
    chat.close_soon()
    chat.start()
    assert closed == [1] and chat.sound.callbacks == 0 and chat.over
    assert not chat.session.join(0.0) or not chat.snapshot().talk.frames


@pytest.mark.parametrize(
    "how", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.long), CLOSED], ids=str
)
def test_a_screen_that_nobody_reads_any_more_holds_nothing_up(tmp_path, how):
    """The terminal is full: what the screen writes doesn't come through, and so it never ends."""
    chat = Command(tmp_path, *CHAT, "--record", tmp_path / "talks", terminal=True, reads=False)
    until(lambda: list((tmp_path / "talks").glob("*/talk.wav")))
    time.sleep(0.5)
    assert chat.end(how, SOON_S) == STATUS[how]
    (take,) = takes_in(tmp_path / "talks")
    assert check_take(take)["ended"] == "stopped"


def command_of(name, folder):
    """A run that takes long enough to be met in the middle, and a sign that it has begun."""
    if name == "chat":
        args = (*CHAT, "--plain", "--record", folder / "talks")
        return args, lambda: list((folder / "talks").glob("*/talk.wav"))
    if name == "web":
        return ("web", "--model", "nano", "--port", "0", "--no-open"), None
    if name == "bench":
        return BENCH, None
    if name == "quantize":
        if not (folder / "source").exists():
            write_model(folder / "source", RAW_CONFIG | {"num_layers": 40})
        return ("quantize", folder / "source", folder / "out"), None
    if name == "say":
        text = "Do you hear me? Yes, I do! " * 200
        voice = GOLDEN / "dsm_tts" / "ada.wav.1e68beda@240.safetensors"
        model = speech_model(folder / "model", "dsm_tts")
        return ("say", text, "-o", folder / "out.wav", "--voice", voice, "--model", model), None
    if name in ("transcribe", "translate"):
        sound = np.random.default_rng(0).normal(0, 0.1, 120 * 24_000).astype(np.float32)
        soundfile.write(folder / "long.wav", sound, 24_000)
    if name == "transcribe":
        options = ("--format", "all", "--output-dir", folder / "texts")
        return (name, folder / "long.wav", *options, "--model", GOLDEN / "dsm_stt"), None
    if name == "translate":
        model = speech_model(folder / "model", "dsm_hibiki_zero")
        return (name, folder / "long.wav", folder / "out.wav", "--model", model), None
    args = ("file", QUESTION, folder / "out.wav", "--model", "nano", "--tail", "120")
    return args, None


def speech_model(folder, golden):
    """A small model beside a small Mimi of the same codes."""
    shutil.copytree(GOLDEN / golden, folder, ignore=shutil.ignore_patterns("golden.*"))
    mimi = GOLDEN / "dsm_stt" / "mimi-pytorch-e351c8d8@125.safetensors"
    shutil.copy(mimi, folder / "tokenizer-e351c8d8-checkpoint125.safetensors")
    shutil.copy(GOLDEN / "dsm_stt" / "mimi_config.json", folder)
    return folder


QUICK = (("web", signal.SIGHUP), ("bench", signal.SIGTERM), ("file", CLOSED))
ALL = [(name, how) for name in ("chat", "web", "bench", "file") for how in STATUS]


@pytest.mark.parametrize(
    ("name", "how"),
    [pytest.param(*one, marks=() if one in QUICK else pytest.mark.long) for one in ALL],
    ids=str,
)
def test_the_status_says_which_signal_it_was(tmp_path, name, how):
    args, begun = command_of(name, tmp_path)
    command = Command(tmp_path, *args, terminal=how == CLOSED)
    if begun is None:
        until_ours(command.process)
        time.sleep(1.0)
    else:
        until(begun)
    usual = {("web", signal.SIGINT): [0], ("bench", signal.SIGINT): [1, 130]}  # has it begun?
    assert command.end(how, SOON_S) in usual.get((name, how), [STATUS[how]])
    assert how == CLOSED or "Traceback" not in command.said, command.said


def check_nothing_is_lost(name, folder, ended_by):
    if name == "chat":
        for take in takes_in(folder / "talks"):
            if (take / "talk.wav").exists():
                finished = b'"finished": true' in (take / "manifest.json").read_bytes()
                talk = check_take(take, finished=finished)
                assert 1920 * len(talk["timings"]) - len(talk["sound"]) < 24_000
                assert finished or ended_by == signal.SIGKILL
    elif name == "quantize":
        if (folder / "out").exists():  # the whole run takes about as long as it may be given
            assert (folder / "out" / "config.json").exists()
    elif name == "transcribe":
        made = sorted(path.suffix for path in folder.glob("texts/*"))
        assert made in ([], [".json", ".srt", ".tsv", ".txt", ".vtt"]), made
    elif (folder / "out.wav").exists():
        least = {"file": 120, "translate": 120, "say": 0}[name]  # what was said until then is kept
        assert soundfile.info(folder / "out.wav").frames > least * 24_000
        beside = {"file": "out.jsonl", "translate": "out.txt", "say": "out.wav"}[name]
        assert (folder / beside).exists()
    if ended_by != signal.SIGKILL:  # a file that is half written is removed
        left = {path.name for path in folder.rglob(".moshi-*") if path.is_file()}
        assert left <= {LOCK}, left  # of the folder from which the next quantize run goes on


def end_at_random_moments(folder, name, times, within_s, latest_s):
    chance = random.Random(name)
    for n in range(times):
        here = folder / str(n)
        here.mkdir()
        args, _ = command_of(name, here)
        how = chance.choice([signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGKILL, CLOSED])
        command = Command(here, *args, terminal=how == CLOSED)
        time.sleep(chance.uniform(0.1, latest_s))
        done = command.process.poll()
        status = command.end(how, within_s)
        if done is None and how != signal.SIGKILL:
            before = -signal.SIGHUP if how == CLOSED else -how  # Python itself was starting
            good = {STATUS[how], before} | ({0} if name != "chat" else set())  # done, or hung up
            if how == signal.SIGINT and "Failed to import the site module" in command.said:
                good.add(1)  # Python's own, too
            if name == "web" and how != signal.SIGINT:
                good.remove(0)
            assert status in good, (how, status)
        check_nothing_is_lost(name, here, how)


@pytest.mark.parametrize("name", COMMANDS)
def test_ended_at_a_random_moment(tmp_path, name):
    end_at_random_moments(tmp_path, name, times=1, within_s=SOON_S, latest_s=2.5)


@pytest.mark.long
@pytest.mark.parametrize("name", COMMANDS)
def test_ended_at_twenty_random_moments_within_two_seconds(tmp_path, name):
    end_at_random_moments(tmp_path, name, times=20, within_s=2.0, latest_s=4.0)
