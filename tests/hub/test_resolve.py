"""hub.resolve against a small server on 127.0.0.1 that answers like the Hugging Face hub."""

import socket
from types import SimpleNamespace

import pytest

from moshi_mlx import hub
from moshi_mlx.config.model_files import file_names
from moshi_mlx.errors import DownloadError, UsageError
from tests.support.fakes.fake_hub import COMMIT, MODEL, WEIGHTS, serving


@pytest.fixture
def fake(monkeypatch):
    with serving(monkeypatch) as server:
        yield server


def fetched(server):
    return {p.rsplit("/", 1)[1] for command, p, _ in server.requests if command == "GET"}


def test_only_the_files_needed_are_fetched_and_size_and_licence_come_first(fake, tmp_path):
    said = []
    folder = hub.resolve("kyutai/moshi-test", cache_dir=tmp_path, announce=said.append)
    assert (folder / "model.q4.safetensors").read_bytes() == WEIGHTS
    assert (folder / "mimi.safetensors").read_bytes() == MODEL["mimi.safetensors"]
    assert not fetched(fake) & {"README.md", "model.q8.safetensors"}
    (download,) = said
    wanted = ("model.q4.safetensors", "mimi.safetensors", "tokenizer_spm_32k_3.model")
    assert download.missing_bytes == sum(len(MODEL[name]) for name in wanted)
    assert download.licence == "cc-by-4.0" and "licence: cc-by-4.0" in str(download)


def test_a_second_time_nothing_is_fetched_and_offline_works(fake, tmp_path, monkeypatch):
    folder = hub.resolve("kyutai/moshi-test", cache_dir=tmp_path)
    fake.requests.clear()
    assert hub.resolve("kyutai/moshi-test", cache_dir=tmp_path) == folder
    assert not any("resolve" in path for _, path, _ in fake.requests)
    fake.requests.clear()
    assert hub.resolve("kyutai/moshi-test", cache_dir=tmp_path, offline=True) == folder
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.resolve("kyutai/moshi-test", cache_dir=tmp_path) == folder
    assert fake.requests == []


def test_an_interrupted_download_goes_on_where_it_stopped(fake, tmp_path, monkeypatch):
    fake.break_after = 30_000

    def ctrl_c(seconds):  # while huggingface_hub waits for its next try
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("time.sleep", ctrl_c)
        hub.resolve("kyutai/moshi-test", cache_dir=tmp_path, files=["weights"])
    (part,) = tmp_path.rglob("*.part")
    kept = part.stat().st_size
    assert 0 < kept < len(WEIGHTS)
    assert not list(tmp_path.rglob("model.q4.safetensors"))
    fake.break_after = None
    fake.requests.clear()
    folder = hub.resolve("kyutai/moshi-test", cache_dir=tmp_path, files=["weights"])
    assert (folder / "model.q4.safetensors").read_bytes() == WEIGHTS
    ranges = [r for c, p, r in fake.requests if c == "GET" and "q4" in p]
    assert ranges == [f"bytes={kept}-"]
    assert not list(tmp_path.rglob("*.part"))


def test_a_broken_connection_is_taken_up_again_in_the_same_run(fake, tmp_path):
    fake.break_after = 60_000
    folder = hub.resolve("kyutai/moshi-test", cache_dir=tmp_path, files=["weights"])
    assert (folder / "model.q4.safetensors").read_bytes() == WEIGHTS


def test_a_connection_that_stays_broken_says_so(fake, tmp_path):
    fake.break_after = 5000
    with pytest.raises(DownloadError, match="start again, it goes on where it stopped"):
        hub.resolve("kyutai/moshi-test", cache_dir=tmp_path, files=["weights"])


def test_damaged_bytes_are_noticed_and_removed(fake, tmp_path):
    fake.repositories["kyutai/moshi-test"]["model.q4.safetensors"] = WEIGHTS[:-1] + b"!"
    with pytest.raises(DownloadError, match="damaged"):
        hub.resolve("kyutai/moshi-test", cache_dir=tmp_path)
    assert not list(tmp_path.rglob("*.part"))


def test_a_revision_is_pinned(fake, tmp_path):
    folder = hub.resolve("kyutai/moshi-test", revision="v1", cache_dir=tmp_path)
    assert folder.name == COMMIT
    assert hub.resolve("kyutai/moshi-test", "v1", offline=True, cache_dir=tmp_path) == folder
    assert hub.resolve("kyutai/moshi-test", COMMIT, offline=True, cache_dir=tmp_path) == folder


def test_without_a_network_a_complete_cache_does(fake, tmp_path, monkeypatch):
    folder = hub.resolve("kyutai/moshi-test", cache_dir=tmp_path)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert hub.resolve("kyutai/moshi-test", cache_dir=tmp_path) == folder
        with pytest.raises(DownloadError, match="no network, and kyutai/other isn't on this"):
            hub.resolve("kyutai/other", cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("change", "name", "revision", "message"),
    [
        (None, "kyutai/none", None, "there is no repository kyutai/none"),
        (None, "kyutai/moshi-test", "v9", "has no revision v9"),
        ("gate", "kyutai/moshi-test", None, "asks you to accept its licence"),
        ("drop mimi", "kyutai/moshi-test", None, "has no file mimi.safetensors"),
        ("not a model", "kyutai/moshi-test", None, "holds no safetensors weights"),
        (None, "./kyutai", None, "neither a folder here nor a repository"),
    ],
)
def test_what_can_go_wrong_is_one_line(fake, tmp_path, change, name, revision, message):
    files = fake.repositories["kyutai/moshi-test"]
    if change == "gate":
        fake.gated.add("kyutai/moshi-test")
    if change == "drop mimi":
        del files["mimi.safetensors"]
    if change == "not a model":
        fake.repositories["kyutai/moshi-test"] = {"README.md": b"#"}
    with pytest.raises(DownloadError, match=message) as caught:
        hub.resolve(name, revision=revision, cache_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_offline_says_what_is_missing(fake, tmp_path):
    with pytest.raises(DownloadError, match="offline, but kyutai/moshi-test isn't on this machine"):
        hub.resolve("kyutai/moshi-test", offline=True, cache_dir=tmp_path)
    hub.resolve("kyutai/moshi-test", cache_dir=tmp_path, files=["weights", "tokenizer"])
    with pytest.raises(DownloadError, match=r"lacks mimi\.safetensors: go online once"):
        hub.resolve("kyutai/moshi-test", offline=True, cache_dir=tmp_path)


def test_too_small_a_disk_is_noticed_before_the_download(fake, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(DownloadError, match=r"needs 0\.00 GB and .* free: make room"):
        hub.resolve("kyutai/moshi-test", cache_dir=tmp_path)
    assert "model.q4.safetensors" not in fetched(fake)


def test_a_disk_that_fills_up_on_the_way(fake, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.utils.get_session", full)
    with pytest.raises(DownloadError, match="the disk is full while downloading"):
        hub.resolve("kyutai/moshi-test", cache_dir=tmp_path)


def test_a_folder_is_taken_as_it_is(tmp_path):
    assert hub.resolve(tmp_path) == tmp_path
    with pytest.raises(UsageError, match="a revision can't be chosen"):
        hub.resolve(tmp_path, revision="v1")
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="is a file: give the folder"):
        hub.resolve(tmp_path / "file")
    assert hub.resolve("nano").name == "nano"


def test_names_without_a_config_and_with_several_sizes():
    assert file_names(None, MODEL)["weights"] == "model.q8.safetensors"
    assert file_names(None, ["a.safetensors", "tokenizer-1.safetensors"]) == {
        "weights": "a.safetensors",
        "mimi": "tokenizer-1.safetensors",
    }
    config = {"mimi_name": "mimi.safetensors", "mimi_config_name": "mimi_config.json"}
    assert file_names(config, [], ["mimi"])["mimi_config"] == "mimi_config.json"
