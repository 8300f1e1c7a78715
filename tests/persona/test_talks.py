"""A persona in the commands: told, kept, forgotten aloud, and refused where there can be none."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

import moshi_mlx
from app.cli import main
from app.events import ConversationStarted, Notice, Settings
from app.options.persona import text_of
from app.screen.transcript import TalkTranscript
from app.talk.moshi_engine import MoshiEngine
from app.talk.personas import CONSENT, USUAL, Personas
from app.talk.session import FADES
from moshi_mlx.audio.file import read_mono
from moshi_mlx.errors import MoshiError
from moshi_mlx.lm.state.prompt_cache import PromptCache
from tests.support.fakes.fake_engine import FakeEngine
from tests.support.models.speaking_persona import speaking_persona
from tests.support.models.talking_folder import PERSONA
from tests.support.talks.talking import Talking, wait_for

RATE = 24_000
GREEDY = ["--text-temperature", "0", "--audio-temperature", "0", "--seed", "0"]
SAILOR = "You are a sailor."
CONTEXT = 130  # frames: twice the longest persona here, and no more


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return speaking_persona(tmp_path_factory.mktemp("plex") / "plex", CONTEXT)


@pytest.fixture(scope="module")
def moshi(folder):
    return moshi_mlx.load(folder, dtype="float32")


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def question(tmp_path):
    path = tmp_path / "question.wav"
    noise = np.random.default_rng(0).normal(0, 0.1, RATE // 2).astype(np.float32)
    soundfile.write(path, noise, RATE)
    return path


@pytest.fixture
def spoken(tmp_path):
    path = tmp_path / "my.wav"
    soundfile.write(path, read_mono(PERSONA.parent / "voice_rms.flac")[: 2 * RATE], RATE)
    return path


def answered(folder, question, tmp_path, *options):
    out = tmp_path / "out.wav"
    words = ["file", question, out, "--model", folder, "--tail", "0", "--force", "--no-mark"]
    assert main([*map(str, words), *GREEDY, *map(str, options)]) == 0
    return soundfile.read(out, dtype="float32")[0]


def test_a_file_is_answered_as_the_persona_it_was_told(folder, moshi, question, tmp_path, capsys):
    heard = read_mono(question)
    greedy = {"seed": 0, "text_temperature": 0.0, "audio_temperature": 0.0, "mark": None}
    found = []
    for options, prompt in (
        (("--persona", SAILOR, "--voice", "wide"), moshi.prompt(SAILOR, "WIDE")),
        (("--persona", "", "--voice", "FAR"), moshi.prompt("", "FAR")),
        ((), moshi.prompt(USUAL)),
    ):
        said = answered(folder, question, tmp_path, *options)
        wanted = moshi.answer(heard, 0.0, prompt=prompt, **greedy).pcm
        assert np.abs(said - np.clip(wanted, -1, 1)).max() < 1e-3
        found.append(said.tobytes())
        told = capsys.readouterr().err
        assert "persona: " in told and CONSENT not in told
    assert len(set(found)) == 3


def test_a_persona_and_a_voice_may_be_files(folder, question, spoken, tmp_path, capsys):
    role = tmp_path / "role.txt"
    role.write_text(f"\ufeff{SAILOR}\n", encoding="utf-8")
    by_file = answered(folder, question, tmp_path, "--persona", role, "--voice", spoken)
    told = capsys.readouterr().err
    assert CONSENT in told and f"persona: {SAILOR}, voice my (" in told
    by_text = answered(folder, question, tmp_path, "--persona", SAILOR, "--voice", spoken)
    assert np.array_equal(by_file, by_text)
    assert text_of("no such file, a text") == "no such file, a text" and text_of("") == ""
    with pytest.raises(MoshiError, match="is a folder: give a file with the role"):
        text_of(str(tmp_path))
    assert text_of("x" * 10_000) == "x" * 10_000 and text_of("a\0b") == "a\0b"


@pytest.mark.parametrize(
    ("options", "status", "line"),
    [
        (["--voice", "NATF9"], 1, "has no voice NATF9; there are FAR, WIDE"),
        (["--voice", "./none.wav"], 1, "no voice at none.wav"),
        (["--persona", "word " * 300], 1, "steps that the model remembers: shorten"),
        (["--persona", "x" * 9000], 1, "a persona of 9000 characters: 8000 at the most"),
        (["--voice", "moshika"], 2, "already says which: leave --voice out"),
        (["--bits", "8", "--voice", "WIDE"], 2, "already says which: leave --bits out"),
    ],
)
def test_what_cannot_be_is_one_line(folder, question, tmp_path, capsys, options, status, line):
    out = tmp_path / "out.wav"
    words = ["file", str(question), str(out), "--model", str(folder), *options]
    assert main(words) == status
    error = capsys.readouterr().err
    assert line in error and error.startswith("error: ") and error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "status", "line"),
    [
        (["--model", "nano", "--persona", SAILOR], 1, "takes no persona"),
        (["--model", "nano", "--voice", "WIDE"], 1, "takes no persona"),
        (["--model", "nano", "--keep-prompt"], 1, "--keep-prompt keeps a persona's prompt"),
        (["--voice", "WIDE"], 2, "for another give the --model that has it"),
        (["--model", "nano", "--persona", "{bytes}"], 1, "is no UTF-8 text"),
        (["--model", "nano", "--persona", "{large}"], 1, "larger than 100 kB"),
    ],
)
def test_other_models_take_none(question, tmp_path, capsys, options, status, line):
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xfa")
    (tmp_path / "large").write_bytes(b"x" * 200_000)
    names = {name: tmp_path / name for name in ("bytes", "large")}
    words = [word.format(**names) for word in options]
    assert main(["file", str(question), str(tmp_path / "out.wav"), *words]) == status
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1


def test_a_chat_says_who_it_is_and_records_it(folder, question, spoken, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "chat", "--plain", "--model", folder, *GREEDY]
        + ["--virtual-input", question, "--tail", "0", "--record", tmp_path / "talks"]
        + ["--persona", SAILOR, "--voice", spoken],
        **{"capture_output": True, "text": True, "timeout": 120},
    )
    assert done.returncode == 0, done.stderr
    assert f"persona: {SAILOR}, voice my" in done.stderr and done.stderr.count(CONSENT) == 1
    (take,) = (tmp_path / "talks").iterdir()
    settings = json.loads((take / "manifest.json").read_text())["settings"]
    assert settings["persona"] == SAILOR and settings["voice"] == "my.wav"


def test_prompts_are_made_once_and_consent_is_told_once(moshi, spoken):
    personas = Personas(moshi)
    first = personas.of(Settings(persona=SAILOR, voice=str(spoken)))
    again = personas.of(Settings(persona=SAILOR, voice=str(spoken)))
    assert first is not None and again is not None
    assert first.prompt is again.prompt
    assert first.notes[1:] == (CONSENT,) and again.notes[1:] == ()
    for number in range(6):
        personas.of(Settings(persona=f"You are number {number}."))
    assert len(personas._made) <= 4
    anew = personas.of(Settings(persona=SAILOR, voice=str(spoken)))
    assert anew is not None and anew.prompt is not first.prompt  # from the disk


def test_an_engine_knows_how_long_a_persona_is_remembered(moshi):
    engine = MoshiEngine(moshi, "plex", "fp32")
    assert engine.personas and engine.voices == ("FAR", "WIDE")
    talk = engine.begin(Settings(persona=SAILOR))
    frames = moshi.prompt(SAILOR).frames
    assert talk.prompt_until == CONTEXT - frames and talk.notes
    assert engine.begin(Settings(persona=SAILOR, keep_prompt=True)).prompt_until is None
    nano = MoshiEngine(moshi_mlx.load("nano"), "nano", "bf16")
    plain = nano.begin(Settings())
    assert (nano.personas, plain.notes, plain.prompt_until) == (False, (), None)
    with pytest.raises(MoshiError, match="takes no persona"):
        nano.begin(Settings(persona=SAILOR))


@pytest.mark.parametrize("keep_prompt", [False, True])
def test_a_resumed_talk_remembers_its_persona_for_the_rest_of_the_time(
    moshi, tmp_path, keep_prompt
):
    engine, path = MoshiEngine(moshi, "plex", "fp32"), tmp_path / "talk"
    silence = np.zeros(1920, np.float32)

    def resumed_after(frames: int) -> int | None:
        talk = engine.begin(Settings(persona=SAILOR, keep_prompt=keep_prompt))
        for _ in range(frames):
            talk.step(silence)
        talk.keep("").write(path, lambda: True)
        talk.close()
        return engine.begin(Settings(resume=path)).prompt_until

    left = CONTEXT - moshi.prompt(SAILOR).frames
    assert resumed_after(3) == (None if keep_prompt else left - 3)
    assert resumed_after(left + 2) is None  # it has been told


def test_what_fades_is_an_alarm_on_the_screen():
    lines = []
    transcript = TalkTranscript(lambda line, new: lines.append(line))
    transcript.show(Notice("persona-fades", FADES))
    assert [(line.kind, line.text) for line in lines] == [("alarm", FADES)]


class FadingEngine(FakeEngine):
    """Its conversations forget their prompt at the fourth frame."""

    notes = ("persona: a sailor",)
    prompt_until = 3


def test_the_screen_is_told_when_a_persona_is_about_to_fade():
    talk = Talking(FadingEngine())
    try:
        talk.session.begin(talk.port, Settings())
        wait_for(lambda: talk.of(ConversationStarted))
        for count in range(1, 7):
            talk.port.push_input(np.zeros(1920, np.float32))
            wait_for(lambda count=count: len(talk.replies) == count)
    finally:
        talk.session.stop()
    told = [(event.kind, event.message) for event in talk.of(Notice)]
    assert told[0] == ("persona", "persona: a sailor")
    assert [kind for kind, _ in told].count("persona-fades") == 1
    kinds = [getattr(e, "kind", getattr(e, "index", None)) for e in talk.events]
    assert kinds.index("persona-fades") > kinds.index(3)
    assert "--keep-prompt" in told[1][1]


def test_kept_prompts_are_listed_and_cleared(moshi, capsys):
    moshi.prompt(SAILOR, "WIDE", cache=PromptCache())
    moshi.prompt("You are a monk.", cache=PromptCache())
    (PromptCache().folder / "0.prompt.safetensors").write_bytes(b"damaged")
    assert main(["prompts", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["title"] for row in rows} == {
        f"WIDE: {SAILOR}",
        "You are a monk.",
        "(damaged)",
    }
    assert main(["prompts"]) == 0
    told = capsys.readouterr().out
    assert "WIDE: You are a sailor." in told and "3 prompts" in told
    assert main(["prompts", "clear"]) == 0
    assert "3 removed" in capsys.readouterr().out
    assert main(["prompts"]) == 0 and "0 prompts" in capsys.readouterr().out
    assert main(["prompts", "list", "--json"]) == 0 and capsys.readouterr().out == "[]\n"
