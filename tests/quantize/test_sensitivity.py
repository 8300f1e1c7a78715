"""Sensitivity by unit and the recipes it chooses: measured right, in size, better than uniform."""

import json
import os

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import moshi_mlx
from app.cli import main
from moshi_mlx.weights.recipes import Recipe
from quantize.calibrated.calibration import Calibration
from quantize.checkpoint.checkpoint import open_checkpoint
from quantize.checkpoint.entries import Entry, Rows
from quantize.errors import QuantizeError
from quantize.mixed.choice import choose
from quantize.mixed.divergence import kl_divergence
from quantize.mixed.sensitivity import Case, measure
from quantize.mixed.units import CHOICES, Unit, units_of
from tests.support.models.quantize_models import write_model
from tests.support.talks.nano_talks import calibration_codes, held_out_kl, nano


def quantize(*args):
    return main(["quantize", *map(str, args)])


def own_codes(folder, count=2):
    folder.mkdir()
    for number in range(count):
        np.save(folder / f"{number}.npy", calibration_codes()[number])
    return folder


@pytest.fixture(scope="module")
def calibration():
    checkpoint = open_checkpoint("nano")
    return Calibration(checkpoint, nano().config, [c[:, :24] for c in calibration_codes()[:2]])


UNITS = ("transformer.layers.2.gating.linear_in", "depformer.slices.2.transformer")


def test_a_unit_costs_what_a_model_with_it_alone_quantized_loses(tmp_path, calibration):
    """The truth: a target of such a recipe, loaded and run whole."""
    units = units_of(calibration.entries(), calibration.config)
    units = [unit for unit in units if unit.name in (*UNITS, "audio_embs")]
    chosen = CHOICES[1]
    streamed, tokens = calibration.streamed(), calibration.tokens()
    cases = measure(streamed, units, tokens, [chosen])
    one_by_one = measure(streamed, units, tokens, [chosen], state_bytes=1)
    assert [case.unit for case in cases] == units
    for case, alone in zip(cases, one_by_one, strict=True):
        np.testing.assert_allclose(case.by_stream, alone.by_stream, rtol=1e-3, atol=1e-7)
        rules = {p: {"bits": 3, "group_size": 64} for p in case.unit.patterns} | {"*": "keep"}
        (tmp_path / "recipe.json").write_text(json.dumps(rules))
        options = ("--recipe", tmp_path / "recipe.json", "--force")
        assert quantize("nano", tmp_path / "out", *options) == 0
        lm = moshi_mlx.load_lm(tmp_path / "out", dtype="float32")
        total = np.zeros(9)
        for codes in calibration.codes:
            pairs = zip(nano().lm.forward(codes[None]), lm.forward(codes[None]), strict=True)
            text, audio = (np.array(kl_divergence(*pair))[0] for pair in pairs)
            total += np.nansum(np.concatenate([text[None], audio]), axis=1)
        frames = np.array([48 - 2 * d for d in nano().config.delays[:9]])
        np.testing.assert_allclose(case.by_stream, total / frames, rtol=1e-3, atol=1e-7)


def covers(pattern, module):
    return Recipe("", ((pattern, None),)).rule_of(module, 6) is not None


def test_every_matrix_is_in_one_unit_and_its_patterns_fit_no_other(calibration):
    entries = calibration.entries()
    units = units_of(entries, calibration.config)
    for entry in entries:
        fits = [u for u in units if any(covers(p, entry.module) for p in u.patterns)]
        holds = [unit for unit in units if entry in unit.entries]
        assert fits == holds or not holds
        assert len(holds) == (len(entry.shape) == 2), entry.name


def unit(name, rows):
    return Unit((name,), (Entry(f"{name}.weight", (Rows(name, 0, rows),), (rows, 64)),))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=5),
    st.lists(st.floats(0.001, 100), min_size=5, max_size=5),
    st.floats(0, 1),
)
def test_a_choice_fits_its_budget_and_is_no_worse_than_a_uniform_one(rows, scales, share):
    units = [unit(f"u{i}", n) for i, n in enumerate(rows)]
    cases = [
        Case(u, chosen, [scales[i] * 4.0**-chosen.bits])
        for i, u in enumerate(units)
        for chosen in CHOICES
    ]
    sizes = [sum(u.num_bytes(chosen) for u in units) for chosen in CHOICES]
    budget = sizes[0] + share * (sizes[-1] - sizes[0])
    found = choose(units, cases, budget)
    assert sum(u.num_bytes(found[u.name]) for u in units) <= budget

    def harm(formats):
        return sum(c.kl for c in cases if formats[c.unit.name] == c.chosen)

    for chosen, size in zip(CHOICES, sizes, strict=True):
        if size <= budget:
            assert harm(found) <= harm({u.name: chosen for u in units})
    with pytest.raises(QuantizeError):
        choose(units, cases, sizes[0] - 1)


@pytest.mark.long
def test_chosen_bits_beat_uniform_ones_at_the_same_size_on_unheard_speech(tmp_path, capsys):
    codes = own_codes(tmp_path / "codes")
    assert quantize("nano", tmp_path / "q4", "--calibrate", codes) == 0
    told = json.loads((tmp_path / "q4" / "config.json").read_text())["quantization"]
    options = ("--target-bits", repr(told["bits_per_weight"]), "--calibrate", codes)
    assert quantize("nano", tmp_path / "fit", *options) == 0
    said = capsys.readouterr().out
    assert "chosen for 5.0" in said and "bit, group 64: " in said
    made = json.loads((tmp_path / "fit" / "config.json").read_text())["quantization"]
    assert told["bits_per_weight"] - 0.05 < made["bits_per_weight"] <= told["bits_per_weight"]
    uniform, chosen = (held_out_kl(tmp_path / which) for which in ("q4", "fit"))
    print(uniform, chosen)
    assert chosen[1] < 0.8 * uniform[1] and sum(chosen) < 0.8 * sum(uniform)
    measured = json.loads((tmp_path / "fit" / "sensitivity.json").read_text())
    assert len(measured["text_linear"]) == len(CHOICES)
    assert measured["text_linear"][0]["text_kl"] > measured["text_linear"][-1]["text_kl"] > 0


@pytest.fixture
def random_source(tmp_path):
    write_model(tmp_path / "source")
    (tmp_path / "codes").mkdir()
    rng = np.random.default_rng(0)
    np.save(tmp_path / "codes" / "a.npy", rng.integers(0, 40, (5, 20)).astype(np.int32))
    return tmp_path / "source"


def test_a_file_is_never_larger_than_asked_and_its_recipe_makes_it_again(random_source, tmp_path):
    source, codes = random_source, tmp_path / "codes"
    options = ("--target-gb", 0.00045, "--calibrate", codes)
    assert quantize(source, tmp_path / "out", *options) == 0
    (made,) = (tmp_path / "out").glob("model.*.safetensors")
    assert 0.97 * 450_000 < made.stat().st_size <= 450_000
    assert moshi_mlx.load_lm(tmp_path / "out").config.dep_q == 2
    options = ("--recipe", tmp_path / "out" / "recipe.json", "--calibrate", codes)
    assert quantize(source, tmp_path / "again", *options) == 0
    again = mx.load(str(tmp_path / "again" / "model.recipe.safetensors"))
    first = mx.load(str(made))
    assert all(mx.array_equal(again[name], first[name]) for name in first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target-bits", "1.5", "--calibrate", "codes"), "1.5 bits can't be reached: "),
        (("--target-gb", "0.0001", "--calibrate", "codes"), "0.0001 GB can't be reached: 0.000"),
        (("--target-bits", "12", "--calibrate", "codes"), "more than the largest choice needs, "),
        (("--target-bits", "4.6"), "need --calibrate DIR"),
        (("--target-bits", "0", "--calibrate", "codes"), "must be a number above 0"),
        (("--target-gb", "nan", "--calibrate", "codes"), "must be a number above 0"),
        (("--target-gb", "1", "--target-bits", "4", "--calibrate", "codes"), "choose one: "),
        (("--target-gb", "1", "--recipe", "q4", "--calibrate", "codes"), "choose one: "),
    ],
)
def test_sizes_that_cannot_be_are_one_line(
    random_source, tmp_path, capsys, monkeypatch, options, message
):
    monkeypatch.chdir(tmp_path)
    usage = message.startswith(("need", "must", "choose"))
    assert quantize("source", "out", *options) == (2 if usage else 1)
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: ") and message in said[-1], said[-1]
    assert sorted(os.listdir(tmp_path)) == ["codes", "source"]
