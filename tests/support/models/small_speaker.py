"""The small text to speech model of the goldens beside a small Mimi of the same codes."""

import json
import shutil
from pathlib import Path

GOLDEN = Path(__file__).parents[2] / "golden"


def with_codec(folder: Path, model: str = "dsm_tts", context: int | None = None) -> Path:
    """Written to `folder`, which must not be there; also for other models of its codes.

    context: of the codec's transformers, in place of its own.
    """
    shutil.copytree(GOLDEN / model, folder)
    mimi = GOLDEN / "dsm_stt" / "mimi-pytorch-e351c8d8@125.safetensors"
    shutil.copy(mimi, folder / "tokenizer-e351c8d8-checkpoint125.safetensors")
    sizes = json.loads((GOLDEN / "dsm_stt" / "mimi_config.json").read_text())
    sizes["transformer"]["context"] = context or sizes["transformer"]["context"]
    (folder / "mimi_config.json").write_text(json.dumps(sizes))
    return folder
