"""config.json: every key honoured or refused by name, in one line; presets; Kyutai's defaults."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from moshi_mlx.config.lm_config import SamplingConfig
from moshi_mlx.config.lm_keys import KNOWN, gated_hidden
from moshi_mlx.config.presets import PRESETS, raw_preset
from moshi_mlx.config.reading import load_config, parse_config
from moshi_mlx.errors import ConfigError, MoshiError
from moshi_mlx.helium.config import KNOWN as HELIUM_KNOWN
from moshi_mlx.helium.config import parse_helium_config
from moshi_mlx.mimi import MimiConfig

GOLDEN = Path(__file__).parents[1] / "golden"
TTS = json.loads((GOLDEN / "lm_tts" / "config.json").read_text())
MOSHI = json.loads((GOLDEN / "lm_moshi" / "config.json").read_text())
HELIUM = json.loads((GOLDEN / "helium" / "config.json").read_text())
MIMI = json.loads((GOLDEN / "tiny_mimi" / "mimi_config.json").read_text())
# What a JSON value can be: most of these are wrong for any key.
VALUES = (None, "x", "", [], {}, [1], ["a"], {"a": 1}, [None], -1, 0, 1, 1.5, True, False)
VALUES += (float("nan"), float("inf"), 1e30, 10**12)


def test_no_file_means_the_7b(tmp_path: Path) -> None:
    config = load_config(tmp_path)
    assert config == parse_config(raw_preset("moshi-7b"))
    t, depth = config.transformer, config.depth
    assert depth is not None
    assert (t.dim, t.num_layers, t.num_heads, t.hidden, t.context) == (4096, 32, 32, (11264,), 3000)
    assert (t.norm_eps, t.max_period) == (1e-8, 10_000.0)
    d = depth.transformer
    assert (d.dim, d.num_layers, d.num_heads, set(d.hidden)) == (1024, 6, 16, {2816})
    assert (config.n_q, config.dep_q, config.card, config.text_card) == (16, 8, 2048, 32_000)
    assert config.delays == (0, *(0, 1, 1, 1, 1, 1, 1, 1) * 2)
    assert (config.text_padding_id, config.text_end_padding_id) == (3, 0)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_model(name: str) -> None:
    assert parse_config(raw_preset(name)).transformer.dim >= 1024


def test_an_unknown_preset_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="known: moshi-7b"):
        raw_preset("moshi-8b")


def test_sampling_defaults_are_pytorchs_unless_the_config_says_otherwise() -> None:
    assert parse_config(MOSHI).sampling == SamplingConfig(0.7, 25, 0.0, 0.8, 250, 0.0)
    given = {"temp": 0.5, "top_k": 9, "temp_text": 0.0, "top_k_text": 7}
    sampling = parse_config(MOSHI | {"lm_gen_config": given}).sampling
    assert sampling == SamplingConfig(0.0, 7, 0.0, 0.5, 9, 0.0)
    greedy = parse_config(MOSHI | {"lm_gen_config": {"use_sampling": False}}).sampling
    assert greedy.text_temperature == greedy.audio_temperature == 0


def test_what_may_be_missing_has_pytorchs_defaults() -> None:
    optional = {"layer_scale", "causal", "depformer_dim_feedforward", "depformer_pos_emb"}
    optional |= {"existing_text_padding_id", "max_period", "hidden_scale", "depformer_gating"}
    short = parse_config({k: v for k, v in MOSHI.items() if k not in optional})
    assert short.depth is not None and short.depth.sin_positions
    assert short.transformer.hidden == (gated_hidden(32, 4 * 32),) == (84,)
    assert short.depth.transformer.hidden[0] == gated_hidden(16, 4 * 16) == 42
    null = parse_config(MOSHI | {"depformer_dim_feedforward": None})  # then hidden_scale counts
    assert null.depth is not None
    assert null.depth.transformer.hidden[0] == 2 * int(4.125 * 16) // 3


@pytest.mark.parametrize(
    ("raw", "change", "message"),
    [
        (MOSHI, {"num_layer": 3}, r"unknown keys: num_layer \(did you mean num_layers\?\)"),
        (MOSHI, {"hidden_scale": "4"}, "hidden_scale must be a number above 0, not '4'"),
        (MOSHI, {"norm": "layer_norm"}, "norm = 'layer_norm' can't be built here, only 'rms_norm"),
        (MOSHI, {"gating": "gelu"}, "gating = 'gelu' can't be built here"),
        (MOSHI, {"kv_repeat": 3}, "kv_repeat = 3 does not divide num_heads"),
        (MOSHI, {"depformer_norm": "rms_norm"}, "depformer_norm = 'rms_norm' can't be built"),
        (MOSHI, {"layer_scale": 0.1}, "layer_scale = 0.1 can't be built"),
        (MOSHI, {"delays": [0, 1]}, "delays needs 17 entries"),
        (MOSHI, {"num_heads": 3}, "dim = 32 can't be cut into 3 heads"),
        (MOSHI, {"dep_q": 17}, "dep_q = 17 is more than n_q = 16"),
        (
            MOSHI,
            {"lm_gen_config": {"temperature": 1}},
            "unknown keys in lm_gen_config: temperature",
        ),
        (MOSHI, {"lm_gen_config": {"cfg_coef": "3"}}, "lm_gen_config: cfg_coef must be a number"),
        (MOSHI, {"lm_gen_config": {"cfg_is_no_text": 1}}, "cfg_is_no_text must be true or false"),
        (MOSHI, {"lm_gen_config": {"temp": -1}}, "lm_gen_config: audio_temperature must be"),
        (TTS, {"depformer_weights_per_step_schedule": [0, 2]}, "schedule must name a set of"),
        (TTS, {"fuser": {"sum": ["moood"]}}, "fuser names 'moood'"),
        (TTS, {"fuser": {"prepend": ["mood"]}}, "'prepend' can't be built here"),
        (TTS, {"fuser": {"add": []}}, "unknown keys in fuser: add"),
        (TTS, {"conditioners": {"mood": {"type": "wav"}}}, "conditioner 'mood' has type 'wav'"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(raw: dict, change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_config(raw | change, "config.json")
    assert str(caught.value).startswith("config.json: ")


def test_missing_keys_are_named() -> None:
    with pytest.raises(ConfigError, match="missing keys: dim, context"):
        parse_config({k: v for k, v in MOSHI.items() if k not in ("dim", "context")})
    with pytest.raises(ConfigError, match="missing keys: depformer_dim"):
        parse_config({k: v for k, v in MOSHI.items() if k != "depformer_dim"})


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '"x"', "\xff"])
def test_a_damaged_file_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"config\.json") as caught:
        load_config(tmp_path)
    assert "\n" not in str(caught.value)


def nested(raw: dict) -> list[tuple[str, ...]]:
    """The way to every value that is not itself an object with keys."""
    found: list[tuple[str, ...]] = []
    for key, value in raw.items():
        found.append((key,))
        if isinstance(value, dict):
            found += [(key, *rest) for rest in nested(value)]
    return found


def replaced(raw: dict, way: tuple[str, ...], value: Any) -> dict:
    changed = copy.deepcopy(raw)
    inner = changed
    for key in way[:-1]:
        inner = inner[key]
    inner[way[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("parse", "raw", "known"),
    [
        (parse_config, TTS | {"lm_gen_config": {"temp": 1.0, "top_k": 5}}, KNOWN),
        (parse_config, MOSHI, KNOWN),
        (parse_helium_config, HELIUM, HELIUM_KNOWN),
        (MimiConfig.from_dict, MIMI, []),
    ],
    ids=["tts", "moshi", "helium", "mimi"],
)
def test_no_value_of_any_key_ends_in_anything_but_one_line(parse, raw: dict, known) -> None:
    for way in {*nested(raw), *((key,) for key in known)}:
        for value in VALUES:
            try:
                parse(replaced(raw, way, value))
            except MoshiError as error:
                assert "\n" not in str(error), way
