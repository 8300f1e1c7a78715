"""The small PersonaPlex of the goldens, and what NVIDIA's code made with it."""

import json
from pathlib import Path
from typing import Any

import moshi_mlx
from moshi_mlx.lm.model import Lm
from tests.support.models.lm_goldens import GOLDEN, golden

FOLDER = GOLDEN / "persona" / "personaplex"
ARRAYS = golden("persona/personaplex")
CONSTANTS: dict[str, Any] = {"silence": ARRAYS["silence"], "sine": ARRAYS["sine"]}
TEXT = ARRAYS["text_prompt"]


def small_personaplex(folder: Path) -> Lm:
    """With the sizes that the published config leaves to its readers; `folder` takes its files."""
    raw = json.loads((FOLDER / "config.full.json").read_text())
    for name in ("mimi_name", "tokenizer_name"):
        raw.pop(name)
    (folder / "config.json").write_text(json.dumps(raw))
    (folder / "model.safetensors").write_bytes((FOLDER / "model.safetensors").read_bytes())
    return moshi_mlx.load_lm(folder, dtype="float32")
