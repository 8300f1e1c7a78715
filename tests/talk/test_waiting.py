"""A microphone that is a file waits for a model that is behind, and the end of a talk tells."""

from dataclasses import replace

import numpy as np
import pytest

from app.audio.sound import SoundState
from app.audio.virtual_port import ArraySource, RealtimePort
from app.commands.chat import report
from app.events import FrameDone, Settings, Status
from app.talk.chat import Snapshot
from app.talk.ending import counted_frames, ending
from app.talk.session import TalkSession
from moshi_mlx.clock import FRAME_SAMPLES
from tests.support.fakes.fake_engine import FakeEngine

FRAMES = 12
TALKED = Status(frames=525, seed=7)


def talk(patient):
    """What a model that needs 120 ms for a frame hears of `FRAMES` frames, and the port."""
    said = np.arange(1, FRAMES * FRAME_SAMPLES + 1, dtype=np.float32) / (FRAMES * FRAME_SAMPLES)
    port = RealtimePort(ArraySource(said), lambda block: None, patient=patient)
    session, frames = TalkSession(lambda: FakeEngine(lambda: 0.12)), []
    session.subscribe(lambda e: frames.append(e) if isinstance(e, FrameDone) else None)
    session.subscribe(lambda e: session.finish() if len(frames) == FRAMES else None)
    session.start()
    port.start()
    session.begin(port, Settings())
    session.join(20 * FRAMES * 0.12)
    session.stop()
    port.stop()
    return said, frames, port


def test_a_patient_microphone_waits_and_nothing_is_dropped():
    said, frames, port = talk(patient=True)
    assert np.array_equal(np.concatenate([frame.heard for frame in frames]), said)
    assert frames[-1].dropped_frames == 0 and port.waited_s > 0.08


def test_a_talk_that_ends_while_the_microphone_waits_ends_at_once():
    port = RealtimePort(ArraySource(np.zeros(480_000)), lambda block: None, patient=True)
    port.start()
    port.flush()
    while port.ring.available() < 3 * FRAME_SAMPLES:  # nobody reads, so it is full and waits
        pass
    port.stop()
    assert port.ring.available() <= 3 * FRAME_SAMPLES + 480


@pytest.mark.parametrize(
    ("talk", "sound", "lines"),
    [
        (Status(), SoundState(), []),
        (TALKED, SoundState(), ["0:42 of talk, seed 7"]),
        (TALKED, SoundState(waited_s=0.05), ["0:42 of talk, seed 7"]),
        (
            replace(TALKED, dropped_frames=5.0),
            SoundState(),
            [
                "0:42 of talk, seed 7",
                "too slow: 5 frames (0.4 s) dropped of what you said; "
                "`moshi doctor` says what to do",
            ],
        ),
        (
            TALKED,
            SoundState(waited_s=0.4),
            [
                "0:42 of talk, seed 7",
                "too slow: a talk would have dropped 5 frames (0.4 s) here; the recording waited",
            ],
        ),
    ],
)
def test_the_end_tells_how_long_it_was_and_what_was_dropped(talk, sound, lines):
    assert ending(Snapshot(talk, sound, False, None, "off")) == lines


def test_a_part_of_a_frame_counts_as_one():
    assert counted_frames(0.25) == "1 frame (0.1 s)"


def test_a_plain_talk_tells_its_end_as_the_screen_does(capsys):
    class Over:
        takes, kept, failure = [], [], None

        def snapshot(self):
            dropped = replace(TALKED, dropped_frames=2.0)
            return Snapshot(dropped, SoundState(), False, None, "off")

    assert report(Over()) == 0  # type: ignore
    told = capsys.readouterr().err
    assert told.startswith("0:42 of talk, seed 7\ntoo slow: 2 frames (0.2 s) dropped")
