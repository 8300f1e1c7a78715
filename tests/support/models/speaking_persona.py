"""A PersonaPlex of random weights and 2048 codes, as NVIDIA's constants need them."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np

from app.machine.random_model import random_lm
from moshi_mlx.config.reading import parse_config
from moshi_mlx.hub import NANO
from moshi_mlx.text.tokenizer import TextTokenizer
from moshi_mlx.weights.loading import save_lm
from tests.support.models.mimi_goldens import TINY
from tools.goldens.mimi_weights import random_mimi, save

CONTEXT = 200
DELAYS = [0, *([0] + [1] * 7) * 2]


def speaking_persona(folder: Path, context: int = CONTEXT) -> Path:
    """Its voices: WIDE and FAR in voices/, as safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(NANO / "tokenizer.model", folder / "tokenizer.model")
    raw = {
        **{"dim": 32, "num_heads": 2, "num_layers": 1, "hidden_scale": 4.125, "context": context},
        **{"text_card": len(TextTokenizer(NANO / "tokenizer.model")), "card": 2048, "n_q": 16},
        **{"dep_q": 16, "delays": DELAYS, "model_type": "personaplex", "norm": "rms_norm_f32"},
        **{"gating": "silu", "positional_embedding": "rope", "existing_text_padding_id": 3},
        **{"depformer_dim": 16, "depformer_num_heads": 2, "depformer_num_layers": 1},
        **{"depformer_dim_feedforward": 66, "depformer_pos_emb": "none"},
        **{"mimi_name": "mimi.safetensors", "mimi_config_name": "mimi_config.json"},
        **{"tokenizer_name": "tokenizer.model", "moshi_name": "model.safetensors"},
    }
    config = parse_config(raw)
    lm = random_lm(config, "fp32")
    save_lm(lm, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(raw))
    mimi = json.loads((TINY.parent / "mimi_config.json").read_text())
    mimi["quantizer"] |= {"n_q": 8, "bins": 2048}
    (folder / "mimi_config.json").write_text(json.dumps(mimi))
    save(folder / "mimi.safetensors", random_mimi(mimi))
    (folder / "voices").mkdir()
    initial = np.array([config.text_card] + [config.card] * config.n_q)[None, :, None]
    first = np.array(lm.audio_emb(lm.audio_emb.rows(mx.array(initial[:, 1:]))))[0]
    first = first + np.array(lm.text_emb(mx.array(initial[:, 0])))[0]
    for seed, name in enumerate(("FAR", "WIDE")):
        rng = np.random.default_rng(seed)
        rows = np.concatenate([first, rng.normal(0, 1, (9, 32))])[:, None, None]
        cache = rng.integers(0, 50, (1, 17, 4))
        voice = {"embeddings": mx.array(rows.astype(np.float32)), "cache": mx.array(cache)}
        mx.save_safetensors(str(folder / "voices" / f"{name}.safetensors"), voice)
    return folder
