"""Recipes: what each stores where, a user's own file, and what to do with widths that don't fit."""

import json
from fnmatch import fnmatchcase

import pytest

from moshi_mlx.config.presets import PRESETS, raw_preset
from moshi_mlx.config.reading import parse_config
from moshi_mlx.errors import UsageError
from moshi_mlx.weights.recipes import Format, Recipe, fitting
from moshi_mlx.weights.tensor_names import expected
from quantize.errors import QuantizeError
from quantize.recipe.recipes import RECIPES, find_recipe


def test_kyutais_own_choices():
    assert RECIPES["q4"].format_of("text_emb", 32) == Format(4, 32)
    assert RECIPES["q8"].format_of("transformer.layers.3.gating.linear_in", 32) == Format(8, 64)


@pytest.mark.parametrize(
    ("path", "bits"),
    [
        ("text_emb", 6),
        ("audio_embs.7", 6),
        ("text_linear", 6),
        ("transformer.layers.0.self_attn.in_proj", 6),
        ("transformer.layers.31.gating.linear_out", 6),
        ("transformer.layers.30.gating.linear_out", 4),
        ("transformer.layers.1.self_attn.in_proj", 4),
        ("depformer.slices.7.transformer.layers.3.gating.linear_in", 6),
        ("depformer.slices.0.emb", 6),
    ],
)
def test_mixed_spends_bits_where_it_hurts(path, bits):
    chosen = RECIPES["mixed-4-6"].format_of(path, num_layers=32)
    assert chosen is not None and chosen.bits == bits


def high_in_mixed(path, num_layers):
    """The sensitive modules once more, by shell patterns over whole names."""
    patterns = ("text_emb", "text_emb.*", "audio_embs.*", "text_linear", "extra_heads.*")
    patterns += ("condition_provider.*", "depformer.*")
    patterns += ("transformer.layers.0.*", f"transformer.layers.{num_layers - 1}.*")
    return any(fnmatchcase(path, pattern) for pattern in patterns)


@pytest.mark.parametrize("model", sorted(PRESETS))
def test_what_built_in_recipes_mean_for_every_layer_of_kyutais_models(model):
    config = parse_config(raw_preset(model))
    layers, high = config.transformer.num_layers, 0
    for module in (name.rpartition(".")[0] for name in expected(config)):
        mixed = RECIPES["mixed-4-6"].format_of(module, layers)
        assert mixed is not None
        assert mixed.bits == (6 if high_in_mixed(module, layers) else 4), module
        high += mixed.bits == 6
        assert RECIPES["q8"].format_of(module, layers) == Format(8, 64)
        assert RECIPES["mxfp4"].format_of(module, layers) == Format(4, 32, "mxfp4")
    assert high > 12


@pytest.mark.parametrize(
    ("pattern", "path", "covers"),
    [
        ("*", "transformer.layers.3.gating.linear_in", True),  # and all that lies below
        ("depformer", "depformer.slices.0.emb", True),
        ("dep", "depformer.slices.0.emb", False),
        ("dep*", "depformer.slices.0.emb", True),
        ("depformer.*", "depformer.slices.0.emb", True),
        ("depformer.slices.*.linear_in", "depformer.slices.3.linear_in", True),
        (
            "depformer.slices.*.linear_in",
            "depformer.slices.3.transformer.layers.0.gating.linear_in",
            False,
        ),
        ("**.linear_in", "depformer.slices.3.transformer.layers.0.gating.linear_in", True),
        ("**.linear_in", "transformer.layers.0.gating.linear_out", False),
        ("depformer.**.linear_in", "transformer.layers.0.gating.linear_in", False),
        ("depformer.**.linear_in", "depformer.slices.3.linear_in", True),
        ("**", "text_emb", True),
        ("*.linear_in", "transformer.layers.0.gating.linear_in", False),
        ("transformer.layers.1", "transformer.layers.10.norm1", False),
        ("transformer.layers.[0-3]", "transformer.layers.2.norm1", True),
        ("transformer.layers.-2", "transformer.layers.30.norm1", True),
        ("transformer.layers.-2", "transformer.layers.31.norm1", False),
    ],
)
def test_a_star_is_one_part_and_a_pattern_covers_what_lies_below(pattern, path, covers):
    recipe = Recipe("mine", ((pattern, Format(4, 32)),))
    assert (recipe.format_of(path, num_layers=32) is not None) == covers


def test_bits_per_weight_counts_the_scales():
    assert Format(4, 32).bits_per_weight == 5.0
    assert Format(8, 64).bits_per_weight == 8.5
    for recipe, bits in (("mxfp4", 4.25), ("nvfp4", 4.5)):
        chosen = RECIPES[recipe].format_of("x", 1)
        assert chosen is not None and chosen.bits_per_weight == bits


@pytest.mark.parametrize(
    ("asked", "width", "got"),
    [
        (Format(8, 64), 128, Format(8, 64)),
        (Format(8, 64), 352, Format(8, 32)),
        (Format(8, 128), 192, Format(8, 64)),
        (Format(4, 32), 176, None),
        (Format(4, 16, "nvfp4"), 176, Format(4, 16, "nvfp4")),
        (Format(4, 32, "mxfp4"), 176, None),
    ],
)
def test_a_width_that_no_group_divides_takes_a_smaller_group_or_is_kept(asked, width, got):
    assert fitting(asked, width) == got


def test_a_recipe_of_ones_own(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(
        json.dumps({"text_emb": "keep", "depformer": "mxfp8", "*": {"bits": 3, "group_size": 32}})
    )
    recipe = find_recipe(str(path))
    assert recipe.name == "mine"
    assert recipe.format_of("text_emb", 2) is None
    assert recipe.format_of("depformer.slices.0.emb", 2) == Format(8, 32, "mxfp8")
    assert recipe.format_of("anything.else", 2) == Format(3, 32)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "can't be read as JSON"),
        ("[]", "must hold one JSON object"),
        ("{}", "must map patterns"),
        ('{"*": 4}', 'must be "keep"'),
        ('{"*": {"bits": 7}}', "bits 2, 3, 4, 5, 6, 8"),
        ('{"*": {"bits": 4, "group_size": 16}}', "group_size 128, 64, 32"),
        ('{"*": {"bit": 4}}', "unknown keys bit"),
        ('{"*": {"mode": "nvfp4", "group_size": 32}}', "group size 16 only"),
    ],
)
def test_a_broken_recipe_says_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(QuantizeError, match=message):
        find_recipe(str(path))


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(UsageError, match="unknown recipe 'q7'; known: q8, q6, q5, q4, q3, mixed"):
        find_recipe("q7")
