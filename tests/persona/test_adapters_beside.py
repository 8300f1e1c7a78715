"""Several adapters on one base in memory: which conversation has which, and what they share."""

import json
import shutil

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

import moshi_mlx
from app.machine.random_model import random_lm
from benchmarks.graph import COPY, as_on_metal, kernels
from benchmarks.random_adapter import random_adapter
from moshi_mlx.config.reading import parse_config
from moshi_mlx.errors import MoshiError, WeightsError
from moshi_mlx.weights.adaptation import Adaptation, adapter_name, with_adapter
from moshi_mlx.weights.formats import dequantize
from moshi_mlx.weights.layers import formats_of
from moshi_mlx.weights.loading import lm_from_files
from moshi_mlx.weights.lora import read_adapter
from moshi_mlx.weights.packing import model_names, unpack
from tests.support.models.bench_shapes import SMALL
from tests.support.models.talking_folder import PERSONA, talking_folder

GREEDY = {"seed": 0, "text_temperature": 0.0, "audio_temperature": 0.0}
LORA_Q = PERSONA / "lora_q"
SCALING = 2.0


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return talking_folder(tmp_path_factory.mktemp("base"), LORA_Q, "model.q4.safetensors")


@pytest.fixture(scope="module")
def monk(tmp_path_factory):
    """An adapter in a folder of its own, whose config says another scaling."""
    folder = tmp_path_factory.mktemp("adapters") / "monk"
    folder.mkdir()
    shutil.copyfile(LORA_Q / "lora.safetensors", folder / "lora.safetensors")
    raw = json.loads((LORA_Q / "config.json").read_text())
    raw = {key: value for key, value in raw.items() if key != "lora_name"}
    (folder / "config.json").write_text(json.dumps(raw | {"lora_scaling": -1.5}))
    return folder


@pytest.fixture(scope="module")
def moshi(base, monk):
    adapters = {"pirate": LORA_Q / "lora.safetensors", "monk": monk}
    return moshi_mlx.load(base, dtype="float32", adapters=adapters)


def said(moshi, frames=12, **options):
    noise = np.random.default_rng(3).normal(0, 0.1, (frames, 1920)).astype(np.float32)
    with moshi.session(**GREEDY, **options) as session:
        return [(r.text_token, r.codes) for r in (session.step(frame) for frame in noise)]


def test_a_session_has_the_adapter_that_it_asks_for(moshi, base, monk):
    for name, path in (("pirate", LORA_Q / "lora.safetensors"), ("monk", monk), (None, None)):
        alone = moshi_mlx.load(base, dtype="float32", lora=path)
        for made, wanted in zip(said(moshi, adapter=name), said(alone), strict=True):
            assert made[0] == wanted[0]
            assert np.array_equal(made[1], wanted[1]) or made[1] is wanted[1] is None
    answers = {str(said(moshi, adapter=name)) for name in ("pirate", "monk", None)}
    assert len(answers) == 3  # each says something of its own


def test_conversations_with_several_adapters_do_not_touch_each_other(moshi):
    alone = {name: str(said(moshi, adapter=name)) for name in ("pirate", "monk", None)}
    noise = np.random.default_rng(3).normal(0, 0.1, (12, 1920)).astype(np.float32)
    sessions = {name: moshi.session(**GREEDY, adapter=name) for name in alone}
    told = {name: [] for name in alone}
    for frame in noise:
        for name, session in sessions.items():
            reply = session.step(frame)
            told[name].append((reply.text_token, reply.codes))
    assert {name: str(found) for name, found in told.items()} == alone


def test_the_base_lies_in_memory_once(moshi):
    said(moshi), said(moshi, adapter="pirate")
    own = {id(a) for _, a in tree_flatten(moshi.lm.parameters())}
    for lm in moshi.adapters.values():
        arrays = dict(tree_flatten(lm.parameters()))
        new = {name for name, array in arrays.items() if id(array) not in own}
        assert new and all(name.endswith((".up", ".down")) for name in new)
        assert lm.text_emb is moshi.lm.text_emb  # and what it lays out for lookup


def test_a_model_knows_what_its_adapter_is_called(moshi, base, monk):
    assert moshi.adapter == ""
    assert moshi_mlx.load(base, dtype="float32", lora=monk).adapter == "monk"
    with moshi.session(adapter="pirate") as session:
        assert session.adapter == "pirate"
    with moshi.session() as session:
        assert session.adapter == ""


def test_what_adapters_are_called(tmp_path, monkeypatch):
    (tmp_path / "sailor").mkdir()
    (tmp_path / "sailor" / "lora.safetensors").touch()
    (tmp_path / "cook.safetensors").touch()
    monkeypatch.chdir(tmp_path / "sailor")
    assert adapter_name("lora.safetensors") == "sailor"
    assert adapter_name("..") == tmp_path.name
    assert adapter_name(tmp_path / "cook.safetensors") == "cook"
    assert adapter_name("somebody/moshi-pirate") == "somebody/moshi-pirate"


def test_an_adapter_that_is_not_there_is_told_with_those_that_are(moshi, base):
    with pytest.raises(MoshiError, match=r"no adapter pirat \(did you mean pirate\?\).*pirate, mo"):
        moshi.session(adapter="pirat")
    with pytest.raises(MoshiError, match="there is none"):
        moshi_mlx.load(base, dtype="float32").session(adapter="pirate")


def test_an_adapter_of_another_width_is_refused_while_loading(base):
    other = PERSONA / "lora" / "lora.safetensors"
    with pytest.raises(WeightsError, match="is of another model"):
        moshi_mlx.load(base, adapters={"pirate": other})
    with pytest.raises(WeightsError, match="has no adapter"):
        moshi_mlx.load(base, adapters={"pirate": PERSONA / "base"})


def test_a_model_with_an_adapter_beside_it_takes_no_second_one(moshi):
    with pytest.raises(MoshiError, match="has an adapter beside it already"):
        with_adapter(moshi.adapters["monk"], Adaptation(LORA_Q / "lora.safetensors", SCALING))


def dequantized(lm):
    """A quantized model's tensors in Kyutai's layout, plain float32."""
    modes = formats_of(lm)
    found = unpack(dict(tree_flatten(lm.parameters())), lm.config)
    for layer, ours in model_names(lm.config).items():
        if ours in modes:
            parts = [found.pop(f"{layer}.{kind}") for kind in ("weight", "scales", "biases")]
            found[f"{layer}.weight"] = dequantize(parts, modes[ours])
    return found


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """An adapter with fine-tuned embeddings (`ft_embed`), all of them new."""
    lm = moshi_mlx.load_lm(LORA_Q / "model.q4.safetensors", dtype="float32", lora=None)
    tensors = dict(mx.load(str(LORA_Q / "lora.safetensors")))
    config, rng = lm.config, np.random.default_rng(5)
    shapes = {f"emb.{k}": (config.card + 1, config.transformer.dim) for k in range(config.n_q)}
    shapes |= {"text_emb": (config.text_card + 1, config.transformer.dim)}
    shapes |= {"depformer_text_emb": (config.text_card + 1, 64)}
    shapes |= {"depformer_emb.0": (config.card + 1, 64)}
    for name, shape in shapes.items():
        tensors[f"{name}.weight"] = mx.array(rng.normal(0, 0.3, shape).astype(np.float32))
    path = tmp_path_factory.mktemp("tuned") / "lora.safetensors"
    mx.save_safetensors(str(path), tensors)
    return path


@pytest.mark.parametrize("bits", ["q4", "q8"])
@pytest.mark.parametrize("how", ["of the model", "one of several"])
def test_fine_tuned_embeddings_replace_quantized_ones(tuned, tmp_path, bits, how):
    """Against a plain model that is made of the quantized one's own numbers, and merged."""
    plain_base = talking_folder(tmp_path / "plain", LORA_Q)
    quantized = talking_folder(tmp_path / bits, LORA_Q, f"model.{bits}.safetensors")
    original = moshi_mlx.load_lm(quantized, dtype="float32")
    mx.save_safetensors(str(plain_base / "model.safetensors"), dequantized(original))
    wanted = moshi_mlx.load_lm(plain_base, dtype="float32", lora=tuned, lora_mode="merged")
    if how == "one of several":
        found = with_adapter(original, Adaptation(tuned, SCALING))
    else:
        found = moshi_mlx.load_lm(quantized, dtype="float32", lora=tuned)
    codes = np.random.default_rng(0).integers(0, 40, (1, 1 + found.config.n_q, 30))
    for made, want in zip(found.forward(codes), wanted.forward(codes), strict=True):
        assert np.nanmax(np.abs(np.array(made) - np.array(want))) < 1e-4
    untouched = moshi_mlx.load_lm(quantized, dtype="float32")
    for made, want in zip(original.forward(codes), untouched.forward(codes), strict=True):
        assert np.array_equal(np.array(made), np.array(want), equal_nan=True)


@pytest.mark.parametrize("weights", ["model.safetensors", "model.q4.safetensors"])
def test_an_adapter_beside_adds_two_products_a_layer_and_no_more(weights, tmp_path):
    def frame(lm):
        with as_on_metal():
            generator = lm.generator(seed=0, text_temperature=0.71)
            submitted = generator.submit(np.zeros(lm.config.user_q, np.int32))
            return kernels([*submitted.arrays(), *generator.buffers.arrays()])

    lm = moshi_mlx.load_lm(LORA_Q / weights, dtype="float32", lora_mode="beside")
    plain = moshi_mlx.load_lm(talking_folder(tmp_path, LORA_Q, weights), dtype="float32")
    layers = 4 + 1 + 2 * (4 + 1) + 1  # temporal, text head, slices with their heads, their inputs
    found, without = frame(lm), frame(plain)
    assert sum(found.values()) - sum(without.values()) == 2 * layers
    assert COPY not in found


@pytest.mark.parametrize("recipe", ["fp32", "q4"])
def test_any_rank_and_any_number_of_slices_fits(tmp_path, recipe):
    """A shape of other sizes: what lies beside adds what merging would."""
    lm = random_lm(parse_config(SMALL, "small"), recipe, "float32")
    path = random_adapter(lm.config, 3, tmp_path / "lora.safetensors")
    found = with_adapter(lm, Adaptation(path, SCALING))
    adapter, plain = read_adapter(path, lm.config, SCALING), dequantized(lm)
    for layer, pair in adapter.pairs.items():
        plain[f"{layer}.weight"] = plain[f"{layer}.weight"] + pair.delta
    mx.save_safetensors(str(tmp_path / "model.safetensors"), plain)
    wanted = lm_from_files([tmp_path / "model.safetensors"], lm.config, "float32")
    codes = np.random.default_rng(0).integers(0, 60, (1, 1 + lm.config.n_q, 20))
    for made, want in zip(found.forward(codes), wanted.forward(codes), strict=True):
        assert np.nanmax(np.abs(np.array(made) - np.array(want))) < 1e-4
    assert [s.sampled.tolist() for s in steps(found)] == [s.sampled.tolist() for s in steps(wanted)]


def steps(lm):
    generator = lm.generator(**GREEDY)
    return [generator.step(np.zeros(lm.config.user_q, np.int32)) for _ in range(10)]
