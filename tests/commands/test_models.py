"""`moshi models`: what is in the cache, fetched, looked at, and nothing of others removed."""

import fcntl
import json
import os
import pty
import re

import pytest

from app import cli
from moshi_mlx import hub
from tests.support.fakes import fake_hub
from tests.support.models.recipe_models import cached, small

NAME = "kyutai/moshi-test"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty one, and another program's model in it."""
    root = tmp_path / "cache"
    monkeypatch.setenv("HF_HUB_CACHE", str(root))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(root))
    other = root / "models--someone--llama" / "snapshots" / "abc"
    other.mkdir(parents=True)
    (other / "config.json").write_text('{"model_type": "llama"}')
    return root


def said(capsys, *argv, status=0):
    assert cli.main(["models", *argv]) == status
    return capsys.readouterr()


def test_an_empty_cache_lists_the_model_in_the_package(cache, capsys):
    out = said(capsys).out
    assert re.search(r"^nano +bf16 +\d+\.\d\d MB +in the package +mit$", out, re.M)
    assert "llama" not in out and "0.00 MB in" in out
    assert json.loads(said(capsys, "list", "--json").out) == []


def test_models_are_listed_with_recipe_size_and_state(cache, tmp_path, capsys):
    cached(cache, "somebody/talker", small(tmp_path / "a", "mxfp4"))
    (row,) = json.loads(said(capsys, "--json").out)
    folder = cache / "models--somebody--talker"
    size = sum(p.stat().st_size for p in (folder / "snapshots").rglob("*") if p.is_file())
    assert (row["name"], row["recipe"], row["state"]) == ("somebody/talker", "mxfp4", "complete")
    assert size <= row["bytes"] <= size + 100 and row["licence"] is None
    assert "somebody/talker  mxfp4" in said(capsys).out
    (next((folder / "snapshots").glob("*")) / "mimi.safetensors").unlink()
    (row,) = json.loads(said(capsys, "--json").out)
    assert row["state"] == "partial"
    assert "moshi models pull" in said(capsys, "show", "somebody/talker", status=1).err


def test_pull_fetches_and_remembers_the_licence(cache, capsys, monkeypatch):
    with fake_hub.serving(monkeypatch) as server:
        told = said(capsys, "pull", NAME)
        assert told.out.strip().endswith(fake_hub.COMMIT) and "cc-by-4.0" in told.err
        server.requests.clear()
    (row,) = json.loads(said(capsys, "--json").out)
    assert (row["name"], row["state"], row["licence"]) == (NAME, "complete", "cc-by-4.0")


def test_show_tells_of_a_repository_and_of_its_folder_alike(cache, tmp_path, capsys):
    folder = small(tmp_path / "a", "mixed-4-6")
    cached(cache, "somebody/talker", folder)
    rows = [json.loads(said(capsys, "show", name, "--json").out) for name in
            ("somebody/talker", str(folder))]  # fmt: skip
    for key in ("recipe", "layers", "dim", "context", "codebooks", "keeps_up"):
        assert rows[0][key] == rows[1][key]
    assert rows[0]["recipe"] == "mixed-4-6" and rows[0]["codebooks"] == {"own": 8, "users": 8}
    out = said(capsys, "show", "nano").out
    assert "bf16" in out and "6 layers of 128" in out and "8 own codebooks" in out
    assert re.search(r"licence +mit$", out, re.M)


def test_rm_removes_one_and_nothing_else(cache, tmp_path, capsys):
    folder = small(tmp_path / "a", "q4")
    for name in ("somebody/talker", "somebody/other-moshi"):
        cached(cache, name, folder)
    assert "--yes" in said(capsys, "rm", "somebody/talker", status=2).err
    assert (cache / "models--somebody--talker").is_dir()
    assert "removed" in said(capsys, "rm", "somebody/talker", "--yes").out
    assert sorted(p.name for p in cache.glob("models--*")) == [
        "models--somebody--other-moshi",
        "models--someone--llama",
    ]


def test_rm_takes_the_end_of_input_for_a_no(cache, tmp_path, capsys, monkeypatch):
    cached(cache, "somebody/talker", small(tmp_path / "a", "q4"))
    terminal, ours = pty.openpty()
    os.write(terminal, b"\x04")  # Ctrl-D
    with open(ours) as keys:
        monkeypatch.setattr("sys.stdin", keys)
        assert "Nothing was removed" in said(capsys, "rm", "somebody/talker", status=1).out
    os.close(terminal)
    assert (cache / "models--somebody--talker").is_dir()


@pytest.mark.parametrize("name", ["someone/llama", "no/such", "../cache", "a/../b", "nano", "."])
def test_rm_touches_no_other_programs_model_and_no_path(name, cache, capsys):
    before = sorted(cache.rglob("*"))
    told = said(capsys, "rm", name, "--yes", status=1).err
    assert told.startswith("error: no model") and told.count("\n") == 1
    assert sorted(cache.rglob("*")) == before


def test_rm_of_two_where_one_is_not_there_removes_none(cache, tmp_path, capsys):
    cached(cache, "somebody/talker", small(tmp_path / "a", "q4"))
    said(capsys, "rm", "somebody/talker", "no/such", "--yes", status=1)
    assert (cache / "models--somebody--talker").is_dir()


def test_rm_waits_for_no_download_and_follows_no_link(cache, tmp_path, capsys):
    cached(cache, "somebody/talker", small(tmp_path / "a", "q4"))
    blobs = cache / "models--somebody--talker" / "blobs"
    blobs.mkdir()
    with open(blobs / "x.part", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "being downloaded" in said(capsys, "rm", "somebody/talker", "--yes", status=1).err
    elsewhere = tmp_path / "elsewhere"
    (cache / "models--somebody--talker").rename(elsewhere)
    (cache / "models--somebody--talker").symlink_to(elsewhere)
    assert "is a link" in said(capsys, "rm", "somebody/talker", "--yes", status=1).err
    assert elsewhere.is_dir()


def test_pull_of_what_is_here_is_wrong_usage(cache, tmp_path, capsys):
    for name in ("nano", str(tmp_path)):
        assert "is here already" in said(capsys, "pull", name, status=2).err
    assert hub.NANO.is_dir()
