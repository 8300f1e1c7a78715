"""The whole of our sound over a PortAudio in C that misbehaves as PortAudio's have been seen to."""

import json
import os
import signal
import sys
import time

import numpy as np
import pytest

from app.audio.device_sound import DeviceSound
from app.cli import main
from app.machine.readers import ask_child
from tests.support.fakes.c_stub import build, needs_compiler
from tests.support.fakes.ticking_words import WORD, ticking_words
from tests.support.processes.chat_process import ChatProcess

pytestmark = [
    needs_compiler,
    pytest.mark.skipif(sys.platform != "linux", reason="the loader takes the stub by its name"),
]
MAC = ("MacBook Pro Microphone|1|0|48000", "MacBook Pro Speakers|0|2|48000")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stub")
    build("portaudio_stub.c", folder / "libportaudio.so.2")
    (folder / "libportaudio.so").symlink_to("libportaudio.so.2")
    return folder


class Stub:
    def __init__(self, folder, library):
        self.folder = folder
        self.env = os.environ | {"STUB_FOLDER": str(folder), "LD_LIBRARY_PATH": str(library)}
        self.plug(*MAC)

    def plug(self, *devices):
        self._write("devices", devices)

    def whims(self, **whims):
        self._write("whims", [f"{name}={value}" for name, value in whims.items()])

    def _write(self, name, lines):
        (self.folder / "new").write_text("\n".join(lines) + "\n")
        (self.folder / "new").rename(self.folder / name)


@pytest.fixture
def stub(tmp_path, library, monkeypatch):
    stub = Stub(tmp_path, library)
    for name in ("STUB_FOLDER", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, stub.env[name])
    return stub


@pytest.fixture
def sounds():
    made = []

    def make(*args):
        sound, notices = DeviceSound(*args), []
        sound.subscribe(notices.append)
        made.append(sound)
        sound.start()
        return sound, notices

    yield make
    for sound in made:
        sound.stop()


def wait_for(condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def told(notices, part):
    return any(part in notice.message for notice in list(notices))


def heard(sound, seconds=0.4):
    """A stretch of the microphone, once it gives anything."""
    wait_for(lambda: sound.read(0.2) is not None)
    captures = [sound.read(2.0) for _ in range(round(seconds / 0.08))]
    return np.concatenate([capture.mic for capture in captures])


@pytest.mark.parametrize("within_s", [60.0, pytest.param(3.0, marks=pytest.mark.long)])
@pytest.mark.parametrize("slow", [{"abort_s": 600}, {"deadlock": 1}])
def test_a_sound_system_that_never_lets_go_of_a_stream_holds_up_nothing(
    stub, sounds, slow, within_s
):
    stub.whims(**slow)
    sound, notices = sounds()
    assert heard(sound).any()
    start_s = time.monotonic()
    sound.choose(None, "speakers")
    wait_for(lambda: told(notices, "sound is back"))
    assert time.monotonic() - start_s < within_s
    assert heard(sound).any() and sound.problem() is None
    sound.stop()


def test_a_crash_in_the_library_costs_a_moment(stub, sounds):
    stub.whims(crash_s=1)
    sound, notices = sounds()
    wait_for(lambda: told(notices, "the sound system crashed: opening sound again"))
    stub.whims()
    wait_for(lambda: told(notices, "sound is back"))
    assert heard(sound).any()


def test_ctrl_c_ends_a_chat_whose_devices_do_not_open(stub, tmp_path):
    stub.whims(open_s=600)
    with ChatProcess(tmp_path, env=stub.env) as chat:
        chat.wait_for("opening takes long")
        assert chat.interrupt() == 130
        assert "Traceback" not in chat.notes


def test_ctrl_c_ends_a_chat_whose_sound_system_does_not_answer(stub, tmp_path):
    stub.whims(init_s=600)
    with ChatProcess(tmp_path, env=stub.env) as chat:
        time.sleep(3.0)  # long before it is given up
        assert chat.process.poll() is None, chat.notes
        assert chat.interrupt() == 130
        assert "Traceback" not in chat.notes


def test_what_is_printed_while_the_doctor_looks_is_no_answer(stub):
    stub.whims(prints=1)
    answer = ask_child("machine.probe", "audio")
    assert answer is not None and answer["devices"][0]["name"] == "MacBook Pro Microphone"


def test_a_chat_talks_once_devices_have_opened_and_what_is_printed_is_not_seen(stub, tmp_path):
    stub.whims(open_s=4, prints=1)
    with ChatProcess(tmp_path, "--record", str(tmp_path / "t"), env=stub.env) as chat:
        chat.wait_for("opening takes long")
        wait_for(lambda: list(tmp_path.glob("t/*/timings.jsonl")), 60)
        wait_for(lambda: next(tmp_path.glob("t/*/timings.jsonl")).read_text().count("\n") > 5)
        assert chat.interrupt() == 130
        assert "PaMacCore" not in chat.said + chat.notes


@pytest.mark.parametrize(
    ("devices", "whims"),
    [
        (MAC, {"never_low": 1}),
        (("Headset|1|0|16000", "Headset|0|1|16000"), {"only_rate": 16_000}),
        (("Old Mic|1|0|44100", "Old Speakers|0|2|44100"), {"only_rate": 44_100}),
        (("Studio|2|2|96000",), {"only_rate": 96_000}),
    ],
    ids=["callbacks with long buffers only", "16 kHz", "44.1 kHz", "96 kHz"],
)
def test_devices_that_take_nothing_but_their_own_still_talk(stub, sounds, devices, whims):
    stub.plug(*devices)
    stub.whims(**whims)
    sound, _ = sounds()
    assert heard(sound).any()


def test_a_microphone_that_is_dead_beside_a_speaker_that_is_not(stub, sounds):
    """As macOS has it: zeros and a flag of PortAudio's in each callback of the one stream."""
    stub.whims(never_in=1)
    sound, notices = sounds()
    wait_for(lambda: told(notices, "the microphone gives nothing: opening sound again"))
    wait_for(lambda: told(notices, "MacBook Pro Speakers opens but gives no sound"))
    assert sound.problem() is None
    stub.whims()
    assert heard(sound).any()


def test_the_microphone_on_the_seventeenth_of_eighteen_channels(stub, sounds):
    stub.plug("Interface|18|20|48000")
    stub.whims(channel=17)
    assert not heard(sounds(None, None, 1)[0]).any(), "the first channel is silent"
    assert heard(sounds(None, None, 17)[0]).any()


def test_devices_whose_numbers_shift_are_found_by_their_names(stub, sounds):
    stub.plug(*MAC, "USB Mic|1|0|48000")
    sound, notices = sounds("usb", None)
    assert sound.state().input_name == "USB Mic"
    stub.plug("Webcam|1|0|16000", "USB Mic|1|0|48000", *MAC)
    os.kill(sound.process_id, signal.SIGKILL)  # its spare knows the old numbers, and so do we
    wait_for(lambda: told(notices, "sound is back: USB Mic"))
    sound.choose("webcam", None)
    wait_for(lambda: told(notices, "sound is back: Webcam"))
    assert heard(sound).any()


def test_a_rate_that_changes_under_the_stream_is_noticed(stub, sounds):
    stub.whims(speed=1.5)
    sound, notices = sounds()
    wait_for(lambda: told(notices, "the microphone runs at"))
    stub.whims()
    wait_for(lambda: told(notices, "sound is back"))
    assert sound.problem() is None


def test_input_and_output_flags_are_told_apart(stub, sounds):
    stub.whims(flags=4)  # paOutputUnderflow
    sound, notices = sounds()
    wait_for(lambda: sound.state().output_xruns > 100)
    assert sound.state().input_xruns == 0
    assert not told(notices, "rate has changed")
    stub.whims(flags=2)  # paInputOverflow
    sound.choose(None, None)
    wait_for(lambda: told(notices, "the microphone's rate has changed"))
    assert sound.state().input_xruns > 10


def test_zeros_are_told(stub, sounds):
    stub.whims(zeros=1)
    _, notices = sounds()
    wait_for(lambda: told(notices, "gives nothing but silence"))


def test_a_device_in_use_elsewhere_is_one_line(stub):
    from moshi_mlx.errors import AudioError

    stub.whims(refuse=-9985)
    sound = DeviceSound()
    try:
        with pytest.raises(AudioError, match="Device unavailable"):
            sound.start()
    finally:
        sound.stop()


def test_a_machine_with_a_microphone_alone_writes_down_what_it_hears(stub, tmp_path, capfd):
    stub.plug("USB Microphone|1|0|48000")
    line = "no sound output: connect a speaker or headphones, then try again"
    assert main(["chat", "--model", "nano", "--plain"]) == 1
    said = capfd.readouterr()
    assert said.out == "" and line in said.err and "`moshi web`" in said.err
    assert said.err.count("\n") == 1
    assert main(["devices", "--json"]) == 1
    said = capfd.readouterr()
    told = json.loads(said.out)
    assert said.err == f"error: {line}\n"
    assert (told["a_talk_would_use"], told["notes"]) == (None, [line])
    assert [device["name"] for device in told["devices"]] == ["USB Microphone"]
    model = ("--model", str(ticking_words(tmp_path / "stt")), "--output-dir", str(tmp_path / "out"))
    with ChatProcess(tmp_path, *model, env=stub.env, chat=("transcribe", "--live")) as process:
        process.wait_for(f"{WORD} {WORD} {WORD}", where=process.out)
        assert process.interrupt() in (0, 130)
    (text,) = (tmp_path / "out").iterdir()
    assert text.read_text().split()[:3] == [WORD] * 3
