"""One recipe, one name: in chat, bench, doctor, on the page and in recordings, wherever it lies."""

import json
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from app import cli
from app.bench import subject
from app.doctor.preflight import describe, preflight
from app.options.mark import add_mark_options
from app.options.model import add_model_options, engine_from
from moshi_mlx.config.presets import raw_preset
from moshi_mlx.errors import MoshiError
from moshi_mlx.hub import NANO
from moshi_mlx.weights.recipes import RECIPES, name_of, smaller_than
from quantize.checkpoint.checkpoint import open_checkpoint
from quantize.checkpoint.target import make_target
from quantize.recipe.recipes import find_recipe
from tests.support.fakes.doctor_machines import M1_8GB, M1_MAX, M2_AIR, M4_MAX
from tests.support.fakes.web_fakes import FakeEngine, running
from tests.support.models.recipe_models import cached, seven_b, small, without_provenance

NAMES = ("q4", "q8", "bf16", "mxfp4", "mixed-4-6")


def options(model: str) -> Namespace:
    """As a command's parser gives them."""
    parser = ArgumentParser()
    add_model_options(parser)
    add_mark_options(parser)
    return parser.parse_args(["--model", model, "--offline", "--no-mark"])


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Named so that no name says anything."""
    root = tmp_path_factory.mktemp("models")
    return {recipe: small(root / f"talk{i}", recipe) for i, recipe in enumerate(NAMES)}


@pytest.fixture
def repositories(folders, tmp_path, monkeypatch) -> dict[str, str]:
    """The same as repositories that are in the cache."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    names = {recipe: f"somebody/talk{i}" for i, recipe in enumerate(NAMES)}
    for recipe, name in names.items():
        cached(tmp_path, name, folders[recipe])
    return names


async def names_in_use(model: str, tmp_path: Path) -> dict[str, str]:
    """Chat's, the page's, bench's, the doctor's."""
    engine = engine_from(options(model))()
    async with (
        running(FakeEngine(recipe=engine.recipe)) as site,
        site.http.get(f"{site.url}/api/status") as answer,
    ):
        page = (await answer.json())["recipe"]
    facts = replace(M4_MAX, models={model: "complete"})
    found = describe(model, facts)
    assert found is not None
    measured = subject.from_model(options(model), model, facts)
    return {
        "chat": engine.recipe, "page": page, "bench": measured.recipe, "doctor": found.recipe
    }  # fmt: skip


@pytest.mark.parametrize("recipe", NAMES)
async def test_one_name_everywhere(recipe, folders, repositories, tmp_path):
    for model in (str(folders[recipe]), repositories[recipe]):
        assert set((await names_in_use(model, tmp_path)).values()) == {recipe}


@pytest.mark.parametrize("recipe", NAMES)
def test_a_recording_and_the_chat_say_it_too(recipe, folders, tmp_path, capsys):
    said = tmp_path / "said.wav"
    soundfile.write(said, np.zeros(4800, np.float32), 24_000)
    argv = ["chat", "--plain", "--virtual-input", str(said), "--tail", "0", "--no-greeting"]
    argv += ["--model", str(folders[recipe]), "--record", str(tmp_path / "takes")]
    assert cli.main(argv) == 0
    assert f"({recipe}) ready" in capsys.readouterr().err
    (manifest,) = (tmp_path / "takes").glob("**/*.json")
    assert json.loads(manifest.read_text())["recipe"] == recipe


@pytest.mark.parametrize("recipe", [*NAMES, "q5", "mixed-4-8", "nvfp4", "mxfp8"])
def test_the_layers_tell_what_the_config_does_not(recipe, tmp_path):
    folder = small(tmp_path / "out", recipe)
    without_provenance(folder)
    assert name_of(folder) == recipe


def own_recipe(path: Path, rules: dict) -> Path:
    path.write_text(json.dumps(rules))
    make_target(open_checkpoint("nano"), path.with_suffix(""), find_recipe(str(path)))
    return path.with_suffix("")


def test_a_mix_of_ones_own_has_its_name_or_its_layers(tmp_path):
    four, eight = ({"bits": bits, "group_size": 32} for bits in (4, 8))
    folder = own_recipe(tmp_path / "mine.json", {"depformer": eight, "*": four})
    assert name_of(folder) == "mine"
    without_provenance(folder)
    assert name_of(folder) == "q8+q4"
    folder = own_recipe(tmp_path / "q8.json", {"depformer": eight, "*": four})
    assert name_of(folder) == "q8 (own)", "no lie because a file is called so"


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        *[("kyutai/moshiko-mlx-q4", "q4"), ("kyutai/moshika-mlx-bf16", "bf16")],
        *[("me/moshiko-mixed-4-6", "mixed-4-6"), ("me/Moshiko-MXFP4", "mxfp4")],
        *[("me/moshi-4bit", "q4"), ("me/moshi-8-bits-v2", "q8"), ("q4/moshi", "")],
        *[("somebody/something", ""), ("nano", "bf16"), (str(NANO / "model.safetensors"), "bf16")],
    ],
)
def test_a_repository_that_is_not_here_is_known_by_its_name(name, recipe):
    assert name_of(name) == recipe


def test_a_damaged_folder_is_one_line(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(MoshiError, match="has no safetensors header"):
        name_of(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(MoshiError, match="JSON object"):
        name_of(tmp_path)


@pytest.mark.parametrize("made", [{"recipe": {"name": 4}}, {"recipe": []}, "q4", {"bits": "x"}, 3])
def test_what_config_json_says_wrongly_is_not_believed(made, tmp_path):
    folder = small(tmp_path / "out", "q8")
    without_provenance(folder)
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | {"quantization": made}))
    assert name_of(folder) == "q8"


@pytest.mark.parametrize(
    ("facts", "recipe"),
    [
        *((M2_AIR, recipe) for recipe in NAMES),
        *[(M1_8GB, "q4"), (M1_8GB, "q8")],  # nothing is small enough; q4 comes nearest
        *[(M1_MAX, "bf16"), (M4_MAX, "bf16")],  # a smaller one is fast enough; this one is
    ],
    ids=lambda given: getattr(given, "chip", given),
)
def test_the_doctor_judges_a_folder_as_its_repository(recipe, facts, tmp_path):
    """A folder whose name says nothing holds what the repository's name promises."""
    folder, repository = seven_b(tmp_path / "x", recipe), f"kyutai/moshiko-mlx-{recipe}"
    here = replace(facts, models={repository: "complete"})
    lying, named = preflight(folder, here), preflight(repository, here)
    assert lying == named
    if (recipe, facts) == ("q8", M2_AIR):
        assert lying.answer == "no" and "choose q4" in lying.lines[-1]


def test_what_is_smaller():
    assert smaller_than("bf16") == ("q8", "q6", "q4")
    assert smaller_than("q6") == smaller_than("q5") == ("q4",)
    assert smaller_than("mxfp8") == ("q6", "q4")
    assert smaller_than("mixed-4-6") == smaller_than("q4") == ()
    assert smaller_than("q8+q4") is smaller_than("mine") is smaller_than("") is None
    assert all(smaller_than(name) is not None for name in RECIPES)


def test_an_unknown_mix_is_advised_fewer_bits(tmp_path):
    folder = seven_b(tmp_path / "x", "q8")
    rules = {"name": "mine", "rules": []}
    raw = {"quantization": {"recipe": rules}}
    (folder / "config.json").write_text(json.dumps({**raw_preset("moshi-7b"), **raw}))
    found = preflight(folder, M2_AIR)
    assert found.answer == "no" and found.lines[-1].endswith("choose fewer bits")
