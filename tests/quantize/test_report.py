"""moshi quantize report: its figures against plain numpy, its page, and whatever is wrong."""

import io
import json
import re
import shutil
import sys
import xml.etree.ElementTree as ET

import mlx.core as mx
import numpy as np
import pytest

from app.cli import main
from moshi_mlx.weights.loading import load_lm
from quantize.report.repetition import longest_loop, repetition
from quantize.report.report import from_json, to_json
from quantize.report.tables import judgement
from tests.support.models.quantize_models import RAW_CONFIG, write_model

FRAMES = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A random model, its q4, and a folder of stored codes."""
    folder = tmp_path_factory.mktemp("made")
    write_model(folder / "a")
    assert main(["quantize", str(folder / "a"), str(folder / "b"), "--recipe", "q4"]) == 0
    (folder / "codes").mkdir()
    codes = np.random.default_rng(0).integers(0, 40, (2, 1 + RAW_CONFIG["n_q"], FRAMES))
    for number, array in enumerate(codes):
        np.save(folder / "codes" / f"{number}.npy", array)
    return folder, codes


@pytest.fixture
def models(made, tmp_path):
    """A copy of them, for the test to change."""
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    return tmp_path, made[1]


@pytest.fixture(scope="module")
def heard(made, tmp_path_factory):
    """The long report on them, after a short talk of each."""
    out = tmp_path_factory.mktemp("heard") / "r.json"
    assert report(made[0], "--audio", made[0] / "codes", "--frames", 5, "--json", out) == 0
    return out


def report(folder, *options):
    return main(["quantize", "report", str(folder / "a"), str(folder / "b"), *map(str, options)])


def softmax(logits):
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_divergence_and_agreement_against_numpy(models):
    folder, codes = models
    out = folder / "r.json"
    assert report(folder, "--audio", folder / "codes", "--frames", 30, "--json", out) == 0
    talk = json.loads(out.read_text())["talk"]
    a, b = (load_lm(folder / name, dtype="float32").forward(codes) for name in "ab")
    logits_a, logits_b = (
        [np.array(text, np.float64), *np.array(audio, np.float64).swapaxes(0, 1)]
        for text, audio in (a, b)
    )
    delays = RAW_CONFIG["delays"]
    for k, stream in enumerate(talk["streams"]):
        p, q = (softmax(x[k][:, : FRAMES - delays[k]]) for x in (logits_a, logits_b))
        assert stream["positions"] == 2 * (FRAMES - delays[k]) == p[..., 0].size
        kl = (p * np.log(p / q)).sum(-1).mean()
        assert stream["kl_nats"] == pytest.approx(kl, rel=1e-2) and kl > 1e-5
        same = (p.argmax(-1) == q.argmax(-1)).mean()
        assert stream["top1_agreement"] == pytest.approx(same) and same > 0.5
        entropies = [-(x * np.log(x)).sum(-1).mean() for x in (p, q)]
        assert stream["entropy_nats"] == pytest.approx(entropies, rel=1e-3)
    assert [s["name"] for s in talk["streams"]] == ["text", "codebook 1", "codebook 2"]
    assert talk["frames"] == 2 * FRAMES and talk["free_run"]["frames"] == 30
    assert to_json(from_json(out)) == from_json_text(out)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_sentence_says_whether_it_is_good_enough(models, capsys, monkeypatch):
    folder, _ = models
    monkeypatch.setattr(sys, "stderr", bars := Terminal())
    out = folder / "r.json"
    assert report(folder, "--audio", folder / "codes", "--frames", 5, "--json", out) == 0
    told = capsys.readouterr()
    text, *codebooks = json.loads(out.read_text())["talk"]["streams"]
    alike = np.mean([s["top1_agreement"] for s in codebooks])
    assert f": {text['top1_agreement']:.1%} of the text tokens are chosen alike" in told.out
    assert f"and {alike:.1%} of the codes" in told.out
    total = 2 * (2 * FRAMES + 5)  # both models: two conversations, and the free run
    assert f"{total}/{total}" in bars.getvalue(), "the bar of the long half ends where it should"
    assert report(folder) == 0
    assert "wasn't measured: give --audio" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("alike", "says"),
    [
        (1.0, "as good as"),
        (0.99, "as good as"),
        (0.97, "close to"),
        (0.9, "listen"),
        (0.3, "another"),
    ],
)
def test_the_sentence_goes_with_what_was_measured(heard, tmp_path, alike, says):
    out, raw = tmp_path / "r.json", json.loads(heard.read_text())
    raw["talk"]["streams"][0]["top1_agreement"] = alike
    out.write_text(json.dumps(raw))
    assert says in judgement(from_json(out))


def from_json_text(path):
    """As json reads it, with tuples where dataclasses have them."""
    raw = json.loads(path.read_text())
    raw["talk"]["free_run"]["repetition"] = tuple(raw["talk"]["free_run"]["repetition"])
    for r in raw["talk"]["free_run"]["repetition"]:
        r["distinct"] = tuple(r["distinct"])
    for s in raw["talk"]["streams"]:
        s["entropy_nats"] = tuple(s["entropy_nats"])
    return raw


def test_a_model_against_itself_loses_nothing(models, capsys):
    folder, _ = models
    (folder / "b").rename(folder / "q4")
    (folder / "b").symlink_to(folder / "a")
    options = ("--audio", folder / "codes", "--frames", 20, "--json", folder / "r.json")
    assert report(folder, *options) == 0
    found = from_json(folder / "r.json")
    assert found.mean_error == 0 and found.bits_per_weight == 16 and found.talk is not None
    assert all(abs(s.kl_nats) < 1e-6 and s.top1_agreement == 1 for s in found.talk.streams)
    assert found.talk.free_run.first_difference is None and found.talk.free_run.equal_audio == 1
    assert "they part never" in capsys.readouterr().out


def test_errors_of_every_tensor_against_numpy(models):
    folder, _ = models
    assert report(folder, "--json", folder / "r.json") == 0
    found = {layer.name: layer for layer in from_json(folder / "r.json").layers}
    made = mx.load(str(folder / "b" / "model.q4.safetensors"))
    source = mx.load(str(folder / "a" / "model.safetensors"))
    assert isinstance(made, dict) and isinstance(source, dict)
    name = "transformer.layers.1.gating.linear_out"
    original = np.array(source[f"{name}.weight"].astype(mx.float32), np.float64)
    scales, biases = (made[f"{name}.{k}"].astype(mx.float32) for k in ("scales", "biases"))
    bits = np.array(made[f"{name}.weight"])
    steps = np.stack([(bits >> (4 * i)) & 15 for i in range(8)], axis=-1).reshape(original.shape)
    values = steps * np.repeat(np.array(scales), 32, axis=1) + np.repeat(np.array(biases), 32, 1)
    error = np.linalg.norm(values - original) / np.linalg.norm(original)
    assert found[f"{name}.weight"].relative_error == pytest.approx(error, rel=1e-4)
    assert found[f"{name}.weight"].format == "4 bit, group 32"
    assert found["out_norm.weight"].relative_error == 0
    whole = sum(layer.num_bytes for layer in found.values())
    assert whole == sum(array.nbytes for array in made.values())


def test_the_run_itself_prints_and_stores_the_short_report(models, capsys):
    folder, _ = models
    assert main(["quantize", str(folder / "a"), str(folder / "b"), "--force"]) == 0
    stored = from_json(folder / "b" / "quantize_report.json")
    assert stored.recipe == "q4" and stored.original == "a" and stored.talk is None
    said, told = capsys.readouterr()
    assert told == "q4 ...\ncomparing ...\n"  # no bar where there is no terminal
    assert f"{stored.bits_per_weight:.2f} bits per weight" in said
    assert f"{stored.mean_error:.2%} on average" in said and "most: " in said


def test_the_page_is_one_file_with_a_bar_for_every_quantized_tensor(models):
    folder, _ = models
    out = folder / "r.html"
    options = ("--audio", folder / "codes", "--frames", 5)
    assert report(folder, *options, "--html", out, "--json", folder / "r") == 0
    text = out.read_text()
    assert not re.search(r"https?://|<script|@import|url\(", text)
    ((start, end),) = [(m.start(), m.end()) for m in re.finditer(r"<svg.*?</svg>", text, re.S)]
    bars = ET.fromstring(text[start:end]).findall("rect")
    quantized = [x for x in from_json(folder / "r").layers if x.relative_error > 0]
    assert len(bars) == len(quantized) > 20
    assert "codebook 2" in text and "prefers-color-scheme: dark" in text


def test_a_text_in_circles_is_noticed():
    rng = np.random.default_rng(0)
    lively = [int(t) for t in rng.permutation(60)]
    looping = lively[:20] + [7, 8, 9] * 15 + [50]
    assert longest_loop(lively) == (0, 0)
    assert longest_loop(looping) == (45, 3)
    assert longest_loop([1, 1, 1, 1]) == (4, 1) and longest_loop([]) == (0, 0)
    assert longest_loop([1, 2, 3, 1, 2]) == (0, 0)  # not twice in full
    loop, free = repetition(looping), repetition(lively)
    assert loop.loop_repeats == 15 and free.loop_repeats == 0
    assert free.distinct == (1.0, 1.0, 1.0) and loop.distinct[2] < 0.45
    assert free.entropy_bits == pytest.approx(np.log2(60)) and loop.entropy_bits < 4
    assert repetition([5, 5, 5]).entropy_bits == 0 == repetition([]).entropy_bits


def other_shape(folder):
    (folder / "b").rename(folder / "old")
    write_model(folder / "b", RAW_CONFIG | {"dim": 64, "num_heads": 2})


def no_model(folder):
    (folder / "a" / "model.safetensors").unlink()
    (folder / "a" / "mimi.safetensors").unlink()


def empty(folder):
    (folder / "empty").mkdir()


def one_bad_file(folder):
    (folder / "empty").mkdir()
    (folder / "empty" / "x.wav").write_text("no sound")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (no_model, (), "holds no safetensors file"),
        (other_shape, (), "are different models"),
        (lambda f: (f / "b" / "model.q4.safetensors").unlink(), (), "is missing (weights)"),
        (empty, ("--audio", "{}/empty"), "holds no recordings"),
        (one_bad_file, ("--audio", "{}/empty"), "can't be read as sound"),
        (lambda f: None, ("--audio", "{}/none"), "can't be read as a folder of recordings"),
        (lambda f: None, ("--json", "{}/none/r.json"), "is no folder; make it first"),
        (lambda f: None, ("--html", "{}/a"), "is a folder; give the name of a file"),
        (lambda f: None, ("--frames", "0"), "--frames must lie between"),
    ],
)
def test_what_can_go_wrong_is_one_line(models, capsys, change, options, message):
    folder, _ = models
    change(folder)
    before = sorted(folder.rglob("*"))
    capsys.readouterr()
    assert report(folder, "--json", folder / "r.json", *(o.format(folder) for o in options)) == (
        2 if message.startswith("--frames") else 1
    )
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ") and message in said, said
    assert sorted(folder.rglob("*")) == before


def test_a_quantized_original_is_refused(models, capsys):
    folder, _ = models
    assert main(["quantize", "report", str(folder / "b"), str(folder / "b")]) == 1
    assert "quantized already" in capsys.readouterr().err


def test_a_report_that_is_there_needs_force(models, capsys):
    folder, _ = models
    (folder / "r.html").write_text("old")
    assert report(folder, "--html", folder / "r.html") == 1
    assert (
        "r.html exists: choose another name, or replace it with --force" in capsys.readouterr().err
    )
    assert (folder / "r.html").read_text() == "old"
    assert report(folder, "--html", folder / "r.html", "--force") == 0
    assert (folder / "r.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("audio", "message"),
    [("none", "can't be read as a folder of recordings"), ("a", "can't be read as stored codes")],
)
def test_material_of_no_use_is_told_before_any_bar(models, capsys, audio, message):
    folder, _ = models
    capsys.readouterr()
    assert report(folder, "--audio", folder / audio) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and said.count("\n") == 1


def test_no_report_takes_the_place_of_what_is_compared(models, capsys):
    folder, _ = models
    for name in ("a/config.json", "b/tokenizer.model"):
        before = (folder / name).read_bytes()
        assert report(folder, "--json", folder / name, "--force") == 1
        assert f"{folder / name} is the input" in capsys.readouterr().err
        assert (folder / name).read_bytes() == before
