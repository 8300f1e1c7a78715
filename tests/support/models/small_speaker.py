"""The small text to speech model of the goldens beside a small Mimi of the same codes."""

import shutil
from pathlib import Path

GOLDEN = Path(__file__).parents[2] / "golden"


def with_codec(folder: Path, model: str = "dsm_tts") -> Path:
    """Written to `folder`, which must not be there; also for other models of its codes."""
    shutil.copytree(GOLDEN / model, folder)
    mimi = GOLDEN / "dsm_stt" / "mimi-pytorch-e351c8d8@125.safetensors"
    shutil.copy(mimi, folder / "tokenizer-e351c8d8-checkpoint125.safetensors")
    shutil.copy(GOLDEN / "dsm_stt" / "mimi_config.json", folder)
    return folder
