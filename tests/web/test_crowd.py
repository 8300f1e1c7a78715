"""Connections that say nothing, or half of something: they cost nobody else anything."""

import asyncio
import contextlib
import resource
import tempfile
import time
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from app.web.door import MAX_PER_ADDRESS, Door
from app.web.protocol import Kind
from tests.support.fakes.web_fakes import pcm_message, receive, running
from tests.support.processes.web_process import moshi_web

HALF = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Half: "
SILENCE = pcm_message(np.zeros(1920, np.float32))


class Greeter(asyncio.Protocol):
    """Answers each line with the same line; `lost` holds those that are gone."""

    def __init__(self, lost):
        self.lost = lost

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def connection_lost(self, error):
        self.lost.append(self)


async def connect(port):
    return await asyncio.open_connection("127.0.0.1", port)


async def ended(reader, seconds=60.0):
    async with asyncio.timeout(seconds):
        with contextlib.suppress(ConnectionError):
            return await reader.read() == b""
    return True


async def test_who_has_waited_longest_goes_for_who_comes():
    lost, told = [], []
    door = Door(lambda: Greeter(lost), tell=told.append)
    port = await door.listen("127.0.0.1", 0)
    first = await connect(port)
    others = [await connect(port) for _ in range(MAX_PER_ADDRESS - 1)]
    await asyncio.sleep(0.05)
    assert not lost
    one_more = await connect(port)
    assert await ended(first[0])
    one_more[1].write(b"hello")
    assert await one_more[0].readexactly(5) == b"hello"
    assert len(told) == 1 and "connections closed without an answer so far: 1" in told[0]
    door.shut()
    for _, writer in (first, *others, one_more):
        writer.close()


async def test_who_is_being_answered_stays_whoever_comes():
    lost, made = [], []

    def make():
        made.append(Greeter(lost))
        return made[-1]

    door = Door(make)
    port = await door.listen("127.0.0.1", 0)
    async with contextlib.AsyncExitStack() as talks:
        clients = [await connect(port) for _ in range(MAX_PER_ADDRESS)]
        await asyncio.sleep(0.05)
        for protocol in made:
            await talks.enter_async_context(door.answering(protocol))
        turned_away = await connect(port)
        assert await ended(turned_away[0]) and not lost
    welcome = await connect(port)  # now that they are answered
    welcome[1].write(b"hello")
    assert await welcome[0].readexactly(5) == b"hello"
    door.shut()
    for _, writer in (*clients, turned_away, welcome):
        writer.close()


async def test_a_connection_without_a_request_is_closed_in_time():
    lost = []
    door = Door(lambda: Greeter(lost), request_s=0.2)
    port = await door.listen("127.0.0.1", 0)
    reader, writer = await connect(port)
    assert await ended(reader)
    door.shut()
    writer.close()


async def test_localhost_means_both_families_on_one_port():
    door = Door(lambda: Greeter([]))
    port = await door.listen("localhost", 0)
    reader, writer = await asyncio.open_connection("localhost", port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    door.shut()
    writer.close()


async def test_pings_are_answered_in_moderation():
    async with running() as site, site.chat("?codec=pcm", autoping=False) as socket:
        await receive(socket, Kind.METADATA)
        for _ in range(300):
            await socket.ping(b"x")
            await socket.send_bytes(b"\x06y")
        await socket.send_str("the last one")  # always answered, so that all were read
        pongs, answers = 0, 0
        async with asyncio.timeout(60):
            while True:
                message = await socket.receive()
                if message.type is aiohttp.WSMsgType.PONG:
                    pongs += 1
                elif message.data[0] == Kind.PING:
                    answers += 1
                elif message.data[0] == Kind.ERROR:
                    break
        assert 1 <= pongs + answers < 60


async def half_requests(port, seconds, how_many=400):
    """Opened again as soon as they are closed."""

    async def one():
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            with contextlib.suppress(OSError, TimeoutError):
                reader, writer = await connect(port)
                writer.write(HALF)
                async with asyncio.timeout(max(0.1, until_s - time.monotonic())):
                    await reader.read()
                writer.close()
            await asyncio.sleep(0.2)

    await asyncio.gather(*(one() for _ in range(how_many)))


async def frame_of(talk, timeout_s=60.0):
    return int.from_bytes((await receive(talk, Kind.PCM, timeout_s))[:4], "little")


async def in_turn(talk, crowd):
    """Numbers of the frames answered while `crowd` runs: the next is spoken after each answer."""
    await talk.send_bytes(SILENCE)  # the model's first frame is silent
    frames = []
    while not crowd.done():
        await talk.send_bytes(SILENCE)
        frames.append(await frame_of(talk))
    return frames


async def in_real_time(talk, crowd):
    """The same for frames that are spoken every 80 ms, whatever is answered."""
    spoken, begun_s = 0, time.monotonic()

    async def speak():
        nonlocal spoken
        while not crowd.done():
            await talk.send_bytes(SILENCE)
            spoken += 1
            await asyncio.sleep(max(0.0, begun_s + 0.08 * spoken - time.monotonic()))
        await talk.send_bytes(SILENCE)  # answered once this is over
        spoken += 1

    speaking, frames = asyncio.create_task(speak()), [0]
    while not speaking.done() or frames[-1] < spoken - 1:
        frames.append(await frame_of(talk))
    assert 0.08 * spoken > 0.95 * (time.monotonic() - begun_s)
    return frames[1:]


def few_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))


async def crowded(seconds, hold, within_s):
    with moshi_web(preexec_fn=few_files) as server:
        chat = f"{server.url}api/chat?codec=pcm"
        crowd = half_requests(int(server.url.rstrip("/").rpartition(":")[2]), seconds)
        async with aiohttp.ClientSession() as http:
            async with http.ws_connect(chat) as talk:
                await receive(talk, Kind.METADATA)
                frames = await hold(talk, asyncio.create_task(crowd))
            assert frames == list(range(1, len(frames) + 1)), "a frame is lost"
            begun_s = time.monotonic()
            async with http.get(server.url) as answer:
                assert answer.status == 200
            async with http.ws_connect(f"{chat}&takeover=1") as talk:
                await receive(talk, Kind.HANDSHAKE)
            assert time.monotonic() - begun_s < within_s
        server.process.terminate()
        log = await asyncio.to_thread(server.process.stderr.read)
        assert len(log.splitlines()) < 100 and "Traceback" not in log, log[-2000:]


async def test_four_hundred_half_requests_beside_a_talk():
    await crowded(2.0, in_turn, within_s=60.0)


@pytest.mark.long
async def test_four_hundred_half_requests_beside_a_talk_in_real_time_for_a_minute():
    await crowded(60.0, in_real_time, within_s=5.0)


def folders_of(server):
    """Temporary folders of a server's process, by what is written in them."""
    found = Path(tempfile.gettempdir()).glob("moshi-web-*/.lock")
    return [lock.parent for lock in found if lock.read_text() == f"{server.process.pid}\n"]


def test_a_server_that_is_killed_leaves_a_folder_that_the_next_one_removes():
    with moshi_web() as first:
        (in_use,) = folders_of(first)
        with moshi_web() as second:
            assert in_use.exists()
            second.process.kill()
            second.process.wait()
        (left,) = folders_of(second)
        with moshi_web() as third:
            assert in_use.exists() and not left.exists()
            third.process.terminate()
            third.process.wait()
        assert not folders_of(third)
