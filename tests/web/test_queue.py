"""Visitors who wait for the line: in order, told where they stand, gone when they leave."""

import asyncio
import json

import pytest

from app.web import line as web_line
from app.web.protocol import Kind
from moshi_mlx.errors import MoshiError
from tests.support.fakes.web_fakes import (
    FakeEngine,
    Running,
    close_of,
    eventually,
    receive,
    running,
)

WAIT = "?codec=pcm&wait=1"


async def told(socket, kind: str) -> dict:
    """The next message of metadata of a kind."""
    while True:
        data = json.loads(await receive(socket, Kind.METADATA))
        if data["type"] == kind:
            return data


async def place(socket) -> tuple[int, bool]:
    data = await told(socket, "waiting")
    return data["ahead"], data["can_take_over"]


async def waiting(site: Running) -> int:
    return (await (await site.http.get(f"{site.url}/api/status")).json())["waiting"]


async def test_the_line_goes_to_who_has_waited_longest():
    async with running() as site, site.chat(WAIT) as first:
        await told(first, "started")
        others = []
        for ahead in range(5):  # so many that nobody comes next by chance
            others.append(await site.chat(WAIT))
            assert await place(others[-1]) == (ahead, False)
            await asyncio.sleep(0.37 * web_line.LOOK_EVERY_S)  # each looks at another moment
        assert await waiting(site) == 5
        await first.close()
        async with site.chat("?codec=pcm") as hasty:  # who can't wait comes after who does
            assert (await close_of(hasty))[0] == web_line.CLOSE_BUSY
        for ahead, visitor in enumerate(others):
            await told(visitor, "started")
            assert await waiting(site) == 4 - ahead
            if ahead < 4:
                assert await place(others[-1]) == (3 - ahead, False)
            await visitor.close()


async def test_who_leaves_gives_up_the_place_and_who_comes_with_sound_loses_nothing():
    async with running() as site, site.chat(WAIT) as first:
        await told(first, "started")
        async with site.chat(WAIT) as second, site.chat(WAIT) as third:
            assert await place(second) == (0, False)
            assert await place(third) == (1, False)
            await third.send_bytes(b"\x10" + bytes(3840))  # read, and forgotten
            await second.close()
            assert await place(third) == (0, False)
            third._response.connection.transport.abort()  # gone without a word
            await eventually(lambda: site.server.line.waiting == 0)
        assert site.server.line.busy()


async def test_a_full_queue_is_told_and_a_quiet_visitor_may_be_taken_over_from(monkeypatch):
    monkeypatch.setattr(web_line, "MOST_WAITING", 1)
    async with running(quiet_s=0.3) as site, site.chat(WAIT) as first:
        await told(first, "started")
        async with site.chat(WAIT) as second, site.chat(WAIT) as third:
            code, seen = await close_of(third)
            assert code == web_line.CLOSE_BUSY and b"1 others are waiting" in seen[-1]
            while not (await place(second))[1]:
                pass
            async with site.chat(f"{WAIT}&takeover=1") as bold:
                await told(bold, "started")
                assert (await close_of(first))[0] == web_line.CLOSE_BUSY


async def test_a_flood_while_waiting_ends_the_wait():
    async with running() as site, site.chat(WAIT) as first:
        await told(first, "started")
        async with site.chat(WAIT) as second:
            await place(second)
            for _ in range(1500):
                await second.send_bytes(b"\x06")
            assert (await close_of(second))[0] == 1008
        assert site.server.line.busy()


async def test_a_model_that_fails_and_a_server_that_stops_send_home_who_waits():
    engine = FakeEngine()
    async with running(engine) as site, site.chat(WAIT) as first:
        await told(first, "started")
        async with site.chat(WAIT) as second:
            await place(second)
            engine.raises = MoshiError("the model is out of paper")
            await first.send_bytes(b"\x10" + bytes(3840))
            code, seen = await close_of(second)
            assert code == web_line.CLOSE_FAILED and b"out of paper" in seen[-1]
    async with running() as site:
        first, second = await site.chat(WAIT), await site.chat(WAIT)
        await told(first, "started")
        await place(second)
        site.server.line.send_all_away("the server stops")
        assert (await close_of(second))[0] == 1001


@pytest.mark.parametrize("value", ["", "2", "yes"])
async def test_waiting_is_asked_for_with_0_or_1(value):
    async with running() as site, site.chat(f"?codec=pcm&wait={value}") as socket:
        assert (await close_of(socket))[0] == web_line.CLOSE_REFUSED


async def test_without_the_pages_codec_one_may_wait_in_silence():
    async with running() as site, site.chat(WAIT) as first:
        await told(first, "started")
        second = await site.chat("?wait=1")
        await eventually(lambda: site.server.line.waiting == 1)
        await first.close()
        await receive(second, Kind.HANDSHAKE)
        await asyncio.wait_for(second.close(), 60)
