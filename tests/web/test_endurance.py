"""Many conversations with one server, a third cut off mid-word: nothing grows.

The server is a process of its own with the embedded model; Linux tells its memory, threads and
open files. The first conversations pay for warm-up and aren't counted.
"""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import numpy as np
import pytest
import sphn

from app.web.protocol import Kind
from tests.support.fakes.web_fakes import pcm_message, receive
from tests.support.processes.web_process import moshi_web

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what a process holds")
BLOCK = np.full(1920, 0.1, np.float32)
WARM_UP = 6
# asyncio's threads for what waits for a disk: it makes another where two such things meet, up to
# this many beside the first, and keeps them.
POOL = min(32, (os.cpu_count() or 1) + 4) - 1


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    memory_mb: float
    threads: int
    sockets: int
    files: int

    @classmethod
    def by(cls, pid: int) -> "Held":
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines)
        links = [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()]
        return cls(
            memory_mb=int(status["VmRSS"].split()[0]) / 1024,
            threads=int(status["Threads"]),
            sockets=sum(link.startswith("socket:") for link in links),
            files=len(links),
        )


async def speak(
    socket: aiohttp.ClientWebSocketResponse, opus: sphn.OpusStreamWriter | None
) -> None:
    """In real time, until cancelled."""
    while True:
        message = b"\x01" + opus.append_pcm(BLOCK) if opus else pcm_message(BLOCK)
        await socket.send_bytes(message)
        await asyncio.sleep(0.08)


async def conversation(http: aiohttp.ClientSession, url: str, number: int, frames: int) -> None:
    """One talk in Opus or raw sound; each third is cut off while Moshi's sound is on its way."""
    opus = sphn.OpusStreamWriter(24_000) if number % 2 else None
    query = "?record=1" if number % 5 == 0 else ""
    query += ("&" if query else "?") + f"codec={'opus' if opus else 'pcm'}"
    socket = await http.ws_connect(f"{url}api/chat{query}")
    await receive(socket, Kind.HANDSHAKE, timeout_s=60)
    speaking = asyncio.create_task(speak(socket, opus))
    for _ in range(frames):
        await receive(socket, Kind.AUDIO if opus else Kind.PCM, timeout_s=60)
    speaking.cancel()
    if number % 3 == 0:
        assert socket._response.connection is not None
        socket._response.connection.transport.abort()
    await socket.close()


async def is_free(http: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(60):
        while (await (await http.get(f"{url}api/status")).json())["busy"]:
            await asyncio.sleep(0.02)


async def converse(url: str, pid: int, count: int, frames: int) -> list[Held]:
    held = []
    async with aiohttp.ClientSession() as http:
        for number in range(WARM_UP + count):
            await conversation(http, url, number, frames)
            await is_free(http, url)
            await asyncio.sleep(0.1)
            if number >= WARM_UP - 1:
                held.append(await settled(pid, held))
    return held


async def settled(pid: int, before: list[Held]) -> Held:
    """When what ends behind a conversation has ended; after some seconds, as it is."""
    for _ in range(100):
        now = Held.by(pid)
        if not before or now.threads <= before[0].threads:
            break
        await asyncio.sleep(0.05)
    return now


def assert_flat(held: list[Held], growth_mb: float) -> None:
    """Compares the least of the first fifth and of the last: garbage waits for its collector."""
    some = max(2, len(held) // 5)
    first, last = held[:some], held[-some:]
    print(f"first {first[0]}, last {last[-1]}")
    assert min(h.threads for h in last) <= min(h.threads for h in first) + POOL
    assert min(h.sockets for h in last) <= min(h.sockets for h in first)
    assert min(h.files for h in last) <= min(h.files for h in first)
    assert min(h.memory_mb for h in last) - min(h.memory_mb for h in first) < growth_mb


@pytest.mark.timeout(400)
def test_a_dozen_conversations_leave_nothing_behind():
    with moshi_web() as server:
        assert_flat(asyncio.run(converse(server.url, server.process.pid, 12, 4)), growth_mb=8)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_hundred_conversations_leave_nothing_behind():
    with moshi_web() as server:
        held = asyncio.run(converse(server.url, server.process.pid, 100, 20))
    assert_flat(held, growth_mb=3)  # a visit's buffers alone are 0.8 MB
