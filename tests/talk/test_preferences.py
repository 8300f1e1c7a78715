"""Lasting preferences: keys are the options, mistakes are one line, the command line wins.

The last test runs `moshi chat` as its user does, with a file where it is looked for.
"""

import argparse
import os
from pathlib import Path

import pytest

from app import cli
from app.commands import chat
from app.options.preferences import default_path, read
from moshi_mlx.errors import ConfigError
from moshi_mlx.hub import NANO
from tests.support.processes.chat_process import ChatProcess, check_answer, takes_in

QUESTION = str(NANO / "samples" / "four_plus_three.wav")


@pytest.fixture(autouse=True)
def no_preferences_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))


def parsed(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    chat.configure(parser)
    return chat.parse(parser, argv)


def written(folder: Path, text: str | bytes) -> str:
    path = folder / "chat.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


EVERYTHING = """
# every kind of value, and both spellings of a key
voice = "moshika"
bits = 8
echo = "both"
no-greeting = true
plain = true
flac = true
input = "scarlett"
output = 3
record = "~/talks"
seed = 42
text_temperature = 0.5
audio_temperature = 1
audio-top-k = 100
offline = true
"""


def test_a_file_gives_every_option_a_lasting_value(tmp_path):
    args = parsed("--config", written(tmp_path, EVERYTHING))
    assert (args.voice, args.bits, args.echo) == ("moshika", 8, "both")
    assert args.no_greeting and args.plain and args.flac and args.offline
    assert (args.input, args.output) == ("scarlett", "3")
    assert args.record == Path.home() / "talks", "as a shell would read it"
    assert (args.seed, args.text_temperature, args.audio_temperature) == (42, 0.5, 1.0)
    assert args.audio_top_k == 100 and args.text_top_k is None


def test_the_command_line_wins_over_the_file(tmp_path):
    path = written(tmp_path, EVERYTHING)
    args = parsed("--config", path, "--echo", "auto", "--bits", "4", "--seed", "7")
    assert (args.echo, args.bits, args.seed) == ("auto", 4, 7), "also where it says the default"
    assert args.voice == "moshika" and args.no_greeting, "and the file where it says nothing"


@pytest.mark.parametrize(
    ("preferred", "given", "left"),
    [
        ('model = "nano"', ["--voice", "moshika"], (None, "moshika", None)),
        ('model = "nano"', ["--bits", "8"], (None, None, 8)),
        ('voice = "moshika"\nbits = 8', ["--model", "nano"], ("nano", None, None)),
        ('voice = "moshika"\nbits = 8', ["--bits", "4"], (None, "moshika", 4)),
    ],
)
def test_a_model_named_on_the_command_line_voids_what_the_file_prefers(
    tmp_path, preferred, given, left
):
    args = parsed("--config", written(tmp_path, preferred), *given)
    assert (args.model, args.voice, args.bits) == left


def test_a_persona_and_its_voice_are_preferences_of_their_model(tmp_path):
    text = 'model = "plex"\nvoice = "NATF2"\npersona = "A sailor."\nkeep_prompt = true'
    path = written(tmp_path, text)
    args = parsed("--config", path)
    assert (args.model, args.voice, args.persona, args.keep_prompt) == (
        *("plex", "NATF2", "A sailor."),
        True,
    )
    args = parsed("--config", path, "--voice", "NATM1")  # of the same model
    assert (args.model, args.voice, args.persona) == ("plex", "NATM1", "A sailor.")
    for given, model, voice in (
        (["--voice", "moshika"], None, "moshika"),
        (["--bits", "8"], None, None),
        (["--model", "nano"], "nano", None),
    ):
        args = parsed("--config", path, *given)
        assert (args.model, args.voice, args.persona, args.keep_prompt) == (
            *(model, voice, None),
            False,
        )


def test_what_belongs_to_the_preferred_model_goes_with_it(tmp_path):
    path = written(tmp_path, 'model = "./mine"\nlora = "pirate"\nmimi = "m"\nseed = 3')
    assert parsed("--config", path).lora == ["pirate"]
    assert parsed("--config", path, "--seed", "4").lora == ["pirate"]
    assert parsed("--config", path, "--lora", "monk").mimi == "m"
    for given in (["--model", "nano"], ["--voice", "moshika"], ["--bits", "8"]):
        args = parsed("--config", path, *given)
        assert (args.lora, args.mimi, args.seed) == (None, None, 3)


def test_the_usual_place_is_read_without_being_asked_for(tmp_path, monkeypatch):
    assert parsed().echo == "auto", "no file, no preferences"
    written(tmp_path / "xdg" / "moshi", 'echo = "off"')
    assert parsed().echo == "off"
    other = written(tmp_path / "other", "seed = 1")
    assert parsed("--config", other).echo == "auto", "one file, not both"
    assert parsed("--config", os.devnull).echo == "auto", "and so none, for once"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_path() == tmp_path / "home" / ".config" / "moshi" / "chat.toml"


WRONG = [
    ("voise = 'moshika'", "unknown key voise; did you mean voice?"),
    ("no_greetings = true", "unknown key no_greetings; did you mean no_greeting?"),
    ("xyzzy = 1", "unknown key xyzzy; known: adapter, audio_temperature, "),
    ("config = 'other.toml'", "unknown key config"),
    ("virtual_input = 'a.wav'", "unknown key virtual_input"),
    ("help = true", "unknown key help"),
    ("bits = 5", "bits must be one of 4, 8, 16, not 5"),
    ("bits = 'eight'", "bits must be a valid int, not 'eight'"),
    ("bits = 4.5", "bits must be a valid int, not 4.5"),
    ("bits = true", "bits takes one value, not True"),
    ("voice = ['moshika']", "voice takes one value, not ['moshika']"),
    ("[voice]\nname = 1", "voice takes one value, not {'name': 1}"),
    ("voice = 'moshi'", "voice must be one of moshiko, moshika, not 'moshi'"),
    ("plain = 'yes'", "plain must be true or false, not 'yes'"),
    ("no_greeting = 1", "no_greeting must be true or false, not 1"),
    (
        "text_temperature = 'hot'",
        "text_temperature must be a valid number from 0 to 1000, not 'hot'",
    ),
    ("seed = 1979-05-27", "seed must be a valid whole number from 0"),
    ("voice = moshika", "is not TOML: "),
    ("a = 1\na = 2", "is not TOML: "),
    (b"voice = '\xff'", "is not TOML: "),
    (b"\x89PNG\r\n\x1a\n\x00", "is not TOML: "),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[str(text)[:24] for text, _ in WRONG])
def test_what_a_file_cannot_say_is_one_line_with_its_name(tmp_path, capsys, text, message):
    path = written(tmp_path, text)
    assert cli.main(["chat", "--virtual-input", QUESTION, "--config", path]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}") and message in line


def test_a_file_that_is_not_there_or_may_not_be_read_is_one_line(tmp_path, monkeypatch, capsys):
    missing = tmp_path / "none.toml"
    for path, why in ((missing, "No such file"), (tmp_path, "Is a directory")):
        assert cli.main(["chat", "--config", str(path)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {path} can't be read ({why}") and "--config" in line

    def denied(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    path = written(tmp_path, "seed = 1")
    monkeypatch.setattr(Path, "read_text", denied)  # root may read anything
    with pytest.raises(ConfigError, match=r"can't be read \(Permission denied\)"):
        parsed("--config", path)


def test_a_talk_is_held_as_the_file_prefers(tmp_path):
    """Beside what is heard the file alone says model, seed, greed and recording."""
    home = tmp_path / "xdg"
    written(
        home / "moshi",
        'model = "nano"\nplain = true\necho = "off"\nno_greeting = true\nseed = 5\n'
        f'record = "{tmp_path / "talks"}"\ntext_temperature = 0\naudio_temperature = 0\n',
    )
    env = os.environ | {"XDG_CONFIG_HOME": str(home)}
    code = "import sys; from app.cli import main; sys.exit(main(['chat', *sys.argv[-4:]]))"
    heard = ("--virtual-input", QUESTION, "--tail", "2")
    with ChatProcess(tmp_path, *heard, env=env, start=("-c", code)) as chat:
        assert chat.end() == 0, chat.notes
    check_answer(tmp_path / "talks", chat.said, "Four plus three is seven.")
    assert "nano (" in chat.notes and "seed 5" in chat.notes
    (take,) = takes_in(tmp_path / "talks")
    assert f"recorded: {take}" in chat.notes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a=" + "[" * 40_000, "is nested too deeply"),
        ("a=" + "{b=" * 20_000, "is nested too deeply"),
        ("seed = " + "9" * 5000, "is not TOML"),
        ("seed = 1" + "\0", "is not TOML"),
    ],
    ids=["list", "table", "digits", "nul"],
)
def test_a_file_that_is_hardly_toml_is_one_line(tmp_path, capsys, text, said):
    (tmp_path / "chat.toml").write_text(text)
    assert cli.main(["chat", "--config", str(tmp_path / "chat.toml")]) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and len(error) < 1000


def test_a_byte_order_mark_is_no_key(tmp_path):
    (tmp_path / "chat.toml").write_bytes(b"\xef\xbb\xbfmodel = 'nano'\n")
    assert read(tmp_path / "chat.toml") == {"model": "nano"}
