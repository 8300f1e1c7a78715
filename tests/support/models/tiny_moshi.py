"""A whole Moshi of random weights, the smallest there is: the golden language model with a Mimi."""

import json
from pathlib import Path

import moshi_mlx
from moshi_mlx.hub import NANO
from moshi_mlx.lm.model import Lm
from moshi_mlx.moshi import Moshi
from moshi_mlx.text.tokenizer import TextTokenizer
from tests.support.models.lm_goldens import model
from tests.support.models.mimi_goldens import TINY
from tools.goldens.mimi_weights import random_mimi, save


def tiny_moshi(folder: Path, lm: Lm | None = None) -> Moshi:
    """It forgets after 10 frames and babbles; `folder` takes the Mimi's file; `lm`: another one."""
    lm = model("lm_moshi") if lm is None else lm
    config = json.loads((TINY.parent / "mimi_config.json").read_text())
    config["quantizer"] |= {"n_q": lm.config.dep_q, "bins": lm.config.card}
    path = folder / "mimi.safetensors"
    save(path, random_mimi(config))
    mimi = moshi_mlx.load_mimi(path, config, num_codebooks=lm.config.dep_q)
    return Moshi(lm, mimi, TextTokenizer(NANO / "tokenizer.model"), folder)
