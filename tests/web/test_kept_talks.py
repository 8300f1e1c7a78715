"""Talks saved by visitors: gone on from to the sample, by who knows the name and nobody else."""

import contextlib
import json
import shutil
import struct
import urllib.parse
from pathlib import Path
from typing import cast

import mlx.core as mx
import numpy as np
import pytest
import soundfile

from app.talk.kept_talk import AskedModel, kept_talk
from app.talk.moshi_engine import engine_maker
from app.talk.session import SaveRequest, TalkSession
from app.web.kept_talks import FAILED, MOST, NAME, KeptTalks
from app.web.limits import Bucket
from app.web.protocol import SAVE, Kind
from app.web.visit import Visit
from moshi_mlx.clock import FRAME_SAMPLES
from moshi_mlx.hub import NANO
from moshi_mlx.lm.state.state_file import FACTS, read_state
from tests.support.fakes.web_fakes import close_of, eventually, pcm_message, receive, running
from tests.support.models.loaded import nano

QUESTION = NANO / "samples" / "four_plus_three.wav"
SAVED_AFTER, FRAMES = 14, 40  # in the middle of the question; until after the answer's begin
GREEDY = "?codec=pcm&seed=0&text_temperature=0&audio_temperature=0"


def question() -> list[np.ndarray]:
    pcm, _ = soundfile.read(QUESTION, dtype="float32")
    padded = np.zeros(FRAMES * FRAME_SAMPLES, np.float32)
    padded[: min(len(pcm), len(padded))] = pcm[: len(padded)]
    return list(padded.reshape(FRAMES, FRAME_SAMPLES))


@contextlib.asynccontextmanager
async def site_of(folder: Path | None, told: list[str], offered=None):
    """A server with nano; what its terminal shows goes to `told`."""

    def change(server) -> None:
        asked = AskedModel("nano")
        server.talks = KeptTalks(server.line.session, folder, asked, offered, told.append)

    make = engine_maker(nano, "nano", "bf16")
    async with running(make_engine=make, change=change) as site:
        yield site


async def say(site, socket, frames: list[np.ndarray]) -> None:
    """One at a time, so that none is left out however late the model is."""
    for frame in frames:
        before = site.session.status.frames
        await socket.send_bytes(pcm_message(frame))
        await eventually(lambda before=before: site.session.status.frames != before)


async def heard(socket, last: int) -> dict[int, bytes]:
    """The replies' sound by frame number, to that of the last."""
    replies = {}
    while last not in replies:
        payload = await receive(socket, Kind.PCM)
        replies[struct.unpack_from("<I", payload)[0]] = payload[12:]
    return replies


async def metadata(socket, kind: str) -> dict:
    while True:
        told = json.loads(await receive(socket, Kind.METADATA))
        if told["type"] == kind:
            return told


async def save(site, socket) -> dict:
    await socket.send_bytes(bytes([Kind.METADATA]) + SAVE)
    return await metadata(socket, "saved")


@pytest.mark.timeout(300)
async def test_a_saved_talk_goes_on_to_the_sample_and_none_of_it_is_dropped(tmp_path) -> None:
    frames, told = question(), []
    async with site_of(tmp_path / "talks", told) as site:
        async with site.chat(GREEDY) as socket:
            first = await metadata(socket, "started")
            assert (first["saves"], first["resumed"]) == (True, False)
            await say(site, socket, frames[:SAVED_AFTER])
            file = await save(site, socket)
            await say(site, socket, frames[SAVED_AFTER:])
            whole = await heard(socket, FRAMES - 1)
        assert site.session.status.dropped_frames == 0.0
        after = [whole[n] for n in range(SAVED_AFTER, FRAMES)]
        assert file["seconds"] == round(SAVED_AFTER * 0.08) and NAME.fullmatch(file["name"])
        path = tmp_path / "talks" / file["name"]
        assert list(path.parent.iterdir()) == [path] and path.stat().st_mode & 0o777 == 0o600
        assert told == [f"saved: moshi web --resume {path}"]
        assert kept_talk(path).source == AskedModel("nano")
        async with site.http.get(f"{site.url}/api/talks/{file['name']}") as answer:
            assert await answer.json() == {"name": file["name"], "seconds": 1}
        async with site.chat(f"?codec=pcm&resume={file['name']}") as socket:
            again = await metadata(socket, "started")
            assert (again["resumed"], again["seed"]) == (True, 0)
            assert again["sampling"]["text_temperature"] == 0.0
            await say(site, socket, frames[SAVED_AFTER:])
            rest = await heard(socket, FRAMES - SAVED_AFTER - 1)
    assert [rest[n] for n in range(FRAMES - SAVED_AFTER)] == after and len(set(after)) > 10


async def refusal(site, name: str, more: str = "") -> str:
    """What is said to who asks for a talk of that name, over both ways."""
    query = urllib.parse.urlencode({"codec": "pcm", "resume": name})
    async with site.chat(f"?{query}{more}") as socket:
        code, seen = await close_of(socket)
    assert code == 4400
    return seen[-1][1:].decode()


@pytest.mark.timeout(300)
async def test_only_who_knows_a_talks_name_goes_on_with_it(tmp_path) -> None:
    folder, secret = tmp_path / "talks", "x" * 22
    async with site_of(folder, []) as site:
        async with site.chat(GREEDY) as socket:
            await metadata(socket, "started")
            name = (await save(site, socket))["name"]
        outside = tmp_path / name
        shutil.move(folder / name, outside)
        chats = folder / "2026-11-30_14-03-46_talk1.talk.safetensors"  # of `moshi chat`
        linked = f"2026-11-30_14-03-46_talk1_{secret}.talk.safetensors"
        shutil.copy(outside, chats)
        (folder / linked).symlink_to(outside)
        broken = f"2026-11-30_14-03-47_talk1_{secret}.talk.safetensors"
        (folder / broken).write_bytes(b"no talk")
        wrong = [chats.name, linked, broken, name, f"../{name}", str(outside), "x", "\0", "%2e%2e"]
        for one in wrong:
            assert "isn't here any more" in await refusal(site, one)
            url = f"{site.url}/api/talks/{urllib.parse.quote(one, safe='')}"
            async with site.http.get(url) as answer:
                assert answer.status == 404
        shutil.copy(outside, folder / name)
        for more in ("&seed=3", "&persona=a+pirate", "&audio_temperature=0.5"):
            option = more[1:].split("=")[0]
            assert f"leave {option} out" in await refusal(site, name, more)
        async with site.http.get(f"{site.url}/api/status") as answer:
            assert (await answer.json())["talks"] == []  # nobody is told what is there


@pytest.mark.timeout(300)
async def test_a_talk_of_another_model_is_refused_without_its_place(tmp_path) -> None:
    told: list[str] = []
    async with site_of(tmp_path / "talks", told) as site:
        async with site.chat(GREEDY) as socket:
            await metadata(socket, "started")
            name = (await save(site, socket))["name"]
        file = read_state(tmp_path / "talks" / name, "session")
        facts = {**file.facts, "model": "f" * 16}
        mx.save_safetensors(str(tmp_path / "x"), file.arrays, {FACTS: json.dumps(facts)})
        shutil.move(tmp_path / "x.safetensors", tmp_path / "talks" / name)
        said = await refusal(site, name)
    assert "another model" in said and name in said and str(tmp_path) not in said


@pytest.mark.timeout(300)
async def test_where_nothing_is_saved_the_offered_talk_still_goes_on(tmp_path) -> None:
    async with site_of(tmp_path / "talks", []) as site, site.chat(GREEDY) as socket:
        await metadata(socket, "started")
        name = (await save(site, socket))["name"]
    path = tmp_path / "talks" / name
    path = path.rename(tmp_path / "mine.talk.safetensors")
    async with site_of(None, [], kept_talk(path)) as site:
        async with site.http.get(f"{site.url}/api/status") as answer:
            assert (await answer.json())["talks"] == [{"name": path.name, "seconds": 0}]
        async with site.chat(f"?codec=pcm&resume={path.name}") as socket:
            told = await metadata(socket, "started")
            assert (told["saves"], told["resumed"]) == (False, True)
            await socket.send_bytes(bytes([Kind.METADATA]) + SAVE)
            await say(site, socket, question()[:2])
            await heard(socket, 1)
    assert [one.name for one in tmp_path.iterdir() if one != path] == ["talks"]
    assert list((tmp_path / "talks").iterdir()) == []


class Session:
    """Takes what is to be done with a talk, and does nothing with it."""

    def __init__(self) -> None:
        self.asked: list[SaveRequest] = []

    def keep(self, keep: SaveRequest) -> None:
        self.asked.append(keep)


class Visitor:
    def __init__(self) -> None:
        self.told: list[dict] = []

    def tell(self, message: bytes) -> None:
        self.told.append(json.loads(message[1:]))


async def test_one_talk_at_a_time_few_in_a_minute_and_not_many_in_all(tmp_path) -> None:
    session, visitor, told = Session(), Visitor(), []
    talks = KeptTalks(
        *(cast(TalkSession, session), tmp_path, AskedModel("nano")),
        tell=told.append,
        limit=Bucket(0.0, MOST + 3),
    )
    save = lambda: talks.save(cast(Visit, visitor))  # noqa: E731
    save()
    save()
    assert visitor.told == [{"type": "not-saved", "message": "A talk is being saved already."}]
    session.asked[0].refuse("the talk can't be saved: /home/somebody is closed")
    await eventually(lambda: len(visitor.told) == 2)
    assert visitor.told[-1] == {"type": "not-saved", "message": FAILED}
    assert told == ["the talk can't be saved: /home/somebody is closed"]
    save()  # the place is free again
    assert len(session.asked) == 2
    session.asked[1].refuse("")
    for _ in range(MOST + 1):
        save()
        session.asked[-1].refuse("")
    await eventually(lambda: "a moment ago" in visitor.told[-1]["message"])


async def test_a_visitor_fills_no_disk(tmp_path) -> None:
    class File:
        def write(self, path: Path, go_on) -> None:
            shutil.copy(real, path)

    with nano().session(seed=0) as session_:
        session_.snapshot().save(real := tmp_path / "real")
    session, visitor = Session(), Visitor()
    talks = KeptTalks(
        *(cast(TalkSession, session), tmp_path / "talks", AskedModel("nano")),
        tell=lambda line: None,
        limit=Bucket(0.0, MOST + 3),
    )
    for n in range(MOST + 1):
        talks.save(cast(Visit, visitor))
        if len(session.asked) > n:
            session.asked[n].take(File(), 1)
        await eventually(lambda n=n: len(visitor.told) == n + 1)
        talks.close(10.0)
    assert len(list((tmp_path / "talks").iterdir())) == MOST
    assert f"{MOST} talks are saved" in visitor.told[-1]["message"]
