"""Clients that send what nobody should: random and mutated messages, broken Ogg, raw bytes."""

import asyncio
import contextlib
import struct
import time
from collections.abc import Iterator

import aiohttp
import numpy as np
import pytest
import sphn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.web.line import CLOSE_BUSY
from app.web.protocol import Kind
from tests.support.fakes.web_fakes import Running, pcm_message, receive, running

BLOCK = np.full(1920, 0.1, np.float32)
MESSAGES = 20  # in one example
FRAME_S = 0.04  # twice as fast as real time; the server takes three times for half a minute
EXAMPLES = [25, pytest.param(1000, marks=pytest.mark.long)]  # 500 messages, or 20,000


def opus_messages() -> list[bytes]:
    writer = sphn.OpusStreamWriter(24_000)
    pages = [writer.append_pcm(BLOCK) for _ in range(6)]
    return [b"\x01" + page for page in pages if page]


GOOD = [*opus_messages(), pcm_message(BLOCK), b"\x00" + bytes(8), b"\x03\x01", b"\x04{}", b"\x06ok"]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good message with bytes changed, cut out, doubled or put in."""
    message = bytearray(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(message) - 1)))
        what = draw(st.sampled_from(["change", "cut", "double", "insert"]))
        if what == "change" and message:
            message[at] = draw(st.integers(0, 255))
        elif what == "cut":
            del message[at : at + draw(st.integers(1, 40))]
        elif what == "double":
            message[at:at] = message[at : at + 60]
        else:
            message[at:at] = draw(st.binary(max_size=40))
    return bytes(message)


message = st.one_of(mutated(), st.binary(max_size=200), st.text(max_size=40))
batch = st.lists(message, min_size=MESSAGES, max_size=MESSAGES)
query = st.sampled_from(["", "?codec=pcm", "?codec=pcm&takeover=1", "?seed=x", "?%00=%ff", "?a=b"])


def many(examples: int) -> settings:
    checks = list(HealthCheck)
    return settings(
        max_examples=examples, deadline=None, suppress_health_check=checks, database=None
    )


@pytest.fixture
def site() -> Iterator[tuple[asyncio.Runner, Running]]:
    """A running server, in a loop that hypothesis's examples share."""
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        up = runner.run(stack.enter_async_context(running()))
        yield runner, up
        runner.run(stack.aclose())


async def send_all(socket: aiohttp.ClientWebSocketResponse, messages: list[bytes | str]) -> None:
    with contextlib.suppress(ConnectionError):  # a server that closes meanwhile may
        for each in messages:
            await (socket.send_str if isinstance(each, str) else socket.send_bytes)(each)


async def next_frame(socket: aiohttp.ClientWebSocketResponse) -> int:
    await socket.send_bytes(pcm_message(BLOCK))
    return struct.unpack_from("<I", await receive(socket, Kind.PCM))[0]


@pytest.mark.parametrize("examples", EXAMPLES)
def test_bad_messages_leave_the_talk_of_another_unharmed(site, examples):
    runner, up = site
    talker = runner.run(up.chat("?codec=pcm&seed=1"))
    runner.run(receive(talker, Kind.METADATA))
    runner.run(talker.send_bytes(pcm_message(BLOCK)))  # the model's first frame is silent
    frames, begun_s = [runner.run(next_frame(talker))], time.monotonic()

    async def attack(query: str, messages: list[bytes | str]) -> None:
        async with up.chat(query) as socket:
            await send_all(socket, messages)
            async for answer in socket:
                assert answer.data[0] in (Kind.TEXT, Kind.ERROR)
            assert socket.close_code in (CLOSE_BUSY, 4400)
        await asyncio.sleep(begun_s + FRAME_S * len(frames) - time.monotonic())
        frames.append(await next_frame(talker))

    @many(examples)
    @given(query, batch)
    def run(query: str, messages: list[bytes | str]) -> None:
        runner.run(attack(query, messages))

    run()
    assert len(frames) > examples and frames == list(range(1, len(frames) + 1))  # not one is lost
    heard = up.engine.talks[-1].heard
    assert all(np.abs(block - 0.1).max() < 1e-3 for block in heard)  # nobody else's sound
    runner.run(talker.close())


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("codec", ["opus", "pcm"])
def test_bad_messages_from_the_talker_are_answered_or_ignored(site, codec, examples):
    runner, up = site

    async def attack(messages: list[bytes | str]) -> None:
        async with up.chat(f"?codec={codec}") as socket:
            await receive(socket, Kind.HANDSHAKE)
            await send_all(socket, messages)
            await socket.send_str("the last one")  # always answered, so that all were read
            async with asyncio.timeout(60):
                while b"only binary" not in (answer := await socket.receive()).data:
                    assert answer.type is aiohttp.WSMsgType.BINARY, answer
                    assert answer.data[0] in list(Kind)
        async with up.chat("?codec=pcm") as good:  # and the line is free, the model well
            await receive(good, Kind.METADATA)
            await good.send_bytes(pcm_message(BLOCK))
            assert await next_frame(good) == 1

    @many(examples)
    @given(batch)
    def run(messages: list[bytes | str]) -> None:
        runner.run(attack(messages))

    run()
    assert not up.server.line.failed.done()
    runner.run(asyncio.sleep(0.1))


@pytest.mark.parametrize("examples", [100, pytest.param(20_000, marks=pytest.mark.long)])
def test_bytes_that_are_no_websocket_at_all(site, examples):
    runner, up = site

    async def attack(data: bytes) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", up.port)
        writer.write(data + b"\r\n\r\n")
        writer.write_eof()
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()
        answer = await up.http.get(f"{up.url}/api/status")
        return answer.status

    @many(examples)
    @given(st.binary(min_size=1, max_size=200))
    def run(data: bytes) -> None:
        assert runner.run(attack(data)) == 200

    run()
