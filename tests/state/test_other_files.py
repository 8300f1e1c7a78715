"""What is given to `--resume` and is no saved talk: one line, what it is and what to do."""

import shutil
from pathlib import Path

import mlx.core as mx
import pytest

from app.cli import main
from moshi_mlx.hub import NANO
from tests.support.models.loaded import nano
from tests.support.models.talking_folder import PERSONA

COMMANDS = {"chat": ["--plain"], "web": ["--no-open", "--port", "0"]}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A talk, and all that may be taken for one."""
    folder = tmp_path_factory.mktemp("files")
    moshi = nano()
    with moshi.session(seed=0) as session:
        session.snapshot().save(folder / "talk")
    moshi.lm.generator(seed=0).snapshot().save(folder / "state")
    moshi.lm.prompt(mx.zeros((4, 1 + moshi.config.n_q), mx.int32)).save(folder / "prompt")
    whole = (folder / "talk").read_bytes()
    (folder / "cut").write_bytes(whole[: len(whole) // 2])
    (folder / "beginning").write_bytes(whole[:20])
    (folder / "empty").touch()
    (folder / "text").write_text("what was said, perhaps")
    (folder / "archive").write_bytes(b"PK\x03\x04" + bytes(100))
    mx.save_safetensors(str(folder / "voice"), {"speaker_wavs": mx.zeros((1, 512, 125))})
    (folder / "voice.safetensors").rename(folder / "voice")
    shutil.copy(PERSONA / "lora" / "lora.safetensors", folder / "adapter")
    shutil.copy(NANO / "model.safetensors", folder / "weights")
    shutil.copy(NANO / "samples" / "four_plus_three.wav", folder / "sound")
    return folder


KINDS = {
    "prompt": "is a prompt, heard before a talk, not a saved talk; --persona makes and keeps them",
    "state": "is a state of the language model alone, without its sound, not a saved talk; give a",
    "adapter": "is an adapter, not a saved talk; --lora takes it",
    "weights": "is a file of a model's weights, not a saved talk; --model takes the folder",
    "voice": "is a voice, not a saved talk; --voice takes it",
    "sound": "is a sound file, not a saved talk; give a file that key s",
    "empty": "is an empty file, not a saved talk; give a file that key s",
    "": "is a folder, not a saved talk; give a file that key s",
    "none": "there is no file",
    "cut": "can't be gone on from: it is damaged",
    "beginning": "can't be gone on from: it is not a safetensors file, or is damaged",
    "text": "can't be gone on from: it is not a safetensors file",
    "archive": "can't be gone on from: it is not a safetensors file but a PyTorch or zip archive",
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_is_no_talk_is_one_line_in_the_users_words(files, name, command, capsys):
    path = files / name
    assert main([command, *COMMANDS[command], "--resume", str(path)]) == 1
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith(f"error: {path} ") or name == "none"
    assert KINDS[name] in line and said.out == ""
    assert not any(word in line for word in ("lm.", "prompt_from", "moshi.resume", "lora="))
