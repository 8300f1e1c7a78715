"""`--lora` in the commands: the adapter is heard, named in what they write, refused in one line."""

import argparse
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

import moshi_mlx
from app.cli import main
from app.options import model as model_options
from app.options.mark import add_mark_options
from app.provenance.asking import credentials_of
from app.provenance.credentials import available
from benchmarks.random_adapter import random_adapter
from moshi_mlx.config import load_config
from tests.support.fakes.fake_hub import serving
from tests.support.models.talking_folder import PERSONA, talking_folder

LORA_Q = PERSONA / "lora_q"
GOLDEN = PERSONA.parent
GREEDY = ["--text-temperature", "0", "--audio-temperature", "0", "--seed", "0"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return talking_folder(tmp_path_factory.mktemp("base"), LORA_Q, "model.q4.safetensors")


@pytest.fixture
def pirate(tmp_path):
    """A folder as moshi-finetune leaves it."""
    folder = tmp_path / "pirate"
    folder.mkdir()
    shutil.copyfile(LORA_Q / "lora.safetensors", folder / "lora.safetensors")
    raw = json.loads((LORA_Q / "config.json").read_text())
    raw = {key: value for key, value in raw.items() if key not in ("lora_name", "moshi_name")}
    (folder / "config.json").write_text(json.dumps(raw))
    return folder


@pytest.fixture
def question(tmp_path):
    path = tmp_path / "question.wav"
    noise = np.random.default_rng(0).normal(0, 0.1, 12_000).astype(np.float32)
    soundfile.write(path, noise, 24_000)
    return path


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_file_answers_with_the_adapter_and_says_so(base, pirate, question, tmp_path):
    out = tmp_path / "out.wav"
    options = ("--model", base, "--lora", pirate, "--tail", "0", *GREEDY, "--no-mark")
    assert main(["file", str(question), str(out), *map(str, options)]) == 0
    found, _ = soundfile.read(out, dtype="float32")
    heard, _ = soundfile.read(question, dtype="float32")
    greedy = {"seed": 0, "text_temperature": 0.0, "audio_temperature": 0.0, "mark": None}
    for lora, same in ((pirate, True), (None, False)):
        wanted = moshi_mlx.load(base, lora=lora).answer(heard, 0.0, **greedy).pcm
        assert bool(np.abs(found - np.clip(wanted, -1, 1)).max() < 1e-3) is same
    if available():
        assert credentials_of(out)["generation"]["adapter"] == "pirate"


def test_a_chat_names_its_adapter_on_the_screen_and_in_its_recording(base, pirate, question):
    folder = question.parent
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "chat", "--plain", "--model", base, "--lora", pirate]
        + ["--virtual-input", question, "--tail", "0", "--record", folder / "talks", *GREEDY],
        **{"capture_output": True, "text": True, "timeout": 120},
    )
    assert done.returncode == 0, done.stderr
    assert "(q4) with pirate ready" in done.stderr
    (take,) = (folder / "talks").iterdir()
    assert json.loads((take / "manifest.json").read_text())["adapter"] == "pirate"


def test_adapters_that_do_not_fit_are_one_line(base, pirate, question, tmp_path, capsys):
    other = PERSONA / "lora" / "lora.safetensors"
    out = tmp_path / "out.wav"
    for lora, line in (
        (other, "is of another model"),
        (tmp_path / "none", "neither a folder here nor a repository"),
        (PERSONA / "base", "has no adapter"),
    ):
        command = ["file", str(question), str(out), "--model", str(base), "--lora", str(lora)]
        assert main(command) == 1
        error = capsys.readouterr().err
        assert line in error and error.startswith("error: ") and error.count("\n") == 1
    assert main(["file", str(question), str(out), "--model", str(pirate)]) == 1
    assert "holds an adapter and no model" in capsys.readouterr().err
    assert not out.exists() and not out.with_suffix(".jsonl").exists()


def test_bench_measures_with_the_adapter_of_a_model_only(base, pirate, tmp_path, capsys):
    assert main(["bench", "--lora", str(pirate)]) == 2
    assert "--lora needs the --model that it adapts" in capsys.readouterr().err
    command = ["bench", "--model", str(base), "--lora", str(pirate), "--frames", "2", "--json", "-"]
    assert main(command) == 0
    (run,) = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
    assert run["model"] == f"{base.name} with pirate"


def test_speech_to_text_hears_with_the_adapter(question, tmp_path, capsys):
    folder = GOLDEN / "dsm_stt"
    lora = random_adapter(load_config(folder), 4, tmp_path / "lora.safetensors", scale=3.0)
    texts = []
    for options in ([], ["--lora", str(lora)]):
        assert main(["transcribe", str(question), "--model", str(folder), *options]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] != texts[1]


@pytest.mark.parametrize(
    ("command", "model"),
    [
        (["transcribe", "{question}"], "dsm_stt"),
        (["say", "hello", "-o", "{out}"], "dsm_tts"),
        (["translate", "{question}", "{out}"], "dsm_hibiki"),
    ],
)
def test_the_other_commands_refuse_another_models_adapter(
    command, model, question, tmp_path, capsys
):
    names = {"question": question, "out": tmp_path / "out.wav"}
    words = [word.format(**names) for word in command]
    lora = str(PERSONA / "lora" / "lora.safetensors")
    assert main([*words, "--model", str(GOLDEN / model), "--lora", lora]) == 1
    assert "is of another model" in capsys.readouterr().err
    assert not (tmp_path / "out.wav").exists()


def test_a_talk_whose_adapter_is_on_the_hub_fetches_it_first(base, pirate, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    parser = argparse.ArgumentParser()
    model_options.add_model_options(parser)
    add_mark_options(parser)
    args = parser.parse_args(["--model", str(base), "--lora", "somebody/pirate", "--no-mark"])
    with serving(monkeypatch) as hub:
        hub.repositories = {"somebody/pirate": {p.name: p.read_bytes() for p in pirate.iterdir()}}
        make_engine = model_options.engine_from(args)
        fetched = [path for command, path, _ in hub.requests if command == "GET"]
        assert any(path.endswith("lora.safetensors") for path in fetched)
    assert make_engine().adapter == "somebody/pirate"  # with the hub gone
