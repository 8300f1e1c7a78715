"""A source, a neighbour or a target that leads a writer astray: nothing outside is touched."""

import fcntl
import json
import os
from pathlib import Path

import pytest

from app.cli import main
from quantize.checkpoint.checkpoint import open_checkpoint
from quantize.checkpoint.place import LOCK, check_target
from quantize.checkpoint.target import make_target
from quantize.errors import QuantizeError
from quantize.recipe.recipes import RECIPES
from quantize.report.report import FILE
from tests.support.models.quantize_models import write_model
from tests.support.tree import tree_digest


@pytest.fixture
def source(tmp_path):
    """A model beside a diary, in a folder that is watched."""
    write_model(tmp_path / "source")
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "monday.txt").write_text("precious")
    (tmp_path / ".bashrc").write_text("alias precious=")
    return tmp_path / "source"


def set_config(source: Path, **keys: object) -> None:
    raw = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(raw | keys))


def quantize(source: Path, *options: str, target: str = "out") -> int:
    return main(["quantize", str(source), str(source.parent / target), *options])


def refused(capsys, source: Path, message: str, *options: str, target: str = "out") -> None:
    """One line, status 1, and the whole tree as it was."""
    before = tree_digest(source.parent)
    assert quantize(source, *options, target=target) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: ") and message in said[-1], said
    assert tree_digest(source.parent) == before


KEYS = ("moshi_name", "mimi_name", "tokenizer_name", "mimi_config_name")
NAMES = {
    "absolute": "{folder}/diary/monday.txt",
    "upwards": "../diary/monday.txt",
    "down and up": "sub/../../diary/monday.txt",
    "dot": ".",
    "backslash": "..\\diary",
    "double": "sub//tokenizer.model",
    "nul": "a\0b",
    "newline": "a\nb",
    "escape": "\x1b[31m",
    "long": "x" * 300,
    "half a surrogate": "\ud800",
    "hf": "hf://kyutai/moshiko-pytorch-bf16/tokenizer.model",
    "file": "file:///etc/passwd",
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_a_name_in_the_config_never_leads_outside(source, capsys, key, name):
    set_config(source, **{key: name.format(folder=source.parent)})
    refused(capsys, source, f"{key} ")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", [5, True, ["x"], {"a": 1}, 0, False])
def test_a_name_that_is_no_text_is_refused(source, capsys, key, value):
    set_config(source, **{key: value})
    refused(capsys, source, f"{key} must be a file's name, not ")


@pytest.mark.parametrize("name", ["tokenizer.model", "mimi.safetensors", "model.safetensors"])
def test_a_link_in_the_source_is_not_followed_outside(source, capsys, name):
    (source / name).unlink()
    (source / name).symlink_to("../diary/monday.txt")
    refused(capsys, source, f"{name} is a link that leads outside of the model's folder")
    (source / name).unlink()
    (source / name).symlink_to(name)
    refused(capsys, source, name)


def test_a_config_that_is_a_link_is_not_followed_outside(source, capsys):
    """All of its keys would be copied into the target."""
    (source / "config.json").rename(source.parent / "private.json")
    (source / "config.json").symlink_to("../private.json")
    refused(capsys, source, "config.json is a link that leads outside of the model's folder")


def test_a_link_inside_the_source_is_fine(source):
    (source / "tokenizer.model").rename(source / "pieces")
    (source / "tokenizer.model").symlink_to("pieces")
    assert quantize(source) == 0
    copy = source.parent / "out" / "tokenizer.model"
    assert copy.read_bytes() == b"pieces" and not copy.is_symlink()


@pytest.mark.parametrize("shard", ["../diary/monday.safetensors", "/etc/x.safetensors", "a\0", 5])
def test_a_shard_index_never_leads_outside(source, capsys, shard):
    (source / "model.safetensors").unlink()
    index = source / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"out_norm.weight": shard}}))
    refused(capsys, source, "model.safetensors.index.json")


def test_small_files_are_copies_of_their_own(source):
    assert quantize(source) == 0
    for name in ("mimi.safetensors", "tokenizer.model"):
        copy = source.parent / "out" / name
        assert copy.stat().st_nlink == 1
        copy.write_bytes(b"edited")
        assert (source / name).read_bytes() != b"edited"


@pytest.mark.parametrize("name", ["config.json", "model.q4.safetensors", LOCK, FILE])
def test_a_part_named_like_a_file_of_the_target_replaces_nothing(source, name):
    if not (source / name).exists():
        (source / name).write_bytes(b"pieces")
    set_config(source, tokenizer_name=name, moshi_name="model.safetensors")
    wanted = (source / name).read_bytes()
    assert quantize(source) == 0
    out = source.parent / "out"
    config = json.loads((out / "config.json").read_text())
    assert (out / config["tokenizer_name"]).read_bytes() == wanted
    assert json.loads((out / FILE).read_text())["made"] == config["quantization"]
    assert (out / config["moshi_name"]).stat().st_size > 1000
    assert main(["quantize", str(source), str(out), "--force"]) == 0


def test_a_prepared_neighbour_folder_leads_nowhere(source):
    """Links where the run will write, in a folder that looks like an interrupted run's."""
    partial = source.parent / ".out.partial"
    partial.mkdir()
    (partial / LOCK).write_text("")
    for name in ("config.json", "model.q4.safetensors", "tokenizer.model", FILE):
        (partial / name).symlink_to("../.bashrc")
    (partial / "prepared").symlink_to("../diary")
    os.link(source.parent / ".bashrc", partial / "mimi.safetensors")
    (source.parent / ".bashrc").chmod(0o600)
    assert quantize(source) == 0
    assert (source.parent / ".bashrc").read_text() == "alias precious="
    assert (source.parent / "diary" / "monday.txt").read_text() == "precious"
    assert not any(path.is_symlink() for path in (source.parent / "out").iterdir())


@pytest.mark.parametrize("kind", ["a pipe", "another name of a file"])
def test_a_lock_that_is_no_file_of_its_own_is_not_written(source, capsys, kind):
    lock = source.parent / ".out.partial" / LOCK
    lock.parent.mkdir()
    os.mkfifo(lock) if kind == "a pipe" else os.link(source.parent / ".bashrc", lock)
    refused(capsys, source, "was not left by an interrupted `moshi quantize`")


@pytest.mark.parametrize("length", [250, 300])
def test_a_name_that_no_folder_can_have(source, capsys, length):
    refused(capsys, source, "can't be a target (File name too long)", target="x" * length)


def test_a_neighbour_folder_of_somebody_else_is_left_alone(source, capsys):
    partial = source.parent / ".out.partial"
    partial.mkdir()
    (partial / "letter").write_text("precious")
    refused(capsys, source, "was not left by an interrupted `moshi quantize`")
    (partial / "letter").unlink()
    partial.rmdir()
    partial.symlink_to("diary")
    refused(capsys, source, "is in the way")


def test_force_replaces_only_what_quantize_made(source, capsys, monkeypatch):
    refused(capsys, source, "was not made by `moshi quantize`", "--force", target="diary")
    refused(capsys, source, "the source lies inside", "--force", target=".")
    (source.parent / "link").symlink_to("diary")
    refused(capsys, source, "was not made by `moshi quantize`", "--force", target="link")
    refused(capsys, source, "was not made by `moshi quantize`", "--force", target="link/../diary")
    assert quantize(source) == 0
    (source.parent / "out" / "notes.txt").write_text("precious")
    refused(capsys, source, "holds 'notes.txt', which `moshi quantize` did not make", "--force")
    (source.parent / "out" / "notes.txt").unlink()
    with monkeypatch.context() as patch:
        patch.chdir(source.parent / "out")
        refused(capsys, source, "holds your working folder", "--force")
    with monkeypatch.context() as patch:
        patch.setenv("HOME", str(source.parent / "out"))
        refused(capsys, source, "holds your home folder", "--force")
    assert quantize(source, "--force") == 0


def test_a_mark_that_names_more_than_files_of_ours_replaces_nothing(source, capsys):
    assert quantize(source) == 0
    out = source.parent / "out"
    (out / "quantize_report.json").unlink()
    (out / "quantize_report.json").mkdir()
    (out / "quantize_report.json" / "monday.txt").write_text("precious")
    refused(
        capsys, source, "holds 'quantize_report.json', which `moshi quantize` did not", "--force"
    )


def test_one_folder_under_two_names(tmp_path):
    """As capitals make them on a Mac's disk, and a folder that is mounted twice anywhere."""

    class Other(type(tmp_path)):
        def resolve(self, strict=False):
            return self

        def samefile(self, other):
            return Path(str(self).lower()).samefile(other)

    (tmp_path / "model").mkdir()
    with pytest.raises(QuantizeError, match="the target is the source's own folder"):
        check_target(Other(tmp_path / "MODEL"), tmp_path / "model", force=True)
    with pytest.raises(QuantizeError, match="the source lies inside"):
        check_target(Other(str(tmp_path).upper()), tmp_path / "model", force=True)


def test_a_linked_target_is_made_where_the_link_leads(source):
    assert quantize(source) == 0
    (source.parent / "link").symlink_to("out")
    assert quantize(source, "--force", "--recipe", "q8", target="link") == 0
    assert (source.parent / "link").is_symlink()
    assert (source.parent / "out" / "model.q8.safetensors").is_file()
    assert not list(source.parent.glob(".*out*"))


def test_two_runs_of_one_target_tell_of_each_other(source, capsys):
    partial = source.parent / ".out.partial"
    partial.mkdir()
    with open(partial / LOCK, "w") as held:
        held.write("process 123 on desk, since noon")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        refused(capsys, source, "made by another `moshi quantize` (process 123 on desk, since noon")
    assert quantize(source) == 0


def test_stopped_while_comparing_the_same_command_goes_on(source):
    def stopped(folder: Path) -> str:
        raise KeyboardInterrupt

    out = source.parent / "out"
    with pytest.raises(KeyboardInterrupt):
        make_target(open_checkpoint(str(source)), out, RECIPES["q4"], papers={FILE: stopped})
    assert not out.exists()
    assert quantize(source) == 0
    assert (out / FILE).is_file()
    assert not list(source.parent.glob(".out*"))


def test_rights_follow_the_umask(source):
    before = os.umask(0o077)
    try:
        assert quantize(source) == 0
    finally:
        os.umask(before)
    for path in (source.parent / "out").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path
