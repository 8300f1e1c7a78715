"""A speech to text model that hears nothing and writes a word every two frames, whatever is said.

The small model of `dsm_stt` with its layers and sound silenced: each text token depends on the one
before alone. For microphones whose sound comes out a little different each time, as a browser's.
"""

import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np

import moshi_mlx

GOLDEN = Path(__file__).parents[2] / "golden" / "dsm_stt"
WORD, EPAD = "a", 0


def ticking_words(folder: Path) -> Path:
    """The model, written to `folder`."""
    shutil.copytree(GOLDEN, folder)
    path = str(folder / "model.safetensors")
    tensors = mx.load(path)
    assert isinstance(tensors, dict)
    for name in tensors:
        if name.startswith("emb.") or name.endswith(("out_proj.weight", "linear_out.weight")):
            tensors[name] *= 0
    (piece,) = moshi_mlx.load_stt(GOLDEN).tokenizer.encode(WORD)[:1]
    rows, dim = tensors["text_emb.weight"].shape
    reads = np.zeros((rows, dim), np.float32)
    reads[:, 0] = 1.0  # after all else: a word starts
    reads[EPAD] = np.eye(dim)[1]
    writes = np.zeros(tensors["text_linear.weight"].shape, np.float32)
    writes[EPAD, 0] = writes[piece, 1] = 1.0
    tensors["text_emb.weight"], tensors["text_linear.weight"] = mx.array(reads), mx.array(writes)
    tensors["out_norm.alpha"] = mx.ones((1, 1, dim))
    kept = {name: t for name, t in tensors.items() if not name.startswith("extra_heads")}
    mx.save_safetensors(path, kept)
    return folder
