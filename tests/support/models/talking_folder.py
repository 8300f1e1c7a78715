"""A folder that `moshi_mlx.load` takes: a golden model, a random Mimi, nano's tokenizer."""

import json
import shutil
from pathlib import Path

from moshi_mlx.hub import NANO
from tests.support.models.mimi_goldens import TINY
from tools.goldens.mimi_weights import random_mimi, save

PERSONA = Path(__file__).parents[2] / "golden" / "persona"


def talking_folder(
    target: Path, model: Path, weights: str = "model.safetensors", **changes: object
) -> Path:
    """`changes`: of the config.json of `model`, whose adapter is left out."""
    full = model / "config.full.json"  # of a PersonaPlex, which is published without sizes
    raw = json.loads((full if full.exists() else model / "config.json").read_text())
    raw = {key: value for key, value in raw.items() if not key.startswith("lora")}
    names = {"moshi_name": "model.safetensors", "mimi_name": "mimi.safetensors"}
    names |= {"mimi_config_name": "mimi_config.json", "tokenizer_name": "tokenizer.model"}
    mimi = json.loads((TINY.parent / "mimi_config.json").read_text())
    mimi["quantizer"] |= {"n_q": raw["n_q"] // 2, "bins": raw["card"]}
    target.mkdir(parents=True, exist_ok=True)
    (target / "config.json").write_text(json.dumps(raw | names | changes))
    (target / "mimi_config.json").write_text(json.dumps(mimi))
    save(target / "mimi.safetensors", random_mimi(mimi))
    shutil.copyfile(model / weights, target / "model.safetensors")
    shutil.copyfile(NANO / "tokenizer.model", target / "tokenizer.model")
    return target
