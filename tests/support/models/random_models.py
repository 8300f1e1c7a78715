"""Small models by chance: widths, heads, layers, contexts, delays, schedules as no golden has them.

Only configs: the weights are made by Kyutai's package (`tests/support/torch_peer.py`), so their
names and shapes are its own. The same seed gives the same config.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parents[2] / "golden"
Config = dict[str, Any]
PIECES = 120  # of the goldens' tokenizers
LONG = 4000  # of a codec: past its context, streams of theirs forget one position too early


def one_of(rng: np.random.Generator, *values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def schedule(rng: np.random.Generator, slices: int) -> list[int]:
    """A set of weights for each slice: some have one together."""
    return np.cumsum([0, *(rng.random(slices - 1) < 0.6)]).tolist()


def delays(rng: np.random.Generator, codebooks: int) -> list[int]:
    """Of one speaker: none of the first, of the others often one for all."""
    if rng.random() < 0.7:
        return [0] + [int(rng.integers(0, 4))] * (codebooks - 1)
    return [0, *rng.integers(0, 4, codebooks - 1).tolist()]


def transformers(rng: np.random.Generator) -> Config:
    """What all kinds have: 24 to 96 wide, 1 to 3 layers."""
    width, heads = 96, 6
    while not 24 <= width * heads <= 96:
        width, heads = int(one_of(rng, 8, 12, 16, 24)), int(one_of(rng, 2, 3, 4, 6))
    depth_width, depth_heads = int(one_of(rng, 8, 12, 16)), int(rng.integers(1, 4))
    feedforward = one_of(rng, None, 3 * depth_width * depth_heads, 66)
    raw = {
        "dim": width * heads,
        "num_heads": heads,
        "num_layers": int(rng.integers(1, 4)),
        "hidden_scale": one_of(rng, 4.125, 4, 6, 3),
        "context": int(rng.integers(7, 40)),
        "max_period": one_of(rng, 10000, 100000.0, 20000.0),
        "positional_embedding": one_of(rng, "rope", "rope", "rope_concat"),
        "kv_repeat": one_of(rng, 1, 1, 2 - heads % 2, 3 if heads % 3 == 0 else 1),
        "card": int(rng.integers(20, 80)),
        "depformer_dim": depth_width * depth_heads,
        "depformer_num_heads": depth_heads,
        "depformer_num_layers": int(rng.integers(1, 4)),
        "depformer_dim_feedforward": feedforward,
    }
    raw |= {"causal": True, "gating": "silu", "norm": "rms_norm_f32", "layer_scale": None}
    raw |= {"text_card": PIECES, "existing_text_padding_id": 3, "moshi_name": "model.safetensors"}
    raw |= {"depformer_kv_repeat": 1, "depformer_multi_linear": True, "depformer_pos_emb": "none"}
    raw |= {"depformer_weights_per_step": True, "conditioners": {}, "cross_attention": False}
    return raw | ({"depformer_norm": "layer_norm"} if rng.random() < 0.3 else {})


def words(dim: int, *values: str) -> Config:
    """A conditioner with a table."""
    lut = {"n_bins": len(values), "dim": dim, "tokenizer": "noop", "possible_values": values}
    return {"type": "lut", "lut": lut}


def described(rng: np.random.Generator, raw: Config) -> Config:
    """With Hibiki's condition."""
    marks = words(int(one_of(rng, 8, 16)), "very_bad", "bad", "neutral", "good", "very_good")
    return raw | {"conditioners": {"description": marks}, "fuser": {"sum": ["description"]}}


def conversation_config(rng: np.random.Generator) -> Config:
    """A Moshi with as many codebooks of each speaker as chance has it."""
    raw, own, user = transformers(rng), int(rng.integers(1, 9)), int(rng.integers(1, 9))
    raw |= {"n_q": own + user, "dep_q": own, "model_type": "moshi"}
    raw["delays"] = [0, *delays(rng, own), *delays(rng, user)]
    raw["text_card"] = int(rng.integers(30, 140))
    if rng.random() < 0.5:
        raw["depformer_weights_per_step_schedule"] = schedule(rng, own)
    return raw


def persona_config(rng: np.random.Generator) -> Config:
    """A PersonaPlex: its depth transformer's second half predicts the user's codes."""
    raw, own = transformers(rng), int(rng.integers(1, 9))
    each = [0] + [int(rng.integers(0, 3))] * (own - 1)
    raw |= {"n_q": 2 * own, "dep_q": 2 * own, "delays": [0, *each, *each]}
    return raw | {"model_type": "personaplex", "context": int(rng.integers(20, 90))}


def translation_config(rng: np.random.Generator, zero: bool) -> Config:
    """Hibiki; `zero`: hibiki-zero."""
    raw, own = transformers(rng), int(rng.integers(2, 9))
    each = [0] + [int(one_of(rng, 2, 2, 1, 3))] * (own - 1)
    raw |= {"n_q": 2 * own, "dep_q": own, "delays": [0, *each, *each], "model_type": "hibiki"}
    raw |= {"lm_gen_config": {}, "tokenizer_name": "tokenizer_spm_48k_multi6_2.model"}
    raw |= {"mimi_name": "tokenizer-e351c8d8-checkpoint125.safetensors"}
    if not zero:
        return described(rng, raw)
    raw |= {"positional_embedding": "rope_concat", "hidden_scale": 6}
    raw["depformer_weights_per_step_schedule"] = schedule(rng, own)
    return raw | {"depformer_norm": "layer_norm", "demux_second_stream": False}


def speaking_config(rng: np.random.Generator, kind: str) -> Config:
    """Text to speech; kind: "distilled" or "guided" with voices in files, "prefix" without."""
    raw, own = transformers(rng), int(rng.integers(3, 9))
    raw |= {"n_q": own, "dep_q": own, "delays": [0, *delays(rng, own)], "model_type": "tts"}
    ahead = int(one_of(rng, 0, 1, 2, 2, 3))
    raw["tts_config"] = {"audio_delay": one_of(rng, 1.28, 0.64, 0.4), "second_stream_ahead": ahead}
    raw |= {"demux_second_stream": ahead > 0, "model_id": {"sig": "1e68beda", "epoch": 240}}
    raw |= {"tokenizer_name": "tokenizer_spm_8k_en_fr_audio.model"}
    raw |= {"mimi_name": "tokenizer-e351c8d8-checkpoint125.safetensors"}
    raw["depformer_weights_per_step_schedule"] = schedule(rng, own)
    raw["depformer_low_rank_embeddings"] = one_of(rng, None, 4, 8)
    if kind == "prefix":
        return raw | {"text_card_out": one_of(rng, None, 5)}
    found = {"speaker_wavs": {"type": "tensor", "tensor": {"dim": int(one_of(rng, 12, 20))}}}
    found["control"] = words(raw["dim"], "ok")
    if kind == "distilled":
        found["cfg"] = words(16, "1.0", "1.5", "2.0", "2.5", "3.0", "3.5", "4.0")
    raw |= {"conditioners": found, "cross_attention": True}
    raw["kv_repeat"] = 1  # PyTorch has no cross attention where heads are shared
    summed = [name for name in found if name != "speaker_wavs"]
    raw["fuser"] = {"sum": summed, "cross": ["speaker_wavs"], "prepend": []}
    raw["fuser"] |= {"cross_attention_pos_emb": True, "cross_attention_pos_emb_scale": 1}
    return raw


def listening_config(rng: np.random.Generator) -> Config:
    """Speech to text over the small Mimi of the goldens, with heads for pauses or without."""
    raw, heard = transformers(rng), int(rng.integers(1, 9))
    raw |= {"n_q": heard, "dep_q": 0, "delays": [0] * (heard + 1), "model_type": "stt"}
    raw |= {"card": 48, "extra_heads_num_heads": int(one_of(rng, 0, 4)), "extra_heads_dim": 6}
    delay, silence = one_of(rng, (0.5, 0.0), (2.5, 1.0), (1.0, 0.5))
    raw["stt_config"] = {
        "audio_delay_seconds": delay,
        "audio_silence_prefix_seconds": silence,
    }
    raw |= {"mimi_config_name": "mimi_config.json"}
    raw |= {"tokenizer_name": "tokenizer_en_fr_audio_8000.model"}
    return raw | {"mimi_name": "mimi-pytorch-e351c8d8@125.safetensors"}


def written_each(place: Path, configs: Mapping[int, Config]) -> dict[int, Path]:
    """A folder for each config, by its seed."""
    return {seed: written(place / str(seed), raw) for seed, raw in configs.items()}


def written(folder: Path, raw: Config) -> Path:
    """The config in a new folder, with the goldens' tokenizer and codec where it names them."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(raw))
    if "tokenizer_name" in raw:
        tokenizer = "tokenizer_en_fr_audio_8000.model"
        shutil.copy(GOLDEN / "dsm_stt" / tokenizer, folder / raw["tokenizer_name"])
    if "mimi_config_name" in raw:
        shutil.copy(GOLDEN / "dsm_stt" / raw["mimi_name"], folder)
        sizes = json.loads((GOLDEN / "dsm_stt" / "mimi_config.json").read_text())
        sizes["transformer"]["context"] = LONG
        (folder / raw["mimi_config_name"]).write_text(json.dumps(sizes))
    return folder
