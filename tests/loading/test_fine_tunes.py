"""Fine-tunes as they are published: whole weights under the trainer's name, nothing beside them."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from app.cli import main
from moshi_mlx import hub
from moshi_mlx.config.model_files import file_names
from moshi_mlx.errors import ConfigError, DownloadError, WeightsError
from moshi_mlx.hub import NANO, mimi_file, tokenizer_file
from tests.support.fakes.fake_hub import COMMIT, serving
from tests.support.models.loaded import nano
from tests.support.tree import tree_digest

QUESTION = NANO / "samples" / "who_made_you.wav"
MIMI = "tokenizer-e351c8d8-checkpoint125.safetensors"
PIECES = "tokenizer_spm_32k_3.model"
OTHER_PIECES = Path(__file__).parents[1] / "golden" / "dsm_stt" / "tokenizer_en_fr_audio_8000.model"
# What the trainer copies from the base's config.json, and adds.
OF_THE_BASE = {"moshi_name": "model.safetensors", "mimi_name": MIMI, "tokenizer_name": PIECES}
ADDED = {"lora": True, "lora_rank": 128, "lora_scaling": 2.0}


@pytest.fixture
def tune(tmp_path):
    """A merged fine-tune of the embedded model: config.json and consolidated.safetensors."""
    folder = tmp_path / "tune"
    folder.mkdir()
    raw = json.loads((NANO / "config.json").read_text())
    del raw["mimi_config_name"]
    (folder / "config.json").write_text(json.dumps(raw | OF_THE_BASE | ADDED))
    shutil.copy(NANO / "model.safetensors", folder / "consolidated.safetensors")
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Hugging Face's cache, empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def kyutais(cache):
    """A repository of Kyutai's in the cache; their Mimi and tokenizer are the embedded model's."""
    folder = cache / "models--kyutai--moshiko-mlx-q4" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    shutil.copy(NANO / "mimi.safetensors", folder / MIMI)
    shutil.copy(NANO / "mimi_config.json", folder)
    shutil.copy(NANO / "tokenizer.model", folder / PIECES)
    return folder


def set_config(folder: Path, **keys: object) -> None:
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | keys))


def same_as_nano(moshi) -> None:
    """The same weights, words and sound."""
    assert mx.array_equal(moshi.lm.text_linear.weight, nano().lm.text_linear.weight)
    assert moshi.tokenizer.decode([40, 41]) == nano().tokenizer.decode([40, 41])
    codes = np.zeros((8, 3), np.int32)
    np.testing.assert_array_equal(moshi.codec.decode(codes), nano().codec.decode(codes))


def test_kyutais_files_come_from_the_cache(tune, kyutais, capsys):
    same_as_nano(moshi_mlx.load(tune))
    said = capsys.readouterr().err
    assert f"no mimi of its own: taking Kyutai's, {kyutais / MIMI}" in said
    assert f"no tokenizer of its own: taking Kyutai's, {kyutais / PIECES}" in said


def test_a_repository_of_kyutais_in_a_name_means_the_same(tune, kyutais):
    at = "hf://kyutai/moshiko-pytorch-bf16/"
    set_config(tune, mimi_name=at + MIMI, tokenizer_name=at + PIECES)
    same_as_nano(moshi_mlx.load(tune))
    set_config(tune, mimi_name="hf://somebody/else/" + MIMI)
    with pytest.raises(ConfigError, match="mimi_name names a file elsewhere"):
        moshi_mlx.load(tune)


def test_its_own_files_are_taken_where_they_are(tune, kyutais, capsys):
    for name, own in ((MIMI, "mimi.safetensors"), (PIECES, "tokenizer.model")):
        (kyutais / name).write_bytes(b"of somebody else")
        shutil.copy(NANO / own, tune / name)
    shutil.copy(NANO / "mimi_config.json", tune)
    same_as_nano(moshi_mlx.load(tune))
    assert capsys.readouterr().err == ""


def refused(capsys, folder: Path, *arguments: str) -> str:
    """One line, status 1, and the tree as it was."""
    before = tree_digest(folder)
    assert main([*arguments, "--offline"]) == 1
    assert tree_digest(folder) == before
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: "), said
    return said[-1]


def test_without_a_cache_a_line_says_what_to_give(tune, cache, capsys):
    out = str(tune.parent / "out.wav")
    said = refused(capsys, tune.parent, "file", str(QUESTION), out, "--model", str(tune))
    assert f"{PIECES} is not on this machine" in said
    assert "--tokenizer kyutai/moshiko-mlx-q4" in said
    tokenizer = ("--tokenizer", str(NANO / "tokenizer.model"))
    said = refused(
        capsys, tune.parent, "file", str(QUESTION), out, "--model", str(tune), *tokenizer
    )
    assert f"{MIMI} is not on this machine" in said and "--mimi kyutai/moshiko-mlx-q4" in said
    said = refused(capsys, tune.parent, "quantize", str(tune), str(tune.parent / "out"))
    assert "--mimi kyutai/moshiko-mlx-q4" in said


@pytest.mark.parametrize("given", ["nano", NANO, "files"], ids=["name", "folder", "files"])
def test_files_that_are_given_replace_the_models_own(tune, cache, given):
    set_config(tune, mimi_name="hf://x/y/z", tokenizer_name="../outside")  # not even looked at
    files = (NANO / "mimi.safetensors", NANO / "tokenizer.model")
    mimi, tokenizer = files if given == "files" else (given, given)
    same_as_nano(moshi_mlx.load(tune, mimi=mimi, tokenizer=tokenizer))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--mimi", "away.safetensors"), "there is no away.safetensors: give mimi as a file"),
        (("--mimi", "{folder}"), "has no mimi of its own: give another"),
        (("--tokenizer", "{folder}"), "has no tokenizer of its own: give another"),
        (("--mimi", "no"), "neither a folder here nor a repository"),
        (("--mimi", str(NANO / "config.json")), "is not a safetensors file, or is damaged"),
        (("--mimi", str(NANO / "model.safetensors")), "is it a Mimi file"),
        (("--tokenizer", str(NANO / "config.json")), "is no SentencePiece model"),
        (("--tokenizer", str(OTHER_PIECES)), "pieces, the language model 256 text tokens"),
    ],
    ids=str,
)
def test_files_that_do_not_fit_are_refused(tune, kyutais, capsys, options, message):
    (tune.parent / "empty").mkdir()
    given = [option.format(folder=tune.parent / "empty") for option in options]
    out = str(tune.parent / "out.wav")
    arguments = ("file", str(QUESTION), out, "--model", str(tune), *given)
    assert message in refused(capsys, tune.parent, *arguments)


def test_quantize_completes_the_target(tune, cache, capsys):
    out = tune.parent / "out"
    set_config(tune, mimi_name="hf://x/y/z")
    arguments = ["quantize", str(tune), str(out), "--recipe", "q8"]
    assert main([*arguments, "--mimi", "nano", "--tokenizer", str(NANO / "tokenizer.model")]) == 0
    raw = json.loads((out / "config.json").read_text())
    names = [raw[f"{part}_name"] for part in ("moshi", "mimi", "mimi_config", "tokenizer")]
    assert all((out / name).is_file() for name in names)
    assert moshi_mlx.load(out).codec.bins == 256
    (out / "mimi.safetensors").write_bytes(b"a copy")
    assert (NANO / "mimi.safetensors").stat().st_size > 1000


def test_quantize_takes_kyutais_from_the_cache(tune, kyutais):
    assert main(["quantize", str(tune), str(tune.parent / "out"), "--recipe", "q8"]) == 0
    assert (tune.parent / "out" / MIMI).read_bytes() == (kyutais / MIMI).read_bytes()
    assert (tune.parent / "out" / PIECES).read_bytes() == (kyutais / PIECES).read_bytes()


def test_the_size_says_which_of_kyutais_it_is(tmp_path, cache):
    """Where config.json names none at all, as the 7B's that came without one."""
    for text_card, repository in ((32000, "moshiko-mlx-q4"), (48000, "hibiki-2b-mlx-bf16")):
        with pytest.raises(WeightsError, match=f"--tokenizer kyutai/{repository} fetches that"):
            tokenizer_file(tmp_path, {"text_card": text_card})
    with pytest.raises(WeightsError, match="--mimi kyutai/moshiko-mlx-q4 fetches that"):
        mimi_file(tmp_path, {"card": 2048})
    with pytest.raises(WeightsError, match="has no mimi file"):
        mimi_file(tmp_path, {"card": 5})


def test_an_adapter_alone_is_no_model(tmp_path, capsys):
    assert "weights" not in file_names({}, ["lora.safetensors", "config.json"])
    assert file_names({}, ["lora.safetensors", "x.safetensors"])["weights"] == "x.safetensors"


FOLDER = {"config.json": b"{}", "model.safetensors": b"weights", MIMI: b"mimi", PIECES: b"pieces"}


def in_folder(name: str) -> dict[str, bytes]:
    return {f"{name}/{file}": data for file, data in FOLDER.items()}


@pytest.mark.parametrize("at", ["step500", "runs/a/step500"])
def test_a_model_in_a_folder_of_a_repository(tmp_path, monkeypatch, at):
    with serving(monkeypatch) as server:
        server.repositories["someone/tunes"] = {"README.md": b"#", **in_folder(at)}
        folder = hub.resolve("someone/tunes", cache_dir=tmp_path)
    assert folder.as_posix().endswith(f"snapshots/{COMMIT}/{at}")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FOLDER
    assert hub.commit_of(folder) == COMMIT
    assert hub.resolve("someone/tunes", cache_dir=tmp_path, offline=True) == folder


def test_weights_alone_in_a_folder_of_a_repository(tmp_path, monkeypatch):
    """Beside a config.json at the top that doesn't say where they are."""
    with serving(monkeypatch) as server:
        server.repositories["someone/tunes"] = {"config.json": b"{}", "w/a.safetensors": b"weights"}
        folder = hub.resolve("someone/tunes", cache_dir=tmp_path)
    assert (folder / "w" / "a.safetensors").read_bytes() == b"weights"


def test_several_models_in_a_repository_are_named(tmp_path, monkeypatch):
    with serving(monkeypatch) as server:
        server.repositories["someone/tunes"] = in_folder("a") | in_folder("b")
        with pytest.raises(DownloadError, match=r"several models, in a, b: fetch one of them, `hf"):
            hub.resolve("someone/tunes", cache_dir=tmp_path)


@pytest.mark.parametrize("at", ["../..", "a/../../b", "/etc", "a\\b", "a//b", "x\x1b[31m"])
def test_a_folder_that_leads_elsewhere_is_refused(tmp_path, monkeypatch, at):
    with serving(monkeypatch) as server:
        server.repositories["someone/tunes"] = in_folder(at)
        before = tree_digest(tmp_path)
        with pytest.raises((ConfigError, DownloadError)):
            hub.resolve("someone/tunes", cache_dir=tmp_path / "cache")
    assert tree_digest(tmp_path) == before


def test_a_model_in_a_folder_of_a_folder(tune, kyutais):
    run = tune.parent / "run"
    run.mkdir()
    tune.rename(run / "consolidated")
    same_as_nano(moshi_mlx.load(run))
    shutil.copytree(run / "consolidated", run / "earlier")
    with pytest.raises(DownloadError, match="several models, in consolidated, earlier: give one"):
        moshi_mlx.load(run)


def test_half_of_a_commit_is_not_taken_for_the_whole(tmp_path, monkeypatch):
    """The name of a commit alone says that it can't have changed, not that it is all there."""
    with serving(monkeypatch) as server:
        server.repositories["someone/tune"] = {
            "config.json": json.dumps(OF_THE_BASE).encode(),
            "model.safetensors": b"weights",
            MIMI: b"mimi",
        }
        first = hub.resolve("someone/tune", COMMIT, files=("weights",), cache_dir=tmp_path)
        assert not (first / MIMI).exists()
        hub.resolve("someone/tune", COMMIT, files=("weights", "mimi"), cache_dir=tmp_path)
        assert (first / MIMI).read_bytes() == b"mimi"
