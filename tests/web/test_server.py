"""The server as its clients see it: conversations, one at a time, with a fake engine."""

import asyncio
import contextlib
import json
import struct
import sys
import threading
import time
from typing import cast

import aiohttp
import numpy as np
import pytest
import sphn

from app.events import Settings
from app.web import line as web_line
from app.web.protocol import Kind
from app.web.server import WebServer
from tests.support.fakes.fake_engine import BehindEngine
from tests.support.fakes.web_fakes import (
    PATIENCE_S,
    FakeEngine,
    close_of,
    eventually,
    pcm_message,
    receive,
    running,
)

BLOCK = np.full(1920, 0.1, np.float32)


async def speak(socket, frames: int = 3) -> None:
    """No more at once than the session keeps, so that none is dropped however late it looks."""
    for _ in range(frames):
        await socket.send_bytes(pcm_message(BLOCK))


async def test_a_client_of_kyutais_kind_hears_and_reads_the_answer():
    writer, reader = sphn.OpusStreamWriter(24_000), sphn.OpusStreamReader(24_000)
    async with running() as site, site.chat() as socket:
        assert await receive(socket, Kind.HANDSHAKE) == bytes(8)
        sound, words = [], []
        for _ in range(12):
            await socket.send_bytes(b"\x01" + writer.append_pcm(BLOCK))
            await asyncio.sleep(0.02)
        while sum(map(len, sound)) < 10 * 1920:
            message = (await asyncio.wait_for(socket.receive(), PATIENCE_S)).data
            assert message[0] in (
                Kind.AUDIO,
                Kind.TEXT,
            )  # nothing else that a client might not know
            if message[0] == Kind.AUDIO:
                sound.append(reader.append_bytes(message[1:]))
            else:
                words.append(message[1:].decode())
    heard = np.concatenate(sound)
    assert np.sqrt(np.mean(heard[4800:] ** 2)) > 0.02
    assert "".join(words).startswith("! I")  # FakeTalk's words of frames 3 and 6


async def test_the_page_is_told_the_models_adapter():
    engine = FakeEngine(adapter="pirate")
    async with running(engine) as site, site.chat("?codec=pcm") as socket:
        started = json.loads(await receive(socket, Kind.METADATA))
        assert (started["model"], started["adapter"]) == ("fake", "pirate")
        async with site.http.get(f"{site.url}/api/status") as answer:
            assert (await answer.json())["adapter"] == "pirate"


async def test_a_visitor_says_who_moshi_is_and_names_no_file_of_this_machine(tmp_path, monkeypatch):
    (tmp_path / "secret").write_bytes(b"a file of the server's")
    monkeypatch.chdir(tmp_path)
    engine = FakeEngine(personas=True, voices=("NATF2", "NATM1"))
    async with running(engine) as site:
        async with site.http.get(f"{site.url}/api/status") as answer:
            told = await answer.json()
        assert told["personas"] is True and told["voices"] == ["NATF2", "NATM1"]
        query = "?codec=pcm&persona=You+are+a+sailor.&voice=NATM1"
        async with site.chat(query) as socket:
            await receive(socket, Kind.METADATA)
        settings = engine.settings[-1]
        assert (settings.persona, settings.voice) == ("You are a sailor.", "NATM1")
        for voice in ("secret", "../secret", f"{tmp_path}/secret", "NATF9"):
            async with site.chat(f"?codec=pcm&voice={voice}") as socket:
                assert (await close_of(socket))[0] == 4400
        async with site.chat("?codec=pcm&persona=" + "x" * 1501) as socket:
            assert (await close_of(socket))[0] == 4400


async def test_our_page_gets_raw_sound_with_its_figures():
    async with running(FakeEngine(step_s=0.02)) as site, site.chat("?codec=pcm&seed=5") as socket:
        await receive(socket, Kind.HANDSHAKE)
        started = json.loads(await receive(socket, Kind.METADATA))
        assert (started["type"], started["seed"], started["model"]) == ("started", 5, "fake")
        await speak(socket, 1)
        await asyncio.sleep(0.1)
        spoken_s = time.monotonic()
        await speak(socket, 1)
        payload = await receive(socket, Kind.PCM)
        answered_ms = 1000 * (time.monotonic() - spoken_s)
        frame, waited_ms, computed_ms = struct.unpack_from("<Iff", payload)
        assert frame == 1
        assert len(payload) == 12 + 2 * 1920
        assert computed_ms >= 20 and waited_ms >= 0
        assert computed_ms + waited_ms <= answered_ms + 1  # the same time, seen from outside
        await socket.send_bytes(b"\x06abcdefgh")
        assert await receive(socket, Kind.PING) == b"abcdefgh"


async def test_sound_decoded_beside_the_model_is_sent_while_the_model_is_busy():
    engine, received = BehindEngine(step_s=0.3, decode_s=0.05), threading.Event()

    def first_step_takes_its_time(seconds: float) -> None:
        if engine.steps:
            received.wait(60)
        else:
            time.sleep(seconds)

    engine.sleep = first_step_takes_its_time
    async with running(cast(FakeEngine, engine)) as site, site.chat("?codec=pcm") as socket:
        await receive(socket, Kind.METADATA)
        await speak(socket, 2)
        payload = await receive(socket, Kind.PCM)
        assert len(engine.steps) == 1, "the second step is under way"
        received.set()
        frame, waited_ms, computed_ms = struct.unpack_from("<Iff", payload)
        assert frame == 0 and waited_ms >= 0
        assert computed_ms >= 350, "a reply takes both"


async def test_sampling_reaches_the_model_and_each_conversation_has_its_own_seed():
    query = "?codec=pcm&text_temperature=0.5&audio_topk=7"
    async with running() as site:
        for _ in range(2):
            async with site.chat(query) as socket:
                await receive(socket, Kind.METADATA)
        first, second = site.engine.settings
        assert (first.text_temperature, first.audio_top_k) == (0.5, 7)
        assert first.seed != second.seed


async def test_the_commands_sampling_holds_where_the_query_says_nothing():
    def change(server: WebServer) -> None:
        server.settings = Settings(seed=11, text_temperature=0.3, audio_top_k=20)

    async with running(change=change) as site:
        for query in ("?codec=pcm", "?codec=pcm&seed=12&audio_topk=7"):
            async with site.chat(query) as socket:
                await receive(socket, Kind.METADATA)
        first, second = site.engine.settings
        assert (first.seed, first.text_temperature, first.audio_top_k) == (11, 0.3, 20)
        assert (second.seed, second.text_temperature, second.audio_top_k) == (12, 0.3, 7)


async def test_without_an_opus_library_raw_sound_still_works(monkeypatch):
    monkeypatch.setitem(sys.modules, "sphn", None)  # as where it isn't installed
    async with running() as site:
        async with site.chat() as socket:
            code, seen = await close_of(socket)
        assert code == web_line.CLOSE_FAILED
        assert b"--reinstall '.[kyutai]'" in seen[-1] and b"\n" not in seen[-1]
        async with site.chat("?codec=pcm") as socket:
            await receive(socket, Kind.HANDSHAKE)
            await speak(socket)
            await receive(socket, Kind.PCM)


async def test_what_cannot_be_honoured_is_said_and_the_line_stays_free():
    async with running() as site:
        for query, what in [("?volume=11", b"volume"), ("?text_topk=13", b"unlucky")]:
            async with site.chat(query) as socket:
                code, seen = await close_of(socket)
            assert code == web_line.CLOSE_REFUSED
            assert seen[-1][0] == Kind.ERROR
            assert what in seen[-1]
        async with site.chat() as socket:
            await receive(socket, Kind.HANDSHAKE)


async def test_a_second_visitor_is_told_at_once_and_the_first_is_not_disturbed():
    async with running() as site, site.chat("?codec=pcm") as first:
        await receive(first, Kind.HANDSHAKE)
        await speak(first)
        await receive(first, Kind.PCM)
        async with site.chat() as second:
            code, seen = await close_of(second)
        assert code == web_line.CLOSE_BUSY
        assert [message[0] for message in seen] == [Kind.TEXT, Kind.ERROR]
        async with site.chat("?takeover=1") as second:  # the first is there: no
            assert (await close_of(second))[0] == web_line.CLOSE_BUSY
        await speak(first)
        await receive(first, Kind.PCM)
        status = await (await site.http.get(f"{site.url}/api/status")).json()
        assert (status["busy"], status["can_take_over"]) == (True, False)


async def test_a_silent_visitor_can_be_taken_over_from():
    async with running(quiet_s=0.2) as site, site.chat("?codec=pcm") as first:
        await receive(first, Kind.METADATA)
        await asyncio.sleep(0.3)
        async with site.chat("?takeover=1&codec=pcm") as second:
            await receive(second, Kind.METADATA)
            code, seen = await close_of(first)
            assert code == web_line.CLOSE_BUSY
            assert b"took over" in seen[-1]
            await speak(second)
            await receive(second, Kind.PCM)


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_disconnect_frees_the_line(how, monkeypatch):
    async with running() as site:
        first = await site.chat("?codec=pcm")
        await receive(first, Kind.HANDSHAKE)
        await speak(first)
        await receive(first, Kind.PCM)
        if how == "abort":
            assert first._response.connection is not None
            first._response.connection.transport.abort()
        else:
            asyncio.create_task(first.close())  # noqa: RUF006
        await eventually(lambda: not site.server.line.busy())
        async with site.chat("?codec=pcm") as second:
            await receive(second, Kind.HANDSHAKE)
            await speak(second)
            await receive(second, Kind.PCM)
        await eventually(lambda: site.engine.closed == 2)


async def test_every_conversation_starts_with_clean_state():
    async with running() as site:
        for _ in range(3):
            async with site.chat("?codec=pcm") as socket:
                await receive(socket, Kind.METADATA)
                await speak(socket)
                frame = struct.unpack_from("<I", await receive(socket, Kind.PCM))[0]
                assert frame == 1


async def test_broken_messages_are_answered_and_the_talk_goes_on():
    async with running() as site, site.chat("?codec=pcm") as socket:
        await receive(socket, Kind.METADATA)
        await socket.send_bytes(b"\x10abc")
        assert b"16-bit" in await receive(socket, Kind.ERROR)
        await socket.send_str("hello")
        assert b"binary" in await receive(socket, Kind.ERROR)
        for unknown in (b"\x63junk", b"\x00", b"\x03\x01", b"\x04{"):
            await socket.send_bytes(unknown)
        await speak(socket)
        await receive(socket, Kind.PCM)


async def test_too_large_a_message_or_a_flood_ends_that_conversation_only():
    async with running() as site:
        async with site.chat("?codec=pcm") as socket:
            await socket.send_bytes(bytes(70_000))
            assert (await close_of(socket))[0] == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
        async with site.chat("?codec=pcm") as socket:
            with contextlib.suppress(ConnectionError):
                for _ in range(90):
                    await socket.send_bytes(b"\x63" + bytes(60_000))
            assert (await close_of(socket))[0] == aiohttp.WSCloseCode.POLICY_VIOLATION
        async with site.chat("?codec=pcm") as socket:
            await receive(socket, Kind.HANDSHAKE)
            await speak(socket)
            await receive(socket, Kind.PCM)


async def test_a_model_that_raises_is_told_to_the_visitor_and_to_the_server():
    async with running(FakeEngine(raises=ValueError("weights melted"))) as site:
        async with site.chat("?codec=pcm") as socket:
            await receive(socket, Kind.HANDSHAKE)
            await speak(socket)
            code, seen = await close_of(socket)
        assert code == web_line.CLOSE_FAILED
        assert b"weights melted" in seen[-1]
        assert "weights melted" in await asyncio.wait_for(site.server.line.failed, PATIENCE_S)
        async with site.chat() as socket:
            assert (await close_of(socket))[0] == web_line.CLOSE_FAILED


async def test_kyutais_client_gets_no_bursts_and_ours_gets_frames_as_they_come():
    """A busy machine moves frames together or apart now and then, never ten times one after the
    other."""

    async def gap_s(site, query, kind):
        writer = sphn.OpusStreamWriter(24_000)
        async with site.chat(query) as socket:
            await receive(socket, Kind.HANDSHAKE)
            for _ in range(3):  # the session keeps 160 ms of backlog
                message = b"\x01" + writer.append_pcm(BLOCK)
                await socket.send_bytes(message if kind is Kind.AUDIO else pcm_message(BLOCK))
            await receive(socket, kind)
            first_s = asyncio.get_running_loop().time()
            await receive(socket, kind)
            return asyncio.get_running_loop().time() - first_s

    async with running() as site:
        for query, kind, right in (
            ("", Kind.AUDIO, lambda gap: gap > 0.06),
            ("?codec=pcm", Kind.PCM, lambda gap: gap < 0.06),
        ):
            gaps = []
            while not (gaps and right(gaps[-1])):
                assert len(gaps) < 10, (query, gaps)
                gaps.append(await gap_s(site, query, kind))
