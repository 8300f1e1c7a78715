"""PersonaPlex, the RL checkpoints and J-Moshi by name, from a hub on 127.0.0.1: small models in the
published files, licences first, what is gated told with what to do."""

import json
import math
import os
import tarfile

import numpy as np
import pytest
import soundfile
from huggingface_hub import ModelCardData

import moshi_mlx
from app.cli import main
from app.doctor.preflight import describe
from moshi_mlx import hub
from moshi_mlx.clock import FRAME_SAMPLES, SAMPLE_RATE_HZ
from moshi_mlx.config import load_config
from moshi_mlx.config.presets import raw_preset
from moshi_mlx.config.reading import parse_config
from moshi_mlx.errors import ConfigError, DownloadError, WeightsError
from moshi_mlx.hub.licences import licence_on, non_commercial
from moshi_mlx.persona.voice_files import voices_in
from moshi_mlx.weights.tensor_names import expected
from quantize.checkpoint.checkpoint import open_checkpoint, plan_of
from quantize.recipe.recipes import RECIPES
from tests.support.fakes.doctor_machines import M2_AIR
from tests.support.fakes.fake_hub import serving
from tests.support.models.talking_folder import PERSONA, talking_folder

PUBLISHED = {"model_type": "personaplex", "version": "7b-v1"}
NON_COMMERCIAL = "cc-by-nc-4.0"
GREEDY = ["--text-temperature", "0", "--audio-temperature", "0", "--seed", "0"]
MIMI, TOKENIZER = "tokenizer-e351c8d8-checkpoint125.safetensors", "tokenizer_spm_32k_3.model"


@pytest.fixture
def fake(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serving(monkeypatch) as server:
        yield server


@pytest.fixture
def personaplex(tmp_path):
    """The files of a small one, its sizes in its config as no published one's are."""
    folder = talking_folder(
        tmp_path / "files",
        PERSONA / "personaplex",
        **{"mimi_name": MIMI, "tokenizer_name": TOKENIZER},
        moshi_name=None,
    )
    (folder / "mimi.safetensors").rename(folder / MIMI)
    (folder / "tokenizer.model").rename(folder / TOKENIZER)
    with tarfile.open(folder / "voices.tgz", "w:gz") as tar:
        tar.add(PERSONA / "personaplex" / "voice.pt", "voices/NATF2.pt")
    return {path.name: path.read_bytes() for path in folder.iterdir()} | {"dist.tgz": b"page"}


@pytest.mark.parametrize("name", ["nvidia/personaplex-7b-v1", "kyutai/personaplex-rl-seamless"])
def test_it_talks_and_is_quantized_by_its_name(fake, personaplex, name, tmp_path, capsys):
    fake.repositories[name] = personaplex
    fake.cards[name] = {"license": NON_COMMERCIAL}
    target, out = tmp_path / "q8", tmp_path / "out.wav"
    assert main(["quantize", name, str(target), "--recipe", "q8"]) == 0
    assert "cc-by-nc-4.0: not for commercial use" in capsys.readouterr().err
    question = str(tmp_path / "question.wav")
    soundfile.write(question, np.zeros(FRAME_SAMPLES), SAMPLE_RATE_HZ)
    for model in (name, str(target)):
        command = ["file", question, str(out), "--model", model, "--force", "--tail", "1"]
        assert main([*command, *GREEDY]) == 0 and soundfile.info(out).frames > 0
    assert (target / "voices.tgz").read_bytes() == personaplex["voices.tgz"]
    assert list(voices_in(target)) == ["NATF2"]
    lm = moshi_mlx.load_lm(target, dtype="float32")
    assert (lm.config.dep_q, lm.config.user_q) == (8, 8)
    assert not any("dist.tgz" in path for _, path, _ in fake.requests)


def test_a_fine_tuned_moshi_is_an_ordinary_one(fake, tmp_path):
    """kyutai/moshika-rl-seamless."""
    folder = talking_folder(tmp_path / "files", PERSONA / "base")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    fake.repositories["kyutai/moshika-rl-seamless"] = files
    moshi = moshi_mlx.load("kyutai/moshika-rl-seamless", dtype="float32")
    assert (moshi.config.dep_q, moshi.config.user_q) == (8, 8)


@pytest.mark.parametrize(
    ("name", "config", "slices"),
    [
        ("nvidia/personaplex-7b-v1", json.dumps(PUBLISHED).encode(), 16),
        ("kyutai/personaplex-rl-seamless", json.dumps(PUBLISHED).encode(), 16),
        ("nu-dialogue/j-moshi", None, 8),
        ("nu-dialogue/j-moshi-ext", None, 8),
    ],
)
def test_without_sizes_it_is_taken_for_the_7b(fake, personaplex, name, config, slices, tmp_path):
    """The small model in its place doesn't fit, and is told against the 7B's widths."""
    files = {key: value for key, value in personaplex.items() if key != "config.json"}
    if slices == 8:
        files["model.safetensors"] = (PERSONA / "base" / "model.safetensors").read_bytes()
    fake.repositories[name] = files if config is None else files | {"config.json": config}
    folder = hub.resolve(name)
    found, moshi = load_config(folder), parse_config(raw_preset("moshi-7b"))
    assert (found.transformer, found.delays) == (moshi.transformer, moshi.delays)
    assert (found.dep_q, found.user_q) == (8, 8)
    assert found.depth is not None and found.depth.file_weight_sets == slices
    with pytest.raises(WeightsError, match=r"lacks depformer.*does not fit its config\.json"):
        moshi_mlx.load(name)


def shapes_of(slices):
    """Every tensor of the published files: Kyutai's PyTorch names, the 7B's widths."""
    dim, depth, hidden, inner = 4096, 1024, 11264, 2816
    found = {"text_emb.weight": (32001, dim), "text_linear.weight": (32000, dim)}
    found |= {"out_norm.alpha": (1, 1, dim), "depformer_text_emb.weight": (32001, depth)}
    found |= {f"emb.{k}.weight": (2049, dim) for k in range(16)}
    found |= {f"depformer_emb.{k}.weight": (2049, depth) for k in range(slices - 1)}
    found |= {f"depformer_in.{s}.weight": (depth, dim) for s in range(slices)}
    found |= {f"linears.{s}.weight": (2048, depth) for s in range(slices)}
    for at, layers, width, sets in (("transformer", 32, dim, 1), ("depformer", 6, depth, slices)):
        for n in range(layers):
            layer = f"{at}.layers.{n}"
            found |= {f"{layer}.norm{i}.alpha": (1, 1, width) for i in (1, 2)}
            found[f"{layer}.self_attn.in_proj_weight"] = (3 * sets * width, width)
            found[f"{layer}.self_attn.out_proj.weight"] = (sets * width, width)
            gates = (
                [f"{layer}.gating"] if sets == 1 else [f"{layer}.gating.{s}" for s in range(sets)]
            )
            for gate in gates:
                wide = hidden if sets == 1 else inner
                found[f"{gate}.linear_in.weight"] = (2 * wide, width)
                found[f"{gate}.linear_out.weight"] = (width, wide)
    return found


@pytest.mark.parametrize(("slices", "config"), [(16, PUBLISHED), (8, None)])
def test_a_file_of_the_published_shapes_is_planned_whole(tmp_path, slices, config):
    """16.7 GB of nothing: a header, and a hole behind it. Only headers are read."""
    shapes = shapes_of(slices)
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    if slices == 16:  # as published
        assert len(shapes) == 475 and at == 16_742_817_792
    encoded = json.dumps(header).encode()
    with open(tmp_path / "model.safetensors", "wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        file.truncate(8 + len(encoded) + at)
    (tmp_path / TOKENIZER).write_bytes(b"pieces")
    (tmp_path / MIMI).write_bytes(b"mimi")
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    plan = plan_of(open_checkpoint(str(tmp_path)), RECIPES["q4"])
    moshi = parse_config(raw_preset("moshi-7b"))
    assert {p.entry.name: p.entry.shape for p in plan} == expected(moshi)


@pytest.mark.parametrize("config", ["config.json", None])
def test_a_gated_repository_says_how_to_get_in(fake, personaplex, config, monkeypatch, tmp_path):
    name = "nvidia/personaplex-7b-v1"
    fake.repositories[name] = {k: v for k, v in personaplex.items() if k != "config.json" or config}
    fake.cards[name] = {"license": "other", "license_name": "nvidia-open-model-license"}
    fake.gated.add(name)
    with pytest.raises(DownloadError) as caught:
        hub.resolve(name)
    told = str(caught.value)
    assert f"https://huggingface.co/{name}" in told and "\n" not in told
    assert "accept its licence (nvidia-open-model-license)" in told and "`hf auth login`" in told
    monkeypatch.setenv("HF_TOKEN", "hf_stranger")
    with pytest.raises(DownloadError, match="with the account of `hf auth whoami`"):
        hub.resolve(name)
    monkeypatch.setenv("HF_TOKEN", "hf_friend")
    fake.granted.add("hf_friend")
    folder = hub.resolve(name)
    assert (folder / MIMI).is_file()
    monkeypatch.delenv("HF_TOKEN")  # a day later, logged out: what is here is here
    ref = hub.repository_folder(name) / "refs" / "main"
    os.utime(ref, (0, 0))
    assert hub.resolve(name) == folder


def test_a_gated_repository_is_one_line_of_a_command(fake, personaplex, tmp_path, capsys):
    fake.repositories["kyutai/moshika-rl-seamless"] = personaplex
    fake.cards["kyutai/moshika-rl-seamless"] = {"license": NON_COMMERCIAL}
    fake.gated.add("kyutai/moshika-rl-seamless")
    question, out = hub.NANO / "samples" / "two_plus_two.wav", tmp_path / "out.wav"
    command = ["file", str(question), str(out), "--model", "kyutai/moshika-rl-seamless"]
    for words in (command, ["models", "pull", "kyutai/moshika-rl-seamless"]):
        assert main(words) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "cc-by-nc-4.0: not for commercial use" in error
    assert not out.exists()


@pytest.mark.parametrize(
    ("card", "licence", "forbidden"),
    [
        ({"license": "cc-by-nc-4.0"}, "cc-by-nc-4.0", True),
        ({"license": "CC-BY-NC-SA-4.0"}, "CC-BY-NC-SA-4.0", True),
        ({"license": ["cc-by-nc-4.0", "other"]}, "cc-by-nc-4.0, other", True),
        ({"license": "other", "license_name": "x-non-commercial"}, "x-non-commercial", True),
        ({"license": "cc-by-4.0"}, "cc-by-4.0", False),
        ({"license": "other", "license_name": "nvidia-x"}, "nvidia-x", False),
        ({"license": "ncsa"}, "ncsa", False),
        ({}, "licence not stated", False),
        (None, "licence not stated", False),
    ],
)
def test_licences_by_the_names_on_cards(card, licence, forbidden):
    found = licence_on(None if card is None else ModelCardData(**card))
    assert found == licence and non_commercial(found) is forbidden


def test_a_licence_is_told_again_with_the_models(fake, personaplex, capsys):
    name = "kyutai/personaplex-rl-seamless"
    fake.repositories[name], fake.cards[name] = personaplex, {"license": NON_COMMERCIAL}
    assert main(["models", "pull", name]) == 0
    assert list(voices_in(hub.resolve(name, offline=True))) == ["NATF2"]
    capsys.readouterr()
    for words in (["models"], ["models", "show", name]):
        assert main(words) == 0
        assert "cc-by-nc-4.0: not for commercial use" in capsys.readouterr().out


SPLIT = {"model_type": "personaplex", "temporal": {"dim": 4096}, "depformer": {"dim": 1024}}


def test_the_swift_ports_layout_is_refused_by_name_before_its_download(fake, tmp_path):
    name = "aufklarer/PersonaPlex-7B-MLX-4bit"
    weights = dict.fromkeys(("temporal", "depformer", "embeddings", "mimi"), b"x" * 1000)
    files = {f"{part}.safetensors": data for part, data in weights.items()}
    for config in (SPLIT, None):
        said = {} if config is None else {"config.json": json.dumps(config).encode()}
        fake.repositories[name] = files | said
        with pytest.raises(DownloadError, match=r"4bit is laid out for a Swift program.*quantize"):
            hub.resolve(name)
        folder = tmp_path / str(config is None)
        folder.mkdir()
        for file, data in fake.repositories[name].items():
            (folder / file).write_bytes(data)
        with pytest.raises(ConfigError, match="is laid out for a Swift program"):
            moshi_mlx.load(folder)
        assert main(["quantize", str(folder), str(tmp_path / "out")]) == 1
    assert not any(".safetensors" in path for _, path, _ in fake.requests)


def test_the_doctor_knows_the_sizes_of_what_is_published():
    for name in ("nvidia/personaplex-7b-v1", "kyutai/personaplex-rl-seamless"):
        found = describe(name, M2_AIR)
        assert found is not None and found.recipe == "bf16" and found.weights_bytes > 15e9
    for name in ("kyutai/moshika-rl-seamless", "nu-dialogue/j-moshi", "nu-dialogue/j-moshi-ext"):
        assert (found := describe(name, M2_AIR)) is not None and found.recipe == "bf16"
    assert describe("somebody/personaplex-mine", M2_AIR) is None
