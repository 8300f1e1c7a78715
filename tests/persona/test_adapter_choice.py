"""Several adapters beside one model: --lora NAME=FILE, --adapter NAME, in a talk and for a file."""

import argparse
import json
import shutil

import numpy as np
import pytest
import soundfile

import moshi_mlx
from app.cli import main
from app.commands import chat
from app.options.adapters import GivenAdapters, adapters_from
from app.talk.kept_talk import kept_talk
from app.web.protocol import Kind
from benchmarks.random_adapter import random_adapter
from moshi_mlx.config import load_config
from moshi_mlx.errors import MoshiError
from tests.support.fakes.web_fakes import FakeEngine, close_of, receive, running
from tests.support.models.talking_folder import PERSONA, talking_folder
from tests.support.processes.chat_process import ChatProcess, takes_in

LORA_Q = PERSONA / "lora_q"
GREEDY = ("--text-temperature", "0", "--audio-temperature", "0", "--seed", "0")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, `base`, two adapters for it, and a question."""
    folder = tmp_path_factory.mktemp("adapters")
    base = talking_folder(folder / "base", LORA_Q, "model.q4.safetensors")
    shutil.copyfile(LORA_Q / "lora.safetensors", folder / "pirate.safetensors")
    random_adapter(load_config(base), 4, folder / "monk.safetensors", scale=3.0)
    noise = np.random.default_rng(0).normal(0, 0.1, 12_000).astype(np.float32)
    soundfile.write(folder / "question.wav", noise, 24_000)
    return folder


def both(place) -> list[str]:
    lora = [f"{name}={place / name}.safetensors" for name in ("pirate", "monk")]
    return ["--lora", lora[0], "--lora", lora[1]]


def parsed(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    chat.configure(parser)
    return chat.parse(parser, argv)


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        ([], GivenAdapters()),
        (["--lora", "x"], GivenAdapters("x")),
        (["--lora", "some/where=x"], GivenAdapters("some/where=x")),  # a file of such a name
        (["--lora", "a=x"], GivenAdapters(None, {"a": "x"}, "a")),
        (["--lora", "a=x", "--lora", "b=y"], GivenAdapters(None, {"a": "x", "b": "y"}, "a")),
        (
            ["--lora", "a=x", "--lora", "b=y=z", "--adapter", "b"],
            GivenAdapters(None, {"a": "x", "b": "y=z"}, "b"),
        ),
    ],
)
def test_the_first_is_taken_unless_another_is_chosen(argv, found):
    assert adapters_from(parsed(*argv)) == found


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--lora", "x", "--lora", "y"], "give each a name, --lora NAME=x"),
        (["--lora", "a=x", "--lora", "y"], "give each a name, --lora NAME=y"),
        (["--lora", "a=x", "--lora", "a=y"], "is given twice"),
        (["--adapter", "a"], "name them with --lora NAME=FILE"),
        (["--lora", "x", "--adapter", "a"], "name them with --lora NAME=FILE"),
        (["--lora", "pirate=x", "--adapter", "pirat"], "there are pirate"),
    ],
)
def test_what_can_not_be_meant_is_a_mistake_of_use(argv, told, capsys):
    assert main(["chat", "--model", "nano", *argv]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_preferences_name_several_too(tmp_path):
    path = tmp_path / "chat.toml"
    path.write_text('model = "nano"\nlora = ["a=x", "b=y"]\nadapter = "b"\n')
    assert adapters_from(parsed("--config", str(path))).chosen == "b"
    assert adapters_from(parsed("--config", str(path), "--adapter", "a")).chosen == "a"
    path.write_text('model = "nano"\nlora = "x"\n')
    assert adapters_from(parsed("--config", str(path))).lora == "x"
    assert adapters_from(parsed("--config", str(path), "--lora", "y")).lora == "y"
    path.write_text("lora = [3]\n")
    with pytest.raises(MoshiError, match="lora takes a text or several, not"):
        parsed("--config", str(path))


async def test_a_visitor_chooses_among_those_that_are_there():
    engine = FakeEngine(adapters=("pirate", "monk"))
    async with running(engine) as site:
        async with site.http.get(f"{site.url}/api/status") as answer:
            assert (await answer.json())["adapters"] == ["pirate", "monk"]
        async with site.chat("?codec=pcm&adapter=monk") as socket:
            await receive(socket, Kind.HANDSHAKE)
            started = json.loads(await receive(socket, Kind.METADATA))
            assert (started["type"], started["adapter"]) == ("started", "monk")
        assert engine.settings[-1].adapter == "monk"
        for name in ("../pirate", "sailor"):
            async with site.chat(f"?codec=pcm&adapter={name}") as socket:
                code, said = await close_of(socket)
                assert code == 4400 and b"the server has no adapter" in b"".join(said)


def test_a_file_is_answered_with_the_one_that_is_chosen(place, tmp_path):
    heard, _ = soundfile.read(place / "question.wav", dtype="float32")
    named = {name: place / f"{name}.safetensors" for name in ("pirate", "monk")}
    moshi = moshi_mlx.load(place / "base", adapters=named)
    ways = {"seed": 0, "text_temperature": 0.0, "audio_temperature": 0.0, "mark": None}
    for options, name in (([], "pirate"), (["--adapter", "monk"], "monk")):
        out = tmp_path / f"{name}.wav"
        command = ["file", str(place / "question.wav"), str(out), "--model", str(place / "base")]
        assert main([*command, *both(place), *options, "--tail", "0", *GREEDY, "--no-mark"]) == 0
        found, _ = soundfile.read(out, dtype="float32")
        for other in ("pirate", "monk"):
            wanted = moshi.answer(heard, 0.0, adapter=other, **ways).pcm
            close = np.abs(found - np.clip(wanted, -1, 1)).max() < 1e-3
            assert bool(close) is (other == name)


def test_a_talk_names_it_on_the_screen_in_its_recording_and_when_it_is_resumed(place, tmp_path):
    heard = ("--virtual-input", str(place / "question.wav"), "--tail", "0", "--echo", "off")
    model = ("--model", str(place / "base"), *both(place), "--adapter", "monk")
    saved = tmp_path / "talk"
    with ChatProcess(tmp_path, *model, *heard, "--record", str(tmp_path / "a"), *GREEDY) as one:
        assert one.end() == 0, one.notes
    (take,) = takes_in(tmp_path / "a")
    assert json.loads((take / "manifest.json").read_text())["adapter"] == "monk"
    named = {name: place / f"{name}.safetensors" for name in ("pirate", "monk")}
    moshi = moshi_mlx.load(place / "base", adapters=named)
    note = {"model": str(place / "base"), "lora": both(place)[1::2], "adapter": "monk"}
    with moshi.session(seed=0, adapter="monk") as session:
        session.snapshot().save(saved, json.dumps(note))
    assert kept_talk(saved).settings.adapter == "monk"
    again = ("--resume", str(saved), *heard, "--record", str(tmp_path / "b"))
    with ChatProcess(tmp_path, *again, chat=("chat", "--plain")) as one:
        assert one.end() == 0, one.notes
    (take,) = takes_in(tmp_path / "b")
    assert json.loads((take / "manifest.json").read_text())["adapter"] == "monk"
    assert main(["chat", "--resume", str(saved), "--adapter", "pirate"]) == 2
