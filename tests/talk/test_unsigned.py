"""Why a recording isn't signed is told where a talk is: at its end, by the server once."""

import json
import sys

from app.commands.chat import report
from app.events import ConversationEnded, ConversationStarted, Ready, Settings
from app.provenance.seal import WITHOUT_EXTRA, seal
from app.recording.recorder import Recorder
from app.talk.chat import Chat, ChatOptions
from app.web.recordings import Recordings
from tests.support.fakes.fake_engine import FakeEngine
from tests.support.fakes.queue_sound import QueueSound
from tests.support.talks.talking import wait_for

NO_ROOM = "unsigned: no room"


def test_the_end_of_a_talk_says_why_its_recording_is_unsigned(tmp_path, capsys):
    for why, told in ((NO_ROOM, 1), (WITHOUT_EXTRA, 0), ("", 0)):
        options = ChatOptions(echo="off", record=tmp_path, seal=lambda path, origin, why=why: why)
        chat = Chat(FakeEngine, QueueSound(), options)  # type: ignore
        chat.start()
        wait_for(lambda chat=chat: chat.takes)
        chat.close()
        assert report(chat) == 0
        (take,) = chat.takes
        lines = capsys.readouterr().err.splitlines()
        assert lines == [f"recorded: {take}", f"{take}: {why}"][: 1 + told]


def test_no_time_for_a_signature_is_no_news_where_none_was_wanted(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)  # the extra isn't installed
    recorder = Recorder(tmp_path, seal=seal)
    recorder(ConversationStarted(1, 7, Settings()))
    recorder.close(flac_s=0.0)
    (take,) = recorder.takes
    assert json.loads((take / "manifest.json").read_text())["why"] == WITHOUT_EXTRA
    assert not recorder.unsigned


async def test_who_runs_the_server_is_told_once():
    told: list[str] = []
    with Recordings(lambda path, origin: NO_ROOM, told.append) as recordings:
        for number in (1, 2):
            recording = await recordings.begin(Ready("nano", "q4", 0.1), lambda notice: None)
            recording.on_event(ConversationStarted(number, 7, Settings()))
            recording.on_event(ConversationEnded(number, "hung up", 0))
            recording.close()
            assert await recordings.file(recording.id, "recording.wav")
        await recordings.close()
    assert told == [f"a visitor's recording: {NO_ROOM}"]
