"""`moshi chat --resume`: the talk goes on in another process; what contradicts it is one line."""

import json
import os
import pty
import shutil
import time
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import soundfile

import moshi_mlx
from app.audio.file_sound import FileSound
from app.cli import main
from app.events import FrameDone, Settings
from app.talk.chat import Chat, ChatOptions
from app.talk.kept_talk import SAMPLING, AskedModel, kept_talk, note_of
from app.talk.moshi_engine import engine_maker
from moshi_mlx.clock import FRAME_SAMPLES
from moshi_mlx.hub import NANO
from moshi_mlx.lm.state.state_file import FACTS, read_state
from tests.support.models.loaded import nano
from tests.support.models.talking_folder import PERSONA, talking_folder
from tests.support.processes.chat_process import ChatProcess, check_take, takes_in

QUESTION = NANO / "samples" / "four_plus_three.wav"
PLAIN = ("chat", "--plain")
SAVED_AFTER = 14  # frames: in the middle of the question
GREEDY = Settings(seed=0, text_temperature=0.0, audio_temperature=0.0)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Path, Path]:
    """A talk's recording, and the file that was saved in its middle."""
    folder = tmp_path_factory.mktemp("talks")
    options = ChatOptions(GREEDY, "off", folder, source=AskedModel("nano"))
    chat = Chat(engine_maker(nano, "nano", "bf16"), FileSound(QUESTION, None, 2.0), options)

    def listen(event) -> None:
        if isinstance(event, FrameDone) and event.index == SAVED_AFTER - 1:
            chat.keep()

    chat.subscribe(listen)
    chat.start()
    while not chat.over:
        time.sleep(0.02)
    assert chat.close(60.0) and chat.failure is None
    (path,) = chat.kept
    (take,) = chat.takes
    return take, path


def test_it_goes_on_in_another_process_as_if_never_interrupted(saved, tmp_path) -> None:
    take, path = saved
    pcm, rate = soundfile.read(QUESTION, dtype="int16")
    rest = tmp_path / "rest.wav"
    soundfile.write(rest, pcm[SAVED_AFTER * FRAME_SAMPLES :], rate)
    heard = ("--virtual-input", str(rest), "--tail", "2", "--echo", "off")
    command = ("--resume", str(path), *heard, "--record", str(tmp_path / "again"))
    with ChatProcess(tmp_path, *command, chat=PLAIN) as process:
        assert process.end() == 0, process.notes
    assert "resuming a talk with nano, 0:01 long so far" in process.notes
    (again,) = takes_in(tmp_path / "again")
    first, second = check_take(take), check_take(again)
    assert second["resumed_from"] == path.name and first["resumed_from"] is None
    assert second["seed"] == 0 and second["settings"]["text_temperature"] == 0.0
    want = first["sound"][SAVED_AFTER * FRAME_SAMPLES :]
    assert np.abs(want[:, 1]).max() > 0.1, "it spoke after it was saved"
    np.testing.assert_array_equal(second["sound"], want[: len(second["sound"])])
    assert abs(len(want) - len(second["sound"])) <= FRAME_SAMPLES
    words = [json.loads(line)["text"] for line in (take / "transcript.jsonl").open()]
    assert "".join(words).endswith(process.said.strip())
    assert process.said.strip() == "Four plus three is seven."


def test_s_and_return_save_a_plain_talk(tmp_path) -> None:
    keys, terminal = pty.openpty()
    heard = ("--virtual-input", str(QUESTION), "--tail", "60", "--record", str(tmp_path / "talks"))
    try:
        with ChatProcess(tmp_path, *heard, stdin=terminal) as process:
            process.wait_for("s save")
            process.wait_for("conversation 1")
            os.write(keys, b"s\n")
            process.wait_for("saved: moshi chat --resume")
            os.write(keys, b"q\n")
            assert process.end() == 0
    finally:
        os.close(keys)
        os.close(terminal)
    (path,) = (tmp_path / "talks").glob("*.talk.safetensors")
    assert process.notes.count(f"saved: moshi chat --resume {path}") == 2  # and at the end
    assert kept_talk(path).source == AskedModel("nano")


def test_the_file_says_how_the_talk_was_held(saved) -> None:
    _, path = saved
    kept = kept_talk(path)
    assert path.stat().st_mode & 0o777 == 0o600 and path.name.endswith("talk1.talk.safetensors")
    assert (kept.source, kept.codec, kept.dtype) == (AskedModel("nano"), "mlx", "float32")
    assert (kept.kv_bits, kept.frames) == (16, SAVED_AFTER)
    assert replace(kept.settings, resume=None).sampling() == {
        **{name: getattr(nano().config.sampling, name) for name in SAMPLING},
        **GREEDY.sampling(),
    }


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--seed", "3"], "--seed 3 contradicts {path}: the talk has 0; leave --seed out"),
        (["--audio-temperature", "0.5"], "the talk has 0.0; leave --audio-temperature out"),
        (["--audio-top-k", "3"], "leave --audio-top-k out"),
        (["--persona", "a pirate"], "who Moshi is was told before the talk began"),
        (["--keep-prompt"], "--keep-prompt contradicts"),
        (["--codec", "rust"], "--codec rust contradicts {path}: the talk was held with mlx"),
        (["--kv-bits", "8"], "--kv-bits 8 contradicts"),
        (["--model", "kyutai/moshiko-mlx-q4"], "the talk was held with nano; leave --model out"),
        (["--bits", "8"], "the talk was held with nano"),
        (["--voice", "moshika"], "the talk was held with nano"),
        (["--voice", "NATF2"], "--voice NATF2 contradicts"),
        (["--lora", "somebody/pirate"], "the talk was held without; leave --lora out"),
        (["--revision", "main"], "leave --revision out"),
    ],
)
def test_options_that_contradict_the_file_are_told(saved, options, told, capsys) -> None:
    _, path = saved
    assert main(["chat", "--plain", "--resume", str(path), *options]) == 2
    error = capsys.readouterr().err
    assert told.format(path=path) in error and error.count("\n") == 1


def test_preferences_are_void_where_the_talk_brings_its_own(saved, tmp_path, capsys) -> None:
    _, path = saved
    (tmp_path / "chat.toml").write_text('voice = "moshika"\nbits = 8\nkv_bits = 8\nseed = 4\n')
    command = ["--config", str(tmp_path / "chat.toml"), "--resume", str(path), "--tail", "1"]
    assert main(["chat", *command]) == 2
    assert "--tail is the silence after --virtual-input" in capsys.readouterr().err


def rewritten(path: Path, target: Path, **facts) -> Path:
    file = read_state(path, "session")
    mx.save_safetensors(str(target), file.arrays, {FACTS: json.dumps({**file.facts, **facts})})
    Path(f"{target}.safetensors").rename(target)
    return target


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"version": 0}, "was written by another version of this program"),
        ({"note": json.dumps({"model": 3})}, "what it says of itself is damaged"),
        ({"note": "{"}, "what it says of itself is damaged"),
        ({"note": json.dumps({"lora": "x"})}, "what it says of itself is damaged"),
        ({"note": json.dumps({"adapter": "pirate"})}, "what it says of itself is damaged"),
        ({"codec": "ogg"}, "what it says of itself is damaged"),
        ({"sampling": {"text_temperature": "hot"}}, "what it says of itself is damaged"),
        ({"step": -1}, "what it says of itself is damaged"),
        ({"note": ""}, "it doesn't say of which model; say where with --model"),
        ({"note": note_of(AskedModel("/gone/plex"), GREEDY)}, "/gone/plex isn't there any more"),
    ],
)
def test_a_file_that_can_not_be_meant_so_is_one_line(saved, tmp_path, facts, told, capsys) -> None:
    file = rewritten(saved[1], tmp_path / "x", **facts)
    assert main(["chat", "--plain", "--resume", str(file)]) == 1
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_another_model_adapter_or_codec_of_the_same_name_is_one_line(
    saved, tmp_path, capsys
) -> None:
    folder = talking_folder(tmp_path / "plex", PERSONA / "lora_q", "model.q4.safetensors")
    other = rewritten(saved[1], tmp_path / "x", note=note_of(AskedModel(str(folder)), GREEDY))
    adapter = rewritten(saved[1], tmp_path / "y", adapter="pirate")
    codec = rewritten(saved[1], tmp_path / "z", codec="rust")
    for file, told in (
        (other, "was made with another model, or another adapter"),
        (adapter, "no adapter pirate beside this model"),
        (codec, "rust"),
    ):
        command = ("--resume", str(file), "--virtual-input", str(QUESTION))
        assert main([*PLAIN, *command]) == 1
        notes = capsys.readouterr().err
        (error,) = [line for line in notes.splitlines() if line.startswith("error: ")]
        assert told in error and "Traceback" not in notes


def test_a_model_that_has_moved_is_named_by_option(tmp_path, capsys) -> None:
    folder = talking_folder(tmp_path / "plex", PERSONA / "lora_q", "model.q4.safetensors")
    shutil.copytree(folder, tmp_path / "elsewhere")
    with moshi_mlx.load(folder).session(seed=0) as session:
        session.snapshot().save(tmp_path / "x", note_of(AskedModel(str(folder)), Settings()))
    shutil.rmtree(folder)
    assert main(["chat", "--plain", "--resume", str(tmp_path / "x")]) == 1
    assert f"{folder} isn't there any more; say where with --model" in capsys.readouterr().err
    heard = ("--virtual-input", str(QUESTION), "--tail", "0")
    moved = ("--model", str(tmp_path / "elsewhere"))
    with ChatProcess(tmp_path, "--resume", str(tmp_path / "x"), *heard, *moved, chat=PLAIN) as one:
        assert one.end() == 0, one.notes
