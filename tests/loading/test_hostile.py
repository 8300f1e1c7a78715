"""Configs and weight files that ask for the impossible: one line at once, in every command."""

import json
import os
import shutil
import stat
import struct
import time
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from app.cli import main
from moshi_mlx.errors import MoshiError
from moshi_mlx.weights.finite import SAMPLES
from tests.support.tree import tree_digest

HOSTILE = Path(__file__).parents[1] / "golden" / "hostile"
NANO = Path(moshi_mlx.__file__).parent / "nano"
QUESTION = NANO / "samples" / "who_made_you.wav"
CHANGES = json.loads((HOSTILE / "config" / "changes.json").read_text())
HARMLESS = {"model_type_esc"}
WHOLE = ("bigint", "bigint5000", "dup", "inf_period", "nan_scale")
MAX_CPU_S = 2.0


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
    """A copy of the model in the package, whose config each test writes anew."""
    folder = tmp_path_factory.mktemp("models") / "nano"
    shutil.copytree(NANO, folder, ignore=shutil.ignore_patterns("samples", "questions.json"))
    return folder


def one_line_at_once(folder: Path, capsys, *commands: str) -> str:
    """`file` and `quantize` refuse in one line, soon, and touch nothing; returns the last line."""
    said = ""
    before = tree_digest(folder.parent)
    for command in commands or ("file", "quantize"):
        out = folder.parent / "out.wav"
        arguments = {
            "file": [str(QUESTION), str(out), "--model", str(folder)],
            "quantize": [str(folder), str(out)],
        }
        started = time.process_time()
        assert main([command, *arguments[command]]) == 1
        took_s = time.process_time() - started
        said = capsys.readouterr().err.strip()
        assert said.startswith("error: ") and "\n" not in said and len(said) < 700, said
        assert took_s < MAX_CPU_S
        assert tree_digest(folder.parent) == before
    return said


@pytest.mark.parametrize("name", sorted(set(CHANGES) - HARMLESS))
def test_a_config_that_cannot_be_is_one_line(nano, capsys, name):
    raw = json.loads((NANO / "config.json").read_text())
    (nano / "config.json").write_text(json.dumps(raw | CHANGES[name]))
    one_line_at_once(nano, capsys)


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_is_hardly_json_is_one_line(nano, capsys, name):
    shutil.copy(HOSTILE / "config" / f"{name}.json", nano / "config.json")
    one_line_at_once(nano, capsys)


ODD = {
    "deep": b'{"a":' * 100_000,
    "deep list": b"[" * 200_000,
    "empty": b"",
    "list": b"[]",
    "text": b'"x"',
    "null": b"null",
    "utf-16": '{"dim": 1}'.encode("utf-16"),
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
    "html": b"<!DOCTYPE html><html><title>Welcome to our hotel</title>",
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD.keys())
def test_a_config_that_is_something_else(nano, capsys, data):
    (nano / "config.json").write_bytes(data)
    one_line_at_once(nano, capsys)
    shutil.copy(NANO / "config.json", nano / "config.json")
    sizes = (nano / "mimi_config.json").read_bytes()
    try:
        (nano / "mimi_config.json").write_bytes(data)
        one_line_at_once(nano, capsys, "file")
    finally:
        (nano / "mimi_config.json").write_bytes(sizes)


MIMI = {
    "frame_rate": 1e-300,
    "sample_rate": 10**400,
    "seanet.ratios": [2] * 5000,
    "seanet.n_residual_layers": 10**9,
    "seanet.n_filters": 2**62,
    "seanet.dilation_base": 2**62,
    "transformer.num_layers": 10**6,
    "transformer.context": 2**62,
    "transformer.max_period": float("inf"),
    "transformer.d_model": 10**5000,
    "quantizer.n_q": 10**6,
    "quantizer.bins": 2**62,
    "quantizer": [],
}


@pytest.mark.parametrize("key", MIMI)
def test_a_mimi_config_that_cannot_be_is_one_line(nano, capsys, key):
    shutil.copy(NANO / "config.json", nano / "config.json")
    text = (NANO / "mimi_config.json").read_text()
    raw = json.loads(text)
    *parents, last = key.split(".")
    where = raw
    for parent in parents:
        where = where[parent]
    where[last] = MIMI[key] if MIMI[key] != 10**5000 else "@"
    changed = json.dumps(raw).replace('"@"', "9" * 5000)
    try:
        (nano / "mimi_config.json").write_text(changed)
        one_line_at_once(nano, capsys, "file")
    finally:
        (nano / "mimi_config.json").write_text(text)


def test_odd_but_harmless_configs_load(nano):
    """A byte order mark, an escape code in a name, null where PyTorch takes what is false."""
    raw = json.loads((NANO / "config.json").read_text())
    for change in (*(CHANGES[name] for name in HARMLESS), {"quantization_config": {"bits": 4}}):
        (nano / "config.json").write_text(json.dumps(raw | change))
        moshi_mlx.load_lm(nano)
    falsy = ("quantize", "lora", "norm_emb", "bias_proj", "cross_attention", "demux_second_stream")
    (nano / "config.json").write_text(
        json.dumps(raw | dict.fromkeys(falsy) | {"conditioners": None})
    )
    moshi_mlx.load_lm(nano)
    (nano / "config.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(raw).encode())
    moshi_mlx.load_lm(nano)


@pytest.fixture
def weights(nano):
    """The weights' path; the honest file is put back afterwards."""
    shutil.copy(NANO / "config.json", nano / "config.json")
    yield nano / "model.safetensors"
    (nano / "model.safetensors").unlink(missing_ok=True)
    shutil.copy(NANO / "model.safetensors", nano)


def write_header(path: Path, header: bytes) -> None:
    """The header in place of the honest one, its tensors behind it."""
    with (NANO / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        file.seek(8 + length)
        path.unlink(missing_ok=True)
        path.write_bytes(struct.pack("<Q", len(header)) + header + file.read())


@pytest.mark.parametrize(
    "path", sorted((HOSTILE / "headers").glob("*.header")), ids=lambda p: p.stem
)
def test_a_header_that_lies_is_one_line(weights, capsys, path):
    write_header(weights, path.read_bytes()[8:])
    one_line_at_once(weights.parent, capsys)


def change_header(path: Path, change) -> None:
    with (NANO / "model.safetensors").open("rb") as file:
        raw = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    changed = change(raw)
    write_header(path, changed if isinstance(changed, bytes) else json.dumps(raw).encode())


def entry(raw: dict) -> dict:
    return raw["out_norm.alpha"]


HEADERS = {
    "deep": lambda raw: b'{"a":' * 100_000,
    "an entry that is a list": lambda raw: raw.update(x=[1]),
    "no shape": lambda raw: entry(raw).pop("shape"),
    "a shape of text": lambda raw: entry(raw).update(shape="128"),
    "true for a size": lambda raw: entry(raw).update(shape=[True] * 2),
    "half a size": lambda raw: entry(raw).update(shape=[1, 1, 128.0]),
    "many sizes": lambda raw: entry(raw).update(shape=[1] * 100_000),
    "a huge size": lambda raw: entry(raw).update(shape=[2**62, 2**62]),
    "offsets backwards": lambda raw: entry(raw).update(data_offsets=[256, 0]),
    "three offsets": lambda raw: entry(raw).update(data_offsets=[0, 1, 2]),
    "offsets far away": lambda raw: entry(raw).update(data_offsets=[2**60, 2**60 + 256]),
    "an unknown dtype": lambda raw: entry(raw).update(dtype="X"),
    "a dtype that is a list": lambda raw: entry(raw).update(dtype=["BF16"]),
    "F64": lambda raw: entry(raw).update(dtype="F64"),
    "F8": lambda raw: entry(raw).update(dtype="F8_E4M3"),
    "metadata of numbers": lambda raw: raw.update(__metadata__={"a": 1}),
    "a tensor over another": lambda raw: raw.update(twin=dict(entry(raw))),
    "no tensors": lambda raw: b"{}",
    "a name without an end": lambda raw: raw.update({"n" * 10**5: raw.pop(min(raw))}),
}


@pytest.mark.parametrize("change", HEADERS.values(), ids=HEADERS.keys())
def test_a_header_that_cannot_be_is_one_line(weights, capsys, change):
    change_header(weights, change)
    one_line_at_once(weights.parent, capsys)


KINDS = {
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
    "(.bin, .pt)": b"PK\x03\x04 archive/data.pkl and more",
    "a Python pickle": b"\x80\x02}q\x00. and more of it",
    "pickle (.bin, .pt)": b"\x80\x04\x95 and more of it",
    "a web page": b"<!DOCTYPE html><html>and more</html>",
    "a web page: ": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "Git LFS pointer, not": b"\xef\xbb\xbfversion https://git-lfs.github.com/spec/v1\noid\n",
    "a git-annex pointer": b"/annex/objects/SHA256E-s5--0.safetensors\n",
    "packed": b"\x1f\x8b\x08 and more of it",
    "UTF-16 text": '{"dim": 1}'.encode("utf-16"),
}


@pytest.mark.parametrize("said", KINDS)
def test_what_a_file_is_instead_is_named(weights, capsys, said):
    weights.unlink()
    weights.write_bytes(KINDS[said])
    assert said in one_line_at_once(weights.parent, capsys)


def test_every_part_says_what_it_is_instead(nano, capsys):
    shutil.copy(NANO / "config.json", nano / "config.json")
    for name in ("config.json", "mimi_config.json", "tokenizer.model", "mimi.safetensors"):
        good = (nano / name).read_bytes()
        (nano / name).write_bytes(KINDS["a Git LFS pointer"])
        said = one_line_at_once(nano, capsys, "file")
        assert f"{name} is " in said and "a Git LFS pointer" in said
        (nano / name).write_bytes(good)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_config_without_an_end_is_not_read(nano, capsys, kind):
    config, good = nano / "config.json", (NANO / "config.json").read_bytes()
    config.unlink()
    try:
        if kind == "pipe":
            os.mkfifo(config)
        else:
            os.mknod(config, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # as /dev/zero
    except OSError:
        pytest.skip("needs root")
    try:
        assert "is a pipe or a device, no file" in one_line_at_once(nano, capsys)
    finally:
        config.unlink()
        config.write_bytes(good)


def stored(change) -> dict[str, mx.array]:
    tensors = mx.load(str(NANO / "model.safetensors"))
    assert isinstance(tensors, dict)
    return {name: change(name, tensor) for name, tensor in tensors.items()}


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["out_norm.alpha", "text_linear.weight", "emb.3.weight"])
def test_weights_that_are_no_numbers_are_named(weights, capsys, name, value):
    weights.unlink()
    tensors = stored(lambda n, t: mx.full(t.shape, value, t.dtype) if n == name else t)
    mx.save_safetensors(str(weights), tensors)
    assert f"{name} holds values that are not" in one_line_at_once(weights.parent, capsys, "file")


@pytest.mark.parametrize(
    "name",
    ["text_linear.weight", "linears.3.weight", "transformer.layers.3.gating.linear_in.weight"],
)
def test_one_value_that_is_no_number_is_named(weights, capsys, name):
    """Where samples miss it: before the first frame."""

    def change(n: str, tensor: mx.array) -> mx.array:
        if n != name:
            return tensor
        values = np.array(tensor.astype(mx.float32))
        step = values.size // SAMPLES
        values.reshape(-1)[7 * (step + (step % 2 == 0)) + 1] = np.nan
        return mx.array(values).astype(tensor.dtype)

    weights.unlink()
    mx.save_safetensors(str(weights), stored(change))
    assert f"{name} holds values that are not" in one_line_at_once(weights.parent, capsys, "file")


def test_a_value_that_the_dtype_cannot_hold_is_named(weights, capsys):
    weights.unlink()

    def change(n: str, tensor: mx.array) -> mx.array:
        large = n == "transformer.layers.1.norm1.alpha"
        return mx.full(tensor.shape, 1e5) if large else tensor.astype(mx.float16)

    mx.save_safetensors(str(weights), stored(change))
    with pytest.raises(MoshiError, match=r"norm1.* reaches 1e\+05, beyond what float16 holds"):
        moshi_mlx.load_lm(weights.parent)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "bits", [b"\xff\xff", b"\x80\x7f", b"\x80\xff"], ids=["NaN", "inf", "-inf"]
)
def test_weights_that_are_all_no_numbers_are_refused(weights, capsys, bits):
    """An honest header, and bf16 that says nothing behind it."""
    with (NANO / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header, data = file.read(length), file.read()
    weights.unlink()
    weights.write_bytes(struct.pack("<Q", length) + header + bits * (len(data) // 2))
    assert "holds values that are not finite" in one_line_at_once(weights.parent, capsys, "file")
    target = weights.parent.parent / "out"
    assert main(["quantize", str(weights.parent), str(target)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]  # behind its progress
    assert last.startswith("error: ") and "holds values that are not finite" in last
    assert not target.exists() and not list(target.parent.glob(".out*"))


def test_the_dtype_is_the_one_that_most_weights_have(weights, capsys):
    """One norm in float32 makes no float32 model; one in float16 no float16 model."""
    for odd in (mx.float32, mx.float16):
        weights.unlink()
        tensors = stored(lambda n, t, odd=odd: t.astype(odd if n == "out_norm.alpha" else t.dtype))
        mx.save_safetensors(str(weights), tensors)
        lm = moshi_mlx.load_lm(weights.parent)
        assert lm.text_linear.weight.dtype == mx.bfloat16
        said = capsys.readouterr().err
        assert f"128 weights are {str(odd)[9:]} and are rounded to bfloat16" in said
    weights.unlink()
    mx.save_safetensors(
        str(weights),
        stored(lambda n, t: t.astype(mx.float16 if n == "out_norm.alpha" else mx.float32)),
    )
    assert moshi_mlx.load_lm(weights.parent).out_norm.weight.dtype == mx.float32
    assert capsys.readouterr().err == ""


def test_a_model_in_several_files(weights):
    """What `model.safetensors.index.json` lists, as transformers and others write it."""
    whole = moshi_mlx.load_lm(weights.parent)
    tensors = stored(lambda n, t: t)
    weights.unlink()
    where = {}
    for i, names in enumerate((sorted(tensors)[::2], sorted(tensors)[1::2])):
        shard = f"model-0000{i + 1}-of-00002.safetensors"
        mx.save_safetensors(str(weights.parent / shard), {n: tensors[n] for n in names})
        where |= dict.fromkeys(names, shard)
    index = weights.parent / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    raw = json.loads((NANO / "config.json").read_text())
    del raw["moshi_name"]
    (weights.parent / "config.json").write_text(json.dumps(raw))
    sharded = moshi_mlx.load_lm(weights.parent)
    assert mx.array_equal(sharded.text_linear.weight, whole.text_linear.weight)
    assert moshi_mlx.load(weights.parent, codec="mlx").config == whole.config
    (weights.parent / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(MoshiError, match=r"no weights at .*00002-of-00002"):
        moshi_mlx.load_lm(weights.parent)
    index.unlink()
    (weights.parent / "model-00001-of-00002.safetensors").unlink()


BAD_INDEXES = [
    {},
    {"weight_map": {}},
    {"weight_map": []},
    {"weight_map": None},
    {"weight_map": {"a": 1}},
    {"weight_map": {"a": ["x.safetensors"]}},
    {"weight_map": {"a": "../x.safetensors"}},
    {"weight_map": {"a": "x.bin"}},
    {"weight_map": {"a": "x\0.safetensors"}},
    {"weight_map": {"a": "x" * 300 + ".safetensors"}},
]


@pytest.mark.parametrize("index", BAD_INDEXES, ids=str)
def test_an_index_that_cannot_be_is_one_line(weights, capsys, index):
    weights.unlink()
    path = weights.parent / "model.safetensors.index.json"
    raw = json.loads((NANO / "config.json").read_text())
    (weights.parent / "config.json").write_text(json.dumps(raw | {"moshi_name": path.name}))
    path.write_text(json.dumps(index))
    try:
        one_line_at_once(weights.parent, capsys)
    finally:
        path.unlink()
