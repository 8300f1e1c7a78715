"""Recordings: sample-aligned, readable at any moment, whole after crashes and full disks."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from app.events import (
    ConversationEnded,
    ConversationStarted,
    FrameDone,
    Ready,
    Settings,
    UserWord,
)
from app.recording.recorder import Recorder
from app.recording.transcript import CueMaker, clock
from app.recording.wav_writer import WavWriter
from moshi_mlx.clock import FRAME_SAMPLES, SAMPLE_RATE_HZ
from moshi_mlx.errors import AudioError

WORDS = {3: " The", 5: " sky", 8: " is", 9: " bl", 10: "ue.", 40: " <Yes>"}


def frame(index, conversation=1, dropped=0.0):
    rng = np.random.default_rng(index)
    heard = rng.uniform(-1, 1, FRAME_SAMPLES).astype(np.float32)
    reply = None if index == 0 else -heard
    text = WORDS.get(index, "")
    return FrameDone(conversation, index, heard, reply, text, 3, 50.0, 1.0, 60.0, dropped, 0)


def play(recorder, frames, number=1):
    recorder(ConversationStarted(number, 77 + number, Settings(seed=77 + number)))
    for index in range(frames):
        recorder(frame(index, number))
    recorder(ConversationEnded(number, "hung up", frames))


def test_a_talk_on_disk(tmp_path):
    recorder = Recorder(tmp_path / "deep" / "talks")
    recorder(Ready("nano", "fp32", 0.1))
    play(recorder, 60)
    play(recorder, 5, number=2)
    recorder.close()
    assert recorder.failure is None and len(recorder.takes) == 2
    folder = recorder.takes[0]
    sound, rate = soundfile.read(folder / "talk.wav", dtype="float32")
    assert rate == SAMPLE_RATE_HZ and sound.shape == (60 * FRAME_SAMPLES, 2)
    heard = np.concatenate([frame(i).heard for i in range(60)])
    assert np.max(np.abs(sound[:, 0] - heard)) < 1e-4
    assert np.max(np.abs(sound[FRAME_SAMPLES:, 1] + heard[FRAME_SAMPLES:])) < 1e-4
    assert not sound[:FRAME_SAMPLES, 1].any()
    words = [json.loads(line) for line in (folder / "transcript.jsonl").read_text().splitlines()]
    assert words[1] == {"time_s": 0.4, "text": " sky"} and len(words) == 6
    vtt = (folder / "transcript.vtt").read_text()
    assert vtt.startswith("WEBVTT\n\n00:00:00.240 --> 00:00:01.280\n<v Moshi>The sky is blue.\n")
    assert "&lt;Yes&gt;" in vtt
    timings = [json.loads(line) for line in (folder / "timings.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in timings] == list(range(60))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["model"] == "nano" and manifest["seed"] == 78 and manifest["finished"]
    assert "synthetic" in manifest["note"] and manifest["frames"] == 60
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        ["talk.wav", "transcript.jsonl", "transcript.vtt", "timings.jsonl", "manifest.json"]
    )


def test_the_users_words_have_a_file_of_their_own(tmp_path):
    recorder = Recorder(tmp_path)
    recorder(ConversationStarted(1, 1, Settings()))
    for index in (10, 11):  # recorded from the middle of the talk on
        recorder(frame(index))
    recorder(UserWord(1, "before", 0.7))  # it was switched on
    recorder(UserWord(1, "Hello", 1.25))
    recorder(UserWord(7, "of another conversation", 1.3))
    recorder(UserWord(1, "there", 2.0))
    recorder(ConversationEnded(1, "hung up", 12))
    recorder.close()
    lines = (recorder.takes[0] / "you.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"time_s": 0.45, "text": "Hello"},
        {"time_s": 1.2, "text": "there"},
    ]


def test_last_words_that_come_when_a_talk_is_over_stand_in_its_own_file(tmp_path):
    """Their model is behind by its delay: the next talk may have begun, the recording be closed."""
    recorder = Recorder(tmp_path)
    play(recorder, 4)
    recorder(ConversationStarted(2, 1, Settings()))
    recorder(frame(0, 2))
    recorder(UserWord(1, "goodbye", 0.2))
    recorder(UserWord(2, "hello", 0.0))
    recorder(frame(1, 2))
    recorder.close()
    recorder.late_word(UserWord(2, "again", 0.1))
    recorder.late_word(UserWord(1, "at last", 0.3))
    words = [(take / "you.jsonl").read_text().splitlines() for take in recorder.takes]
    texts = [[json.loads(line)["text"] for line in lines] for lines in words]
    assert texts == [["goodbye", "at last"], ["hello", "again"]]
    shutil.rmtree(recorder.takes[1])
    recorder.late_word(UserWord(2, "to nobody", 0.2))
    assert not recorder.takes[1].exists() and recorder.failure is None


def test_a_talk_that_was_removed_ends_no_recording_of_the_next(tmp_path):
    recorder = Recorder(tmp_path)
    play(recorder, 4)
    recorder(ConversationStarted(2, 1, Settings()))
    while len(recorder.takes) < 2:
        time.sleep(0.01)
    shutil.rmtree(recorder.takes[0])
    recorder(UserWord(1, "goodbye", 0.2))
    recorder(frame(0, 2))
    recorder.close()
    assert recorder.failure is None and not recorder.takes[0].exists()
    assert len((recorder.takes[1] / "timings.jsonl").read_text().splitlines()) == 1


def test_flac_replaces_the_wav_at_the_end(tmp_path):
    recorder = Recorder(tmp_path, flac=True)
    play(recorder, 30)
    recorder.close()
    folder = recorder.takes[0]
    sound, _ = soundfile.read(folder / "talk.flac", dtype="float32")
    assert np.max(np.abs(sound[:FRAME_SAMPLES, 0] - frame(0).heard)) < 1e-4
    assert len(sound) == 30 * FRAME_SAMPLES and not (folder / "talk.wav").exists()


def test_sound_stays_a_wav_when_there_is_no_time_to_make_a_flac(tmp_path):
    recorder = Recorder(tmp_path, flac=True)
    recorder(ConversationStarted(1, 78, Settings(seed=78)))
    recorder(frame(0, 1))
    recorder.close(flac_s=0.0)
    (folder,) = recorder.takes
    assert (folder / "talk.wav").exists() and not list(folder.glob("*flac*"))
    assert json.loads((folder / "manifest.json").read_text())["finished"]


def test_a_take_that_cannot_start_leaves_no_folder(tmp_path):
    code = FULL_AT_ONCE.format(folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, text=True)
    assert done.stdout == "recording stopped: File too large\n", done.stderr
    assert list(tmp_path.iterdir()) == []


FULL_AT_ONCE = """
import resource, signal, sys
sys.path.insert(0, ".")
from tests.recording.test_recording import *
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
recorder = Recorder({folder!r})
play(recorder, 3)
recorder.close()
print(recorder.failure)
"""
CRASH = """
import os, sys, time
sys.path.insert(0, ".")
from tests.recording.test_recording import *
recorder = Recorder({folder!r})
recorder(ConversationStarted(1, 1, Settings()))
for index in range(50):
    recorder(frame(index))
while not recorder.takes:
    time.sleep(0.01)
while (recorder.takes[0] / "timings.jsonl").read_bytes().count(b"\\n") < 50:  # of a frame the last
    time.sleep(0.01)
os.kill(os.getpid(), 9)
"""


def test_a_killed_process_loses_less_than_a_second(tmp_path):
    done = subprocess.run([sys.executable, "-c", CRASH.format(folder=str(tmp_path))], timeout=60)
    assert done.returncode == -9
    folder = next(tmp_path.iterdir())
    sound, _ = soundfile.read(folder / "talk.wav", dtype="float32")
    assert len(sound) > 50 * FRAME_SAMPLES - SAMPLE_RATE_HZ
    assert np.max(np.abs(sound[:FRAME_SAMPLES, 0] - frame(0).heard)) < 1e-4
    assert len((folder / "transcript.jsonl").read_text().splitlines()) == 6
    assert json.loads((folder / "manifest.json").read_text())["finished"] is False


FULL = """
import resource, sys, time
sys.path.insert(0, ".")
from tests.recording.test_recording import *
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # the disk is full at 200 kB
notices = []
recorder = Recorder({folder!r}, flac={flac}, on_notice=notices.append)
play(recorder, 100)
play(recorder, 100, number=2)
recorder.close()
print(recorder.failure, len(notices))
"""


@pytest.mark.parametrize("flac", [False, True])
def test_a_full_disk_ends_the_recording_and_leaves_it_whole(tmp_path, flac):
    code = FULL.format(folder=str(tmp_path), flac=flac)
    done = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, text=True)
    assert done.stdout == "recording stopped: No space left on device 1\n", done.stderr
    (folder,) = tmp_path.iterdir()
    sound, _ = soundfile.read(folder / "talk.wav", dtype="float32")
    assert len(sound) == 200_000 // 4 // FRAME_SAMPLES * FRAME_SAMPLES
    for line in (folder / "timings.jsonl").read_text().splitlines():
        json.loads(line)
    assert json.loads((folder / "manifest.json").read_text())["ended"] == "disk failed"
    assert not list(folder.glob("*.part"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_made_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(AudioError, match="Permission denied"):
        Recorder(tmp_path / "talks")


def test_a_file_in_the_folders_place_is_one_line(tmp_path):
    (tmp_path / "talks").write_text("")
    with pytest.raises(AudioError, match=r"can.t record to .*: "):
        Recorder(tmp_path / "talks")


def test_a_disk_that_hangs_never_holds_up_the_talk(tmp_path, monkeypatch):
    monkeypatch.setattr(WavWriter, "write", lambda *_: time.sleep(0.4))
    notices = []
    recorder = Recorder(tmp_path, on_notice=notices.append)
    play(recorder, 400)  # 160 s of writing
    assert recorder.failure, "the talk has gone on before the disk had half of it"
    assert [n.kind for n in notices] == ["recording-failed"]
    recorder.close()


def test_wav_samples_beyond_full_scale_are_clipped(tmp_path):
    writer = WavWriter(tmp_path / "a.wav", 1)
    writer.write(np.array([2.0, -2.0, 0.5], np.float32))
    writer.commit()
    assert len(soundfile.read(tmp_path / "a.wav")[0]) == 3, "readable while it is open"
    writer.close()
    sound, _ = soundfile.read(tmp_path / "a.wav")
    np.testing.assert_allclose(sound, [1, -1, 0.5], atol=1e-4)


def test_cues_end_at_sentences_pauses_and_after_six_seconds():
    maker = CueMaker()
    pieces = {0: " One.", 4: " Two", 40: " three"} | {i: " word" for i in range(60, 160, 5)}
    cues = [cue for i in range(160) if (cue := maker.add(i, pieces.get(i, "")))]
    assert [cue.text for cue in cues[:3]] == ["One.", "Two", "three"]
    assert all(cue.end_s - cue.start_s < 7.5 for cue in cues) and maker.finish() is not None
    assert clock(3723.0456) == "01:02:03.046"
