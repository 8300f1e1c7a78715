"""What a visitor says, written down beside the talk: told to them alone, and in their recording."""

import asyncio
import json
import signal
from pathlib import Path

import numpy as np

from app.events import Notice, UserWord, UserWordsOver
from app.web.line import Line
from app.web.protocol import Kind
from tests.support.fakes.ticking_words import WORD, ticking_words
from tests.support.fakes.web_fakes import Running, close_of, pcm_message, receive, running
from tests.support.processes.web_process import moshi_web

HANG_UP = b'\x04{"type":"hang-up"}'
BLOCK = np.full(1920, 0.1, np.float32)


async def metadata(socket, kind: str) -> dict:
    while True:
        told = json.loads(await receive(socket, Kind.METADATA))
        if told["type"] == kind:
            return told


def writing(server) -> None:
    """What visitors say is written down: by the test, through `beside` of the server's line."""
    server.line = Line(server.line.session, server.recordings, writes_words=True)


async def test_words_reach_the_visitor_who_said_them_and_nobody_else() -> None:
    async with running(change=writing) as site:
        line: Line = site.server.line
        async with site.chat("?codec=pcm&record=1") as socket:
            started = await metadata(socket, "started")
            assert started["your_words"] is True
            line.beside(UserWord(1, "first", 0.24))
            assert await metadata(socket, "your-word") == {
                **{"type": "your-word", "text": "first", "at_s": 0.24}
            }
            await socket.send_bytes(pcm_message(BLOCK))
            await receive(socket, Kind.METADATA)  # the figures of its frame: it is recorded
        url = f"{site.url}/api/recordings/{started['recording']}/you.jsonl"
        async with site.http.get(url) as answer:
            assert json.loads(await answer.text()) == {"time_s": 0.24, "text": "first"}
        line.beside(UserWord(1, "last", 0.5))  # what the model's delay held back at the end
        line.beside(UserWord(1, "words", 0.6))
        line.beside(UserWord(9, "of another", 0.7))
        await asyncio.sleep(0)
        async with site.http.get(url) as answer:
            told = [json.loads(each)["text"] for each in (await answer.text()).splitlines()]
            assert told == ["first", "last", "words"]
        async with site.chat("?codec=pcm&record=1") as socket:
            recording = (await metadata(socket, "started"))["recording"]
            line.beside(UserWord(1, "secret", 0.4))  # of the one before, late
            line.beside(UserWord(2, "second", 0.08))
            line.beside(Notice("words-failed", "what you say isn't written down: /home/x ended"))
            assert (await metadata(socket, "your-word"))["text"] == "second"
            told = await metadata(socket, "notice")
            assert (
                told["message"]
                == "What you say is no longer written down; the talk itself goes on."
            )
        url = f"{site.url}/api/recordings/{recording}/you.jsonl"
        async with site.http.get(url) as answer:
            assert "secret" not in await answer.text()


async def free(site: Running) -> None:
    """Until the session has ended what was hung up."""
    async with asyncio.timeout(60):
        while site.server.line.busy() or site.session.status.state != "idle":
            await asyncio.sleep(0.01)


async def test_who_hangs_up_by_a_message_is_told_their_last_words() -> None:
    async with running(change=writing) as site:
        line: Line = site.server.line
        async with site.chat("?codec=pcm&record=1") as socket:
            recording = (await metadata(socket, "started"))["recording"]
            await socket.send_bytes(pcm_message(BLOCK))
            await socket.send_bytes(HANG_UP)
            await free(site)
            async with site.chat("?codec=pcm") as other:  # the line is free meanwhile
                await metadata(other, "started")
                line.beside(UserWord(1, "goodbye", 0.0))
                line.beside(UserWord(2, "mine", 0.0))
                line.beside(UserWordsOver(1))
                code, seen = await close_of(socket)
                assert (await metadata(other, "your-word"))["text"] == "mine"
            words = [json.loads(each[1:])["text"] for each in seen if b"your-word" in each]
            assert (code, words) == (1000, ["goodbye"])
        async with site.http.get(f"{site.url}/api/recordings/{recording}/you.jsonl") as answer:
            assert json.loads(await answer.text())["text"] == "goodbye"


async def test_last_words_that_never_come_are_waited_for_no_longer_than_a_second() -> None:
    async with running(change=writing) as site, site.chat("?codec=pcm") as socket:
        await metadata(socket, "started")
        await socket.send_bytes(HANG_UP)
        assert (await close_of(socket))[0] == 1000
    async with running() as site, site.chat("?codec=pcm") as socket:  # nobody writes any
        await metadata(socket, "started")
        await socket.send_bytes(HANG_UP)
        assert (await close_of(socket))[0] == 1000


async def test_clients_of_kyutais_kind_are_told_nothing_that_they_may_not_know() -> None:
    async with running() as site, site.chat() as socket:
        await receive(socket, Kind.HANDSHAKE)
        site.server.line.beside(UserWord(1, "mine", 0.0))
        await socket.send_bytes(b"\x63")
        await socket.send_str("complaint")
        message = await socket.receive()
        assert message.data[0] == Kind.ERROR  # nothing before it


def test_a_model_of_another_kind_is_one_line_and_one_that_can_not_begin_ends_no_server(
    tmp_path, capsys
) -> None:
    from app.cli import main

    tts = Path(__file__).parents[1] / "golden" / "dsm_tts"
    assert main(["web", "--model", "nano", "--no-open", "--your-words", str(tts)]) == 1
    said = capsys.readouterr().err
    assert "is no speech to text model" in said and said.count("\n") == 1
    folder = ticking_words(tmp_path / "stt")
    (folder / "model.safetensors").write_bytes(b"damaged")
    with moshi_web("--your-words", str(folder)) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=60) == 0


def test_the_model_writes_a_word_every_other_frame(tmp_path) -> None:
    import moshi_mlx

    stt = moshi_mlx.load_stt(ticking_words(tmp_path / "stt"), dtype="float32")
    words = stt.transcribe(np.zeros(40 * 1920, np.float32)).words
    assert len(words) > 15 and {word.text for word in words} == {WORD}
