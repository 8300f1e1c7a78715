"""Helium against transformers: logits, greedy text through mlx-lm's generation, `moshi text`."""

import io
import json
import shutil
from functools import cache
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
import numpy as np
import pytest
import sentencepiece
from mlx.utils import tree_flatten
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import make_prompt_cache

import moshi_mlx
from app.cli import main
from moshi_mlx.config.presets import raw_preset
from moshi_mlx.config.reading import parse_config
from moshi_mlx.errors import ConfigError, MoshiError, WeightsError
from moshi_mlx.helium.config import parse_helium_config
from moshi_mlx.helium.model import Helium, load_helium
from moshi_mlx.text.tokenizer import load_tokenizer
from tests.support.models.helium_goldens import KYUTAI_CONFIG, write_tied
from tests.support.models.lm_goldens import GOLDEN

MODELS = ("helium", "helium_grouped", "kyutai", "kyutai_config")
PROSE = ["the cat sat on the mat and saw a very old dog", "a dog ran to the old cat, and sat"] * 9


@pytest.fixture(params=MODELS)
def folder(request, tmp_path: Path) -> Path:
    """A model folder in transformers' layout or under Kyutai's names, with either's config."""
    if request.param.startswith("helium"):
        return GOLDEN / request.param
    shutil.copy(GOLDEN / "helium" / "kyutai.safetensors", tmp_path / "helium-1-tiny.safetensors")
    if request.param == "kyutai":
        shutil.copy(GOLDEN / "helium" / "config.json", tmp_path)
    else:
        (tmp_path / "config.json").write_text(json.dumps(KYUTAI_CONFIG))
    return tmp_path


@cache
def golden(name: str) -> dict[str, np.ndarray]:
    arrays = mx.load(str(GOLDEN / name / "golden.safetensors"))
    assert isinstance(arrays, dict)
    return {key: np.array(value) for key, value in arrays.items()}


def golden_of(folder: Path) -> dict[str, np.ndarray]:
    return golden(folder.name if folder.parent == GOLDEN else "helium")


def test_logits_equal_transformers_at_once_and_token_by_token(folder: Path) -> None:
    model, want = load_helium(folder, dtype="float32"), golden_of(folder)
    ids = mx.array(want["ids"])[None]
    np.testing.assert_allclose(np.array(model(ids))[0], want["logits"], atol=1e-4)
    cache = make_prompt_cache(model)
    steps = [model(ids[:, t : t + 1], cache=cache) for t in range(ids.shape[1])]
    np.testing.assert_allclose(np.array(mx.concatenate(steps, 1))[0], want["logits"], atol=1e-4)


def test_mlx_lms_generation_gives_transformers_greedy_text(folder: Path) -> None:
    model, want = load_helium(folder, dtype="float32"), golden_of(folder)
    count = len(want["greedy"])
    # The prompt in chunks, as mlx-lm feeds a long one.
    steps = generate_step(mx.array(want["ids"]), model, max_tokens=count, prefill_step_size=7)
    assert [int(token) for token, _ in steps] == want["greedy"].tolist()


def test_mlx_lms_protocol() -> None:
    model = moshi_mlx.load_helium(GOLDEN / "helium")
    assert isinstance(model, Helium) and len(model.layers) == len(model.make_cache()) == 2
    assert model.text_emb.weight.dtype == mx.bfloat16  # dtype None: as stored
    assert model(mx.array([[1, 5], [2, 7]])).shape == (2, 2, 96)


def test_a_window_is_exactly_as_long_as_the_config_says(tmp_path: Path) -> None:
    """Context 6 in Kyutai's config: each token's logits come from at most 6 x layers tokens."""
    shutil.copy(GOLDEN / "helium" / "kyutai.safetensors", tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(KYUTAI_CONFIG | {"context": 6}))
    model = load_helium(tmp_path, dtype="float32")
    ids = np.array(golden("helium")["ids"])
    at_once = np.array(model(mx.array(ids)[None]))[0]
    other = ids.copy()
    other[0] = (other[0] + 1) % 96
    changed = np.abs(np.array(model(mx.array(other)[None]))[0] - at_once).max(-1) > 1e-6
    reach = 1 + 2 * (6 - 1)  # two layers, each 5 tokens further back
    assert changed[:reach].all() and not changed[reach:].any()
    cache = model.make_cache()
    steps = [model(mx.array(ids[None, t : t + 1]), cache=cache) for t in range(len(ids))]
    np.testing.assert_allclose(np.array(mx.concatenate(steps, 1))[0], at_once, atol=1e-4)


@pytest.mark.parametrize("bits", [4, 8])
def test_quantized_files_in_both_layouts_load_without_a_flag(bits: int, tmp_path: Path) -> None:
    model = load_helium(GOLDEN / "helium", dtype="float32")

    def fits(path: str, module: nn.Module) -> bool:  # 88 columns are not whole groups
        return hasattr(module, "to_quantized") and not path.endswith("gating.linear_out")

    nn.quantize(model, group_size=32, bits=bits, class_predicate=fits)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for at in (ours, theirs):
        at.mkdir()
        shutil.copy(GOLDEN / "helium" / "config.json", at)
    tensors = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(ours / "model.safetensors"), tensors)
    mx.save_safetensors(str(theirs / "model.safetensors"), transformers_names(tensors))
    ids = mx.array(golden("helium")["ids"])[None]
    for at in (ours, theirs):
        loaded = load_helium(at, dtype="float32")
        np.testing.assert_allclose(np.array(loaded(ids)), np.array(model(ids)), atol=1e-5)


def transformers_names(tensors: dict[str, mx.array]) -> dict[str, mx.array]:
    """What mlx-lm writes for a quantized Helium: q, k and v, gate and up are layers apart."""
    found = {}
    plain = {"text_emb": "model.embed_tokens", "out_norm": "model.norm", "text_linear": "lm_head"}
    renamed = {
        **{"norm1": "input_layernorm", "norm2": "post_attention_layernorm"},
        **{"self_attn.out_proj": "self_attn.o_proj", "gating.linear_out": "mlp.down_proj"},
    }
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        if layer in plain:
            found[f"{plain[layer]}.{kind}"] = tensor
            continue
        _, _, i, rest = layer.split(".", 3)
        at = f"model.layers.{i}"
        if rest == "self_attn.in_proj":
            for p, part in zip("qkv", mx.split(tensor, 3), strict=True):
                found[f"{at}.self_attn.{p}_proj.{kind}"] = part
        elif rest == "gating.linear_in":
            for p, part in zip(("gate", "up"), mx.split(tensor, 2), strict=True):
                found[f"{at}.mlp.{p}_proj.{kind}"] = part
        else:
            found[f"{at}.{renamed[rest]}.{kind}"] = tensor
    return found


def test_a_tied_head_that_is_stored_as_well_is_the_embedding(tmp_path: Path) -> None:
    plain, stored = (write_tied(tmp_path / name, head) for name, head in (("a", None), ("b", 0.0)))
    ids = mx.array([[3, 1, 4, 1, 5, 9]])
    models = [load_helium(folder, dtype="float32") for folder in (plain, stored)]
    assert mx.array_equal(*(model(ids) for model in models))
    assert all("text_linear" not in dict(model.named_modules()) for model in models)
    with pytest.raises(
        WeightsError, match=r"lm_head.weight differs .* config.json says that they are one"
    ):
        load_helium(write_tied(tmp_path / "c", 0.01))


def test_weights_in_shards(tmp_path: Path) -> None:
    tensors = mx.load(str(GOLDEN / "helium" / "model.safetensors"))
    assert isinstance(tensors, dict)
    shutil.copy(GOLDEN / "helium" / "config.json", tmp_path)
    names = sorted(tensors)
    where = {}
    for i, part in enumerate((names[::2], names[1::2])):
        file = f"model-0000{i + 1}-of-00002.safetensors"
        mx.save_safetensors(str(tmp_path / file), {name: tensors[name] for name in part})
        where |= dict.fromkeys(part, file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    ids, want = mx.array(golden("helium")["ids"])[None], golden("helium")["logits"]
    ours = np.array(load_helium(tmp_path, dtype="float32")(ids))[0]
    np.testing.assert_allclose(ours, want, atol=1e-4)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"no weights at .*00002-of-00002"):
        load_helium(tmp_path)


RAW = json.loads((GOLDEN / "helium" / "config.json").read_text())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_siz": 32}, r"unknown keys: hidden_siz \(did you mean hidden_size\?\)"),
        ({"vocab_size": "many"}, "vocab_size must be a whole number"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu' can't be built here"),
        ({"attention_bias": True}, "attention_bias = True can't be built"),
        ({"model_type": "llama"}, "mlx_lm runs other text models"),
        ({"num_key_value_heads": 3}, "does not divide 4 heads"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type = 'yarn'"),
        ({"rope_theta": 5.0}, "rope_theta is given twice"),
    ],
)
def test_a_config_is_honoured_or_refused(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_helium_config(RAW | change)


def test_what_is_missing_or_a_speech_model_is_said() -> None:
    with pytest.raises(ConfigError, match="missing keys: vocab_size"):
        parse_helium_config({k: v for k, v in RAW.items() if k != "vocab_size"})
    with pytest.raises(ConfigError, match="this is a speech model, not Helium"):
        parse_helium_config(raw_preset("moshi-7b"))


def test_the_2b_preset_has_transformers_sizes() -> None:
    ours = parse_helium_config(raw_preset("helium-2b"))
    t = ours.transformer
    assert (t.dim, t.num_layers, t.num_heads, t.hidden) == (2560, 24, 20, (7040,))
    assert (ours.vocab_size, t.max_period, t.norm_eps) == (48_000, 100_000.0, 1e-8)
    assert parse_config(raw_preset("helium-2b")).dep_q == 0


@pytest.fixture(params=["tokenizer.model", "tokenizer.json"])
def speaking(request, tmp_path: Path) -> Path:
    """The golden Helium beside a tokenizer of either kind."""
    for name in ("config.json", "model.safetensors"):
        shutil.copy(GOLDEN / "helium" / name, tmp_path)
    if request.param.endswith(".json"):
        import tokenizers
        from tokenizers import decoders, models, pre_tokenizers, trainers

        tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        special = ["<unk>", "<s>", "</s>", "<pad>"]
        trainer = trainers.BpeTrainer(vocab_size=96, special_tokens=special, show_progress=False)
        tokenizer.train_from_iterator(PROSE, trainer)
        tokenizer.save(str(tmp_path / request.param))
    else:
        written = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(PROSE),
            model_writer=written,
            vocab_size=60,
            hard_vocab_limit=False,
            minloglevel=2,
        )
        (tmp_path / request.param).write_bytes(written.getvalue())
    return tmp_path


def test_mlx_lms_generate_runs_with_the_tokenizer_beside(speaking: Path) -> None:
    helium = moshi_mlx.load_helium(speaking, dtype="float32")
    text = mlx_lm.generate(helium, helium.tokenizer, prompt="the cat", max_tokens=12)
    (file,) = speaking.glob("tokenizer.*")
    tokenizer = load_tokenizer(file)
    ids = [1, *tokenizer.encode("the cat")]
    steps = generate_step(mx.array(ids), helium, max_tokens=12)
    found: list[int] = []
    for token, _ in steps:
        if int(token) in helium.config.eos_token_ids:
            break
        found += [int(token)] if int(token) < len(tokenizer) else []
    assert found and text.strip() == tokenizer.decode(found).strip()
    plain = helium.tokenizer
    assert plain.encode("the cat") == ids and plain.encode("the cat", add_special_tokens=False)
    assert plain.convert_tokens_to_ids(plain.bos_token) == 1 and len(plain) == len(tokenizer)
    with pytest.raises(MoshiError, match="no chat template"):
        plain.apply_chat_template([])


def test_a_helium_without_a_tokenizer_says_so() -> None:
    with pytest.raises(WeightsError, match="has no tokenizer file"):
        moshi_mlx.load_helium(GOLDEN / "helium").tokenizer  # noqa: B018
    with pytest.raises(WeightsError, match="without a folder"):
        Helium(parse_helium_config(RAW)).tokenizer  # noqa: B018


def test_moshi_text_streams_a_completion(speaking: Path, capsys) -> None:
    options = ["--model", str(speaking), "--max-tokens", "12", "--temperature", "0"]
    assert main(["text", "--prompt", "the cat", *options]) == 0
    said = capsys.readouterr()
    (file,) = speaking.glob("tokenizer.*")
    tokenizer = load_tokenizer(file)
    ids = [1, *tokenizer.encode("the cat")]
    model = load_helium(speaking, "float32")
    steps = generate_step(mx.array(ids), model, max_tokens=12)
    stream = tokenizer.stream((1, 2))
    assert said.out == "the cat" + "".join(stream.push(int(t)) for t, _ in steps) + "\n"
    assert "12 tokens" in said.err
    assert said.out.strip() != "the cat"


def test_moshi_text_with_a_seed_is_repeatable(speaking: Path, capsys) -> None:
    def completion(seed: str) -> str:
        options = ["--model", str(speaking), "--max-tokens", "20", "--seed", seed]
        assert main(["text", "a dog", "--top-k", "40", *options]) == 0
        return capsys.readouterr().out

    assert completion("1") == completion("1") != completion("2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", "  "], "the prompt is empty"),
        ([], "give a text to continue"),
        (["x", "--prompt", "y"], "give the text once"),
        (["--prompt", "x", "--top-p", "0"], "--top-p must lie above 0"),
        (["--prompt", "x", "--model", "nano"], "this is a speech model, not Helium"),
        (["--prompt", "x", "--model", "./no/folder"], "neither a folder here nor a repository"),
        (["--prompt", "x"], "has no tokenizer file"),
    ],
)
def test_moshi_texts_bad_input_is_one_line(options: list[str], message: str, capsys) -> None:
    model = [] if "--model" in options else ["--model", str(GOLDEN / "helium_grouped")]
    assert main(["text", *options, *model]) == (
        2 if message.startswith(("--", "the prompt", "give")) else 1
    )
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
