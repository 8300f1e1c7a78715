"""A visitor's recording: whose it is, how long it stays, what becomes of a disk that fails."""

import asyncio
import json
import os
import shutil
import threading

import aiohttp
import numpy as np
import pytest
import soundfile

from app.web import line as web_line
from app.web.protocol import Kind
from app.web.recordings import Recordings
from moshi_mlx.errors import AudioError
from tests.support.fakes.web_fakes import close_of, eventually, pcm_message, receive, running

BLOCK = np.full(1920, 0.1, np.float32)


async def test_a_recording_can_be_downloaded_by_its_visitor_only(tmp_path, caplog):
    async with running() as site:
        async with site.chat("?codec=pcm&record=1&seed=3") as socket:
            recording = json.loads(await receive(socket, Kind.METADATA))["recording"]
            for _ in range(10):
                await socket.send_bytes(pcm_message(BLOCK))
                await receive(socket, Kind.PCM if _ else Kind.METADATA)
            base = f"{site.url}/api/recordings/{recording}"
            assert (await site.http.get(f"{base}/recording.wav")).status == 404  # not over yet
        answer = await site.http.get(f"{base}/recording.wav")
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert "attachment" in answer.headers["Content-Disposition"]
        (tmp_path / "a.wav").write_bytes(await answer.read())
        sound, rate = soundfile.read(tmp_path / "a.wav", dtype="float32")
        assert (rate, sound.shape) == (24_000, (10 * 1920, 2))
        assert np.abs(sound[:, 0] - 0.1).max() < 1e-3  # what was said
        assert np.sqrt(np.mean(sound[1920:, 1] ** 2)) > 0.03  # what was answered
        vtt = await (await site.http.get(f"{base}/transcript.vtt")).text()
        assert vtt.startswith("WEBVTT")
        assert "<v Moshi>I am" in vtt
        lines = (await (await site.http.get(f"{base}/transcript.jsonl")).text()).splitlines()
        assert [json.loads(line)["text"] for line in lines] == ["!", " I", " am"]
        for wrong in (
            f"{base}/manifest.json",
            f"{base}/..%2f..%2f",
            f"{base[:-3]}abc/recording.wav",
        ):
            assert (await site.http.get(aiohttp.client.URL(wrong, encoded=True))).status == 404
        async with site.chat("?codec=pcm&record=1") as socket:
            await receive(socket, Kind.METADATA)
            assert (await site.http.get(f"{base}/recording.wav")).status == 404  # replaced
    assert not caplog.records, "no traceback for the owner of the server"


async def test_nothing_is_recorded_unasked_and_nothing_is_left():
    async with running() as site:
        assert site.server.recordings is not None
        folder = site.server.recordings.folder
        async with site.chat("?codec=pcm") as socket:
            assert json.loads(await receive(socket, Kind.METADATA))["recording"] == ""
            assert os.listdir(folder) == [".lock"]
        async with site.chat("?codec=pcm&record=1") as socket:
            await receive(socket, Kind.METADATA)
            assert len(os.listdir(folder)) == 2
    assert not os.path.exists(folder)


class Disk(Recordings):
    """One that fails, or never answers."""

    def __init__(self, problem):
        super().__init__()
        self.problem = problem

    async def begin(self, ready, on_notice):
        if self.problem is None:
            return await super().begin(ready, on_notice)
        if self.problem is asyncio.TimeoutError:
            await asyncio.sleep(60)
        raise self.problem


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (AudioError("can't record to /tmp/x: No space left on device"), b"No space left"),
        (OSError(28, "No space left on device"), b"can't record: No space left on device; talk"),
        (asyncio.TimeoutError, b"can't record: the disk does not answer"),
        (RuntimeError("can't start new thread"), b""),
    ],
    ids=["known", "system", "hangs", "unknown"],
)
async def test_a_recording_that_cannot_start_holds_nobody_up(problem, said):
    disk = Disk(problem)
    async with running(recordings=disk, record_s=0.1) as site:
        for _ in range(2):
            async with site.chat("?codec=pcm&record=1") as socket:
                code, seen = await close_of(socket)
            assert said in b"".join(seen)
            assert code == (web_line.CLOSE_FAILED if said else 1006)
            await eventually(lambda: not site.server.line.busy())
        async with site.chat("?codec=pcm") as socket:  # without a recording, at once
            await receive(socket, Kind.HANDSHAKE)
        disk.problem = None
        async with site.chat("?codec=pcm&record=1") as socket:
            assert json.loads(await receive(socket, Kind.METADATA))["recording"]


async def test_who_cannot_record_is_told_no_place_of_this_machine():
    recordings = Recordings()
    shutil.rmtree(recordings.folder)
    recordings.folder.write_text("no folder any more")
    async with running(recordings=recordings) as site:
        async with site.chat("?codec=pcm&record=1") as socket:
            code, seen = await close_of(socket)
        assert code == web_line.CLOSE_FAILED
        assert b"\x05can't record: Not a directory; talk without a recording" in seen
    recordings.folder.unlink()


async def test_a_talk_that_is_refused_leaves_no_recording_open():
    async with running() as site:
        async with site.chat("?codec=pcm&record=1&text_top_k=13") as socket:
            code, _ = await close_of(socket)
        assert code == web_line.CLOSE_REFUSED
        await eventually(lambda: not any(t.name == "moshi-recorder" for t in threading.enumerate()))
