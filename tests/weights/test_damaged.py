"""Weight files that are damaged, or that don't fit their config: one line each; both layouts."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from app.cli import main
from moshi_mlx.config.reading import parse_config
from moshi_mlx.errors import ConfigError, MoshiError, WeightsError
from moshi_mlx.weights.tensor_names import expected

GOLDEN = Path(__file__).parents[1] / "golden"
CONFIG = json.loads((GOLDEN / "lm_moshi" / "config.json").read_text())


def tensors_of(path: Path) -> dict[str, mx.array]:
    found = mx.load(str(path))
    assert isinstance(found, dict)
    return found


@pytest.fixture(params=["lm_moshi", "kyutai_bf16", "kyutai_q4"])
def folder(request, tmp_path: Path) -> Path:
    """A copy of a model in PyTorch layout, MLX layout, or quantized."""
    target = tmp_path / "model"
    shutil.copytree(GOLDEN / request.param, target)
    (target / "golden.safetensors").unlink()
    return target


def weights(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def huge_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 2**60) + path.read_bytes()[8:])


def not_json(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8] = ord("[")
    path.write_bytes(data)


def a_web_page(path: Path) -> None:
    path.write_text("<html>404 Not Found</html>" * 20)


def a_pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [truncate, lengthen, empty, cut_header, huge_header, not_json, a_web_page, a_pointer, a_folder],
)
def test_a_damaged_file_is_one_line(folder: Path, damage: Callable[[Path], None]) -> None:
    path = weights(folder)
    damage(path)
    with pytest.raises(WeightsError, match=path.name) as caught:
        moshi_mlx.load_lm(folder)
    assert "\n" not in str(caught.value)
    assert "fetch" in str(caught.value) or "check" in str(caught.value)


def changed(folder: Path, change: Callable[[dict[str, mx.array]], None]) -> Path:
    tensors = tensors_of(weights(folder))
    change(tensors)
    mx.save_safetensors(str(weights(folder)), tensors)
    return folder


def test_every_tensor_is_asked_for(folder: Path) -> None:
    path, names = weights(folder), sorted(tensors_of(weights(folder)))
    for name in names[:: max(1, len(names) // 25)]:
        tensors = tensors_of(GOLDEN / folder_name(folder) / path.name)
        del tensors[name]
        mx.save_safetensors(str(path), tensors)
        with pytest.raises(WeightsError):
            moshi_mlx.load_lm(folder)


def folder_name(folder: Path) -> str:
    dim = json.loads((folder / "config.json").read_text())["dim"]
    return {32: "lm_moshi", 64: "kyutai_bf16", 128: "kyutai_q4"}[dim]


def test_no_tensor_is_left_over(folder: Path) -> None:
    def add(tensors: dict[str, mx.array]) -> None:
        tensors["text_linea.weight"] = mx.zeros((4, 4))

    with pytest.raises(
        WeightsError, match=r"does not name: text_linea\.weight \(did you mean text_linear\.weight"
    ):
        moshi_mlx.load_lm(changed(folder, add))


def test_a_wrong_shape_says_both(folder: Path) -> None:
    def narrow(tensors: dict[str, mx.array]) -> None:
        tensors["text_linear.weight"] = tensors["text_linear.weight"][:-1]
        if "text_linear.scales" in tensors:
            for part in ("scales", "biases"):
                tensors[f"text_linear.{part}"] = tensors[f"text_linear.{part}"][:-1]

    with pytest.raises(WeightsError, match=r"text_linear.*\[47, .*config.*\[48, "):
        moshi_mlx.load_lm(changed(folder, narrow))


def test_integers_are_no_weights(folder: Path) -> None:
    name = "out_norm.alpha" if folder_name(folder) == "lm_moshi" else "out_norm.weight"

    def integers(tensors: dict[str, mx.array]) -> None:
        tensors[name] = tensors[name].astype(mx.int32)

    with pytest.raises(WeightsError, match=r"holds mlx\.core\.int32, not floating point weights"):
        moshi_mlx.load_lm(changed(folder, integers))


@pytest.mark.parametrize("part", ["scales", "biases", "weight"], ids=["scales", "biases", "packed"])
def test_a_quantized_layer_with_parts_that_do_not_fit(part: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(GOLDEN / "kyutai_q4", folder)
    (folder / "golden.safetensors").unlink()

    def cut(tensors: dict[str, mx.array]) -> None:
        tensors[f"text_linear.{part}"] = tensors[f"text_linear.{part}"][:, :-1]

    with pytest.raises(WeightsError, match="text_linear"):
        moshi_mlx.load_lm(changed(folder, cut))


@pytest.mark.parametrize(
    "change", [{"dim": 64}, {"num_layers": 3}, {"text_card": 50}, {"n_q": 8, "delays": [0] * 9}]
)
def test_a_config_of_another_model(change: dict, tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "lm_moshi" / "model.safetensors", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | change))
    with pytest.raises(WeightsError) as caught:
        moshi_mlx.load_lm(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_what_is_missing_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"moshi_name": "mine.safetensors"}))
    with pytest.raises(WeightsError, match=r"mine\.safetensors is missing \(weights\)"):
        moshi_mlx.load_lm(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(WeightsError, match="has no weights file"):
        moshi_mlx.load_lm(tmp_path)
    with pytest.raises(MoshiError, match="neither a folder here nor a repository"):
        moshi_mlx.load_lm(tmp_path / "none")
    with pytest.raises(WeightsError, match="unknown dtype 'int4'; known: float32"):
        moshi_mlx.load_lm(GOLDEN / "lm_moshi", dtype="int4")


def test_newer_and_older_names_of_pytorchs_files(tmp_path: Path) -> None:
    """`in_projs.{i}.weight` apart, or `in_proj_weight` fused along the rows: the same model."""
    tensors = tensors_of(GOLDEN / "lm_moshi" / "model.safetensors")
    fused: dict[str, mx.array] = {}
    for name in [n for n in tensors if "_projs.0." in n]:
        start, _, _ = name.partition("s.0.weight")
        parts = []
        while (part := f"{start}s.{len(parts)}.weight") in tensors:
            parts.append(tensors.pop(part))
        ending = "_weight" if start.endswith("in_proj") else ".weight"
        fused[start + ending] = mx.concatenate(parts)
    assert len(fused) == 8  # in and out of two temporal and two depth layers
    mx.save_safetensors(str(tmp_path / "model.safetensors"), tensors | fused)
    shutil.copy(GOLDEN / "lm_moshi" / "config.json", tmp_path)
    codes = np.zeros((1, 17, 4), np.int32)
    old = moshi_mlx.load_lm(tmp_path, dtype="float32").forward(codes)
    new = moshi_mlx.load_lm(GOLDEN / "lm_moshi", dtype="float32").forward(codes)
    for ours, theirs in zip(old, new, strict=True):
        np.testing.assert_array_equal(np.array(ours), np.array(theirs))


def test_a_checkpoint_that_lists_less_than_the_config_names_what_lacks(tmp_path: Path) -> None:
    first = next(iter(expected(parse_config(CONFIG))))
    mx.save_safetensors(str(tmp_path / "model.safetensors"), {first: mx.zeros((1, 1))})
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(WeightsError, match=r"lacks .* and \d+ more: it does not fit"):
        moshi_mlx.load_lm(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "config.json").write_text("{"), "can't be read as JSON"),
        (lambda f: truncate(f / "model.safetensors"), "is damaged"),
        (lambda f: truncate(f / "mimi.safetensors"), "is damaged"),
        (lambda f: (f / "tokenizer.model").write_bytes(b"pieces"), "is no SentencePiece model"),
        (lambda f: (f / "tokenizer.model").unlink(), "tokenizer"),
        (lambda f: (f / "mimi_config.json").write_text("{}"), "missing keys"),
    ],
)
def test_the_command_says_it_in_one_line_and_writes_nothing(
    change: Callable[[Path], object], message: str, tmp_path: Path, capfd
) -> None:
    nano = Path(moshi_mlx.__file__).parent / "nano"
    folder, out = tmp_path / "nano", tmp_path / "out.wav"
    shutil.copytree(nano, folder, ignore=shutil.ignore_patterns("samples"))
    change(folder)
    question = str(nano / "samples" / "four_plus_three.wav")
    assert main(["file", question, str(out), "--model", str(folder)]) == 1
    error = capfd.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not list(tmp_path.glob("*out*"))


def test_a_config_error_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        shutil.copy(GOLDEN / "lm_moshi" / "model.safetensors", tmp_path)
        (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"dimm": 3}))
        moshi_mlx.load_lm(tmp_path)
