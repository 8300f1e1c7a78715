"""A sound file dropped on the page: looked at as `moshi trace` does, and gone whatever happens."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import aiohttp
import numpy as np
import pytest
import soundfile

from app.provenance.index import default_path
from app.provenance.index_writer import add_sound
from app.web.protocol import Kind
from app.web.recordings import Recordings
from app.web.security import Guard
from moshi_mlx.provenance import mark
from tests.support.fakes.web_fakes import (
    PATIENCE_S,
    Running,
    eventually,
    pcm_message,
    receive,
    running,
)
from tests.support.rooms import voice

RATE = 24_000


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def talk(tmp_path) -> Path:
    """Left somebody, right marked: 12 s."""
    said = mark(voice("questions")[: 12 * RATE], payload=2026)
    heard = np.resize(voice("voice_awb"), len(said))
    soundfile.write(tmp_path / "talk.wav", np.stack([heard, said], axis=1), RATE)
    return tmp_path / "talk.wav"


def program(code: str):
    """In place of `moshi trace`: a line of Python that finds the file's path in sys.argv."""
    return lambda path: ([sys.executable, "-c", f"import sys, time; {code}", str(path)], {})


async def sent(site: Running, body, name: str = "talk.wav", **options) -> tuple[int, str]:
    url = f"{site.url}/api/trace"
    async with site.http.post(url, params={"name": name}, data=body, **options) as answer:
        return answer.status, await answer.text()


async def cancelled(asked: asyncio.Task) -> None:
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)


def left(site: Running) -> list[str]:
    """What lies in the server's folder, its lock aside."""
    assert site.server.recordings is not None
    return [name for name in os.listdir(site.server.recordings.folder) if name != ".lock"]


async def test_a_talk_is_recognised_with_its_mark_payload_and_place_in_the_index(talk):
    pcm, _ = soundfile.read(talk, dtype="float32")
    add_sound(default_path(), pcm[:, 1])
    async with running() as site:
        async with site.http.post(f"{site.url}/api/trace", data=talk.read_bytes()) as answer:
            told = await answer.json()
        assert told["found"] and told["sentence"].startswith("Made by moshi-local: its mark is in")
        assert "this machine said it in talk 1" in told["sentence"]
        assert [(w["channel"], w["found"]) for w in told["windows"]] == [(0, False), (1, True)]
        assert "payload 2026" in told["windows"][1]["what"]
        assert "said by this machine in talk 1" in told["index"][0]["line"]
        assert told["signature"] and "file" not in told and str(talk.parent) not in str(told)
        assert left(site) == []


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg")
async def test_what_moshi_file_takes_is_taken_here(talk, tmp_path):
    m4a = tmp_path / "memo.m4a"
    subprocess.run(["ffmpeg", "-v", "error", "-i", talk, "-b:a", "96k", m4a], check=True)
    async with running() as site:
        status, text = await sent(site, m4a.read_bytes(), "memo.m4a")
    assert status == 200 and "Made by moshi-local" in text


@pytest.mark.parametrize(("head", "kind"), [(b"\0\0\0\x20ftypM4A ", "MPEG-4"), (b"#!AMR", "AMR")])
async def test_without_a_decoder_the_visitor_reads_what_to_send_and_the_owner_what_to_install(
    head, kind
):
    told: list[str] = []
    async with running(decoders={"no-such-decoder": ()}, tell=told.append) as site:
        for _ in range(2):
            status, text = await sent(site, head + bytes(1000), "memo.m4a")
            assert status == 422 and kind in text and "wav, mp3, flac or ogg" in text
            assert text.count("\n") == 1 and not re.search("install|ffmpeg|afconvert", text)
        assert left(site) == []
    (line,) = told
    assert kind in line and "install ffmpeg" in line


@pytest.mark.parametrize(
    "name", ["talk.wav", "../../etc/x.wav", "a/b.\0wav", "x" * 3000, "", "é.MP3"]
)
async def test_files_that_are_no_sound_are_one_line_whatever_their_name(name):
    async with running() as site:
        status, text = await sent(site, b"RIFF and nothing of it", name)
        assert status == 422 and text.count("\n") == 1
        assert text.startswith("the file can't be read as sound")
        assert str(site.server.recordings.folder) not in text
        assert await sent(site, b"", name) == (422, "the file is empty; choose another\n")
        assert left(site) == []


async def stream(pieces: int):
    for _ in range(pieces):
        yield bytes(1000)


async def test_more_than_allowed_is_refused_told_before_or_not():
    async with running(most_bytes=2500, command=program("print('never')")) as site:
        refused = (413, "the file has more than 0 MB; cut out a part of it\n")
        assert await sent(site, bytes(3000)) == refused
        assert await sent(site, stream(3)) == refused
        assert left(site) == []


async def test_only_who_may_talk_may_ask(talk):
    async with running(guard=Guard.make("0.0.0.0")) as site:
        assert (await sent(site, talk.read_bytes()))[0] == 403
        assert left(site) == []
    async with running() as site:
        foreign = {"Origin": "https://elsewhere.example"}
        assert (await sent(site, talk.read_bytes(), headers=foreign))[0] == 403


@pytest.mark.parametrize(
    "code, look_s, line",
    [
        ("import os; os.kill(os.getpid(), 11)", PATIENCE_S, "what reads it broke down over it"),
        ("sys.exit('error: ' + sys.argv[1] + ' is odd')", PATIENCE_S, "the file is odd"),
        ("time.sleep(600)", 1.0, "takes longer than 1 s"),
    ],
)
async def test_what_reads_it_may_crash_complain_or_hang(code, look_s, line):
    async with running(command=program(code), look_s=look_s) as site:
        status, text = await sent(site, b"sound")
        assert status == 422 and line in text and text.count("\n") == 1
        assert left(site) == []


async def test_who_leaves_ends_the_search_and_the_next_one_is_served(tmp_path):
    pid = tmp_path / "pid"
    code = f"import os; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    async with running(command=program(code)) as site:
        asked = asyncio.create_task(sent(site, b"sound"))
        await eventually(lambda: pid.exists() and pid.read_text() != "")
        assert os.getpriority(os.PRIO_PROCESS, int(pid.read_text())) == 10  # the talk goes first
        status, text = await sent(site, b"sound")
        assert status == 503 and text.startswith("another file is being looked at")
        await cancelled(asked)
        await eventually(lambda: left(site) == [])
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)
        again = asyncio.create_task(sent(site, b"sound"))
        await eventually(lambda: left(site) != [])
        await cancelled(again)


async def test_a_file_that_comes_too_slowly_or_stops_in_the_middle():
    async def slowly(pause_s: float):
        yield b"some"
        await asyncio.sleep(pause_s)
        yield b"more"

    async with running(upload_s=0.5, command=program("print('never')")) as site:
        status, text = await sent(site, slowly(1.5))
        assert status == 408 and "did not arrive" in text
        with pytest.raises((TimeoutError, aiohttp.ClientError)):
            await sent(site, slowly(60), timeout=aiohttp.ClientTimeout(total=0.2))
        await eventually(lambda: left(site) == [])


async def test_a_file_that_comes_by_the_byte_keeps_nobody_waiting():
    async def bytewise():
        while True:
            yield b"a"
            await asyncio.sleep(0.02)

    async def enough():
        for _ in range(4):
            yield bytes(20_000)  # another second each
            await asyncio.sleep(0.2)

    async with running(begin_s=0.5, command=program("print('never')")) as site:
        status, text = await sent(site, bytewise())
        assert status == 408 and "hardly at all" in text
        assert (await sent(site, enough()))[0] != 408


async def test_without_room_it_says_so():
    recordings = Recordings()
    async with running(recordings=recordings) as site:
        shutil.rmtree(recordings.folder)
        status, text = await sent(site, b"sound")
        assert status == 507 and "no room for the file where Moshi runs" in text


async def test_a_talk_goes_on_meanwhile():
    async with running(command=program("time.sleep(600)")) as site, site.chat("?codec=pcm") as talk:
        await receive(talk, Kind.METADATA)
        asked = asyncio.create_task(sent(site, b"sound"))
        await eventually(lambda: left(site) != [])
        for _ in range(3):  # the first frame has no answer yet
            await talk.send_bytes(pcm_message(np.zeros(1920, np.float32)))
        await receive(talk, Kind.PCM)
        await receive(talk, Kind.PCM)
        assert not asked.done()
        await cancelled(asked)
