"""The echo cancellers in rooms made of numbers, and `moshi echo-test`."""

import copy
import importlib.util
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from app.audio.device_sound import DeviceSound
from app.audio.devices.device import Device
from app.audio.file_sound import FileSound
from app.cli import main
from app.commands import echo_test
from app.echo.canceller import EchoCanceller
from app.echo.choice import canceller, make_clean
from app.echo.measure import Found, advice, measure
from moshi_mlx.errors import AudioError, MoshiError
from moshi_mlx.hub import NANO
from tests.support.estoi import estoi
from tests.support.fakes.sound_fakes import Card
from tests.support.processes.pulse import Pulse, needs_pulse
from tests.support.rooms import (
    active_rms,
    echo_of,
    erle_db,
    erle_of_speech_db,
    looped,
    rms,
    room,
    voice,
    without_pauses,
)

RATE = 24_000
FRAME = 1920
needs_webrtc = pytest.mark.skipif(
    importlib.util.find_spec("pywebrtc_audio") is None, reason="the extra webrtc isn't installed"
)


@pytest.fixture(scope="module")
def played() -> np.ndarray:
    speech, _ = soundfile.read("tests/golden/speech_10s.flac", dtype="float32")
    return looped(speech, 16.0)


@pytest.fixture(scope="module")
def user(played) -> np.ndarray:
    """Someone who starts to speak at 10 s, as loud as Moshi."""
    questions, _ = soundfile.read("tests/golden/questions.flac", dtype="float32")
    voice = looped(questions, 16.0)
    voice *= active_rms(played) / active_rms(voice)
    voice[: 10 * RATE] = 0.0
    return voice


def without_and_with(user: np.ndarray, echo: np.ndarray, played: np.ndarray, from_s: int = 10):
    """What is left of the echo alone [n], and of echo and user from `from_s` on, when the user
    begins: until then both are one talk, and are cancelled once."""
    part = slice(from_s * RATE, None)
    one = EchoCanceller()
    before = one.process(echo[: part.start], played[: part.start])
    other = copy.deepcopy(one)
    both = other.process((echo + user)[part], played[part])
    return np.concatenate([before, one.process(echo[part], played[part])]), both


@pytest.mark.parametrize(
    "delay_ms",  # 60 ms: nearly all that follows
    [120, *(pytest.param(ms, marks=pytest.mark.long) for ms in (20, 60, 300))],
)
def test_the_linear_canceller_takes_the_echo_and_leaves_the_user(played, user, delay_ms):
    echo = echo_of(played, room(delay_ms, seed=1), rms(played))
    left, both = without_and_with(user, echo, played)
    assert erle_db(echo, left, 2, 3) >= 15
    assert erle_db(echo, left, 5, 15) >= 25
    clean, heard = user[10 * RATE :], (echo + user)[10 * RATE :]
    assert estoi(clean, both, RATE) >= 0.95
    assert estoi(clean, heard, RATE) < 0.85  # what it would have been without


SPEAKERS = (
    ("speech_10s", "questions"),
    ("questions", "speech_10s"),
    ("voice_awb", "speech_10s"),
    ("voice_rms", "speech_10s"),
    ("voice_rms", "questions"),
    ("voice_librivox", "voice_awb"),
)
TALKS = [(*pair, delay_ms, cut) for pair in SPEAKERS for delay_ms in (20, 300) for cut in (0, 1)]


@pytest.mark.parametrize(
    ("moshi", "other", "delay_ms", "cut"),
    # one of the four ways a pair in the quick tests, each of them in turn, and all in the long ones
    [
        pytest.param(*t, marks=() if n % 4 == n // 4 % 4 else pytest.mark.long)
        for n, t in enumerate(TALKS)
    ],
)
def test_it_holds_for_several_speakers_with_and_without_pauses(moshi, other, delay_ms, cut):
    said, answer = (without_pauses(voice(n)) if cut else voice(n) for n in (moshi, other))
    played, user = looped(said, 11.0), looped(answer, 11.0)
    user *= active_rms(played) / active_rms(user)
    user[: 7 * RATE] = 0.0
    echo = echo_of(played, room(delay_ms, seed=delay_ms), rms(played))
    left, both = without_and_with(user, echo, played, from_s=7)
    assert erle_of_speech_db(echo, left, 2, 3) >= 15
    assert erle_db(echo, left, 5, 11) >= 25
    assert estoi(user[7 * RATE :], both, RATE) >= 0.95


def test_a_pause_or_the_user_is_not_taken_for_another_room(played, user):
    """The user alone, then Moshi again: what was learnt is still there."""
    quiet, silent = slice(6 * RATE, 8 * RATE), played[: 10 * RATE].copy()
    silent[quiet] = 0.0
    echo = echo_of(silent, room(300, seed=1), rms(played))
    mic = echo.copy()
    mic[quiet] += user[12 * RATE : 14 * RATE]
    left = EchoCanceller().process(mic, silent)
    assert erle_db(echo, left, 9, 10) > 25


def test_after_a_drop_the_rest_is_cancelled_and_the_alignment_stays(played):
    """A capture that is longer, where input was dropped, is no multiple of 20 ms."""
    played = played[: 7 * RATE]
    echo = echo_of(played, room(60, seed=1), rms(played))
    cuts = np.cumsum([5 * RATE, FRAME + 233, FRAME, FRAME + 1, FRAME + 479, FRAME, 1, 77])
    one = EchoCanceller()
    pairs = zip(np.split(echo, cuts), np.split(played, cuts), strict=True)
    parts = [one.process(mic, said) for mic, said in pairs]
    left = np.concatenate(parts)
    rests = np.concatenate([part[len(part) // 480 * 480 :] for part in parts[1:5]])
    heard = np.concatenate([part[len(part) // 480 * 480 :] for part in np.split(echo, cuts)[1:5]])
    assert 20 * np.log10(rms(heard) / rms(rests)) > 20
    whole = EchoCanceller().process(echo, played)
    start_s = cuts[0] / RATE
    assert erle_db(echo, left, start_s, 7) > erle_db(echo, whole, start_s, 7) - 3


def test_frames_of_any_length_give_what_one_stretch_gives(played):
    echo = echo_of(played, room(60), rms(played))[: 3 * RATE]
    whole = EchoCanceller().process(echo, played[: 3 * RATE])
    one, parts, at = EchoCanceller(), [], 0
    for n in (FRAME, FRAME, 5 * FRAME, FRAME, 17 * FRAME):
        parts.append(one.process(echo[at : at + n], played[at : at + n]))
        at += n
    assert np.array_equal(np.concatenate(parts), whole[:at])


def test_it_is_never_louder_than_the_microphone(user, played):
    user, played = user[8 * RATE :], played[8 * RATE :]
    noise = np.random.default_rng(0).standard_normal(len(user)).astype(np.float32) * 0.05
    mic = user + noise  # nothing of what was played is in it
    out = EchoCanceller().process(mic, played)
    blocks = lambda x: np.square(x[: len(x) // 480 * 480].reshape(-1, 480)).sum(1)  # noqa: E731
    assert (blocks(out) <= blocks(mic) * (1 + 1e-5)).all()


@pytest.mark.parametrize("mode", ["linear", pytest.param("both", marks=needs_webrtc)])
def test_rubbish_in_a_block_spoils_nothing(played, mode):
    played = played[: 6 * RATE]
    echo = echo_of(played, room(60), rms(played))
    broken, silent = echo.copy(), played.copy()
    broken[RATE : RATE + 5] = np.nan
    silent[RATE : RATE + 5] = np.inf
    left = canceller(mode).process(broken, silent)
    assert np.isfinite(left).all() and erle_db(echo, left, 4, 6) > 20
    assert len(canceller(mode).process(echo[:1999], played[:1999])) == 1999


class Yardstick:
    """Filter arithmetic of a fixed size: 1.6 ms of CPU, a fiftieth of a frame, on a machine that
    does nothing else. (ROUNDS follows from a filter measured there, 1.3 ms, and against this,
    0.81 of it.) What slows the one slows the other: a busy neighbour, caches, another machine.
    """

    ROUNDS = 36

    def __init__(self) -> None:
        self.weights = np.full((13, 961), 0.1, np.complex64)
        self.spectra = np.full((40, 961), 0.1, np.complex64)  # the filter's size in the caches
        self.power = np.full((13, 961), 0.1, np.float32)

    def frame(self) -> None:
        for start in range(self.ROUNDS):
            x = self.spectra[start % 12 : start % 12 + 25 : 2]
            error = np.fft.irfft((self.weights * x).sum(0))
            expected = self.power * (np.real(x) ** 2 + np.imag(x) ** 2)
            step = np.fft.rfft(error) / (expected.sum(0) + 1.0)
            self.weights += 1e-6 * self.power * np.conj(x) * step.astype(np.complex64)


def cpu_against_yardstick(one: EchoCanceller, mic: np.ndarray, played: np.ndarray) -> np.ndarray:
    """CPU time of each frame as a part of what the yardstick took right after it."""
    yardstick, parts = Yardstick(), []
    for start in range(0, len(mic) - FRAME + 1, FRAME):
        block = slice(start, start + FRAME)
        begin = time.thread_time()
        one.process(mic[block], played[block])
        between = time.thread_time()
        yardstick.frame()
        parts.append((between - begin) / (time.thread_time() - between))
    return np.array(parts)


def test_it_costs_less_than_a_fiftieth_of_a_frame():
    """Measured against the yardstick, frame by frame: milliseconds would measure the machine."""
    said = looped(without_pauses(voice("speech_10s")), 8.0)
    mic = echo_of(said, room(60, seed=1), rms(said))
    parts = cpu_against_yardstick(EchoCanceller(), mic, said)
    assert np.median(parts[:37]) < 1  # the first three seconds, when it goes over the past again
    assert np.median(parts[-50:]) < 1


def test_auto_is_off_on_headphones_and_off_is_nothing(played):
    on_ears = [True]
    clean = make_clean("auto", lambda: on_ears[0])
    mic = played[:FRAME]
    assert clean(mic, mic) is mic
    on_ears[0] = False
    assert clean(mic, mic) is not mic
    assert make_clean("off", lambda: False) is None
    with pytest.raises(MoshiError, match="choose one of auto, linear, webrtc, both, off"):
        make_clean("speex", lambda: False)


@needs_webrtc
@pytest.mark.parametrize("mode", ["webrtc", "both"])
def test_webrtc_takes_the_echo_and_keeps_the_user(played, user, mode):
    played, user = played[: 8 * RATE], user[9 * RATE : 14 * RATE]
    echo = echo_of(played, room(60, seed=1), rms(played))
    left = canceller(mode).process(echo, played)
    assert erle_db(echo, left, 5, 8) > 25
    alone = canceller(mode).process(user, np.zeros_like(user))
    assert abs(20 * np.log10(rms(alone[RATE:]) / rms(user[RATE:]))) < 2


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pywebrtc_audio", None)
    with pytest.raises(MoshiError, match=r"uv tool install --reinstall '\.\[webrtc\]'"):
        make_clean("both", lambda: False)


def test_what_is_measured_is_the_room_that_was_made():
    said = echo_test.stimulus()[: 7 * RATE]
    echo = echo_of(said, room(80, seed=2), 0.5 * rms(said))
    found = measure(echo, said)
    assert found.echo and abs(found.delay_ms - 80) < 3 and abs(found.level_db + 6) < 1
    assert found.erle_db["linear"] > 15 and "linear" in advice(found)


def test_a_quiet_room_a_dead_microphone_and_a_hard_room_are_told_apart():
    said = echo_test.stimulus()
    noise = np.random.default_rng(0).standard_normal(len(said)).astype(np.float32) * 1e-3
    assert "--echo off" in advice(measure(noise, said))
    with pytest.raises(AudioError, match="only zeros"):
        measure(np.zeros_like(said), said)
    hard = Found(60, 0, 0.8, {"linear": 5.0, "webrtc": 30.0})
    assert "--echo webrtc" in advice(hard)
    assert "[webrtc]" in advice(Found(60, 0, 0.8, {"linear": 5.0}))


class Asked:
    """Stands for PermissionAsk: nothing is known at first, then a person takes a while."""

    def __init__(self):
        self.start_s = time.monotonic()

    def look(self):
        since_s = time.monotonic() - self.start_s
        return (
            None if since_s < 1 else "not asked" if since_s < 3 + echo_test.STALL_S else "granted"
        )

    def close(self):
        pass


def test_a_question_of_the_system_is_waited_for_and_the_measurement_begun_again(tmp_path):
    card = Card(tmp_path, [Device("Card", 0, 1, 2, 48_000.0, True, True)])
    sound = DeviceSound(command=card.command, permission=Asked())
    try:
        sound.start()
        said = np.repeat(np.arange(1, 31, dtype=np.float32) / 100, FRAME)  # 2.4 s
        mic, played = echo_test.exchange(sound, said)
    finally:
        sound.stop()
    assert len(mic) == len(played)
    whole = [
        round(100 * float(level)) for level in np.unique(played) if np.sum(played == level) > 480
    ]
    assert whole == list(range(31)), "silence, then each of the frames"


def test_a_device_that_ends_for_good_is_one_line():
    sound = FileSound(NANO / "samples" / "who_made_you.wav", None, 0.0)
    sound.start()
    try:
        with pytest.raises(AudioError, match="gives no samples: see `moshi devices`"):
            echo_test.exchange(sound, echo_test.stimulus(), begin_s=0.5)
    finally:
        sound.stop()


@needs_pulse
def test_the_command_over_a_sound_card_that_hears_itself():
    card = Pulse(loopback=True)
    try:
        command = [sys.executable, "-m", "app.cli", "echo-test"]
        done = subprocess.run(command, env=card.env, capture_output=True, text=True, timeout=90)
    finally:
        card.close()
    assert done.returncode == 0, done.stderr
    assert "echo: after" in done.stdout and "linear" in done.stdout


def test_the_command_without_any_device(tmp_path, monkeypatch, capfd):
    for name, value in (("HOME", str(tmp_path)), ("PULSE_SERVER", "unix:/nowhere")):
        monkeypatch.setenv(name, value)
    assert main(["echo-test", "--input", "no such device"]) == 1
    told = capfd.readouterr().err
    assert told.startswith("error: ") and len(told.splitlines()) == 1
