"""Kyutai's own `moshi_mlx` beside us, in its own environment: files go both ways.

`make test-peer` installs it and names its Python in PEER_PYTHON.
"""

import os
import subprocess
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.weights.loading import save_lm

SCRIPTS = Path(__file__).parents[2] / "tools" / "goldens"
GOLDEN = Path(__file__).parents[1] / "golden"
PEER = os.environ.get("PEER_PYTHON", "")
pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not PEER, reason="PEER_PYTHON is not set; run `make test-peer`"),
]
# What their run_inference does with a file, then their logits by the code of our goldens.
READ = """
import json, sys
from pathlib import Path
sys.path.append(sys.argv.pop(1))
import make_kyutai_mlx as make, mlx.core as mx, mlx.nn as nn, numpy as np
from moshi_mlx.models.lm import Lm, LmConfig
config, weights, codes, out = sys.argv[1:5]
make.BASE.update(json.loads(Path(config).read_text()))
model = Lm(LmConfig.from_config_dict(dict(make.BASE)))
if len(sys.argv) > 5:
    nn.quantize(model, bits=int(sys.argv[5]), group_size=int(sys.argv[6]))
model.load_weights(weights, strict=True)
model.set_dtype(mx.float32)
text, audio = make.logits(model, np.array(mx.load(codes)["codes"])[0])
mx.save_safetensors(out, {"text": mx.array(text), "audio": mx.array(audio)})
"""


def peer(folder: Path, *arguments: object) -> None:
    """Runs their Python in `folder`: in ours, its `moshi_mlx` would be this one."""
    done = subprocess.run(
        [PEER, *map(str, arguments)],
        **{"cwd": folder, "capture_output": True, "text": True, "timeout": 300},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("folder", "options"),
    [("lm_moshi", []), ("kyutai_bf16", []), ("kyutai_q4", [4, 32]), ("kyutai_q8", [8, 64])],
)
def test_what_we_write_loads_there_and_gives_the_same_logits(
    folder: str, options: list[int], tmp_path: Path
) -> None:
    """Also what came from PyTorch's layout (lm_moshi) and was turned into MLX's here."""
    save_lm(moshi_mlx.load_lm(GOLDEN / folder), tmp_path / "ours.safetensors")
    lm = moshi_mlx.load_lm(GOLDEN / folder, dtype="float32")
    config, steps = lm.config, 12
    rng = np.random.default_rng(5)
    codes = rng.integers(0, config.card, (1, 1 + config.n_q, steps)).astype(np.int32)
    mx.save_safetensors(str(tmp_path / "codes.safetensors"), {"codes": mx.array(codes)})
    names = ["ours.safetensors", "codes.safetensors", "theirs.safetensors"]
    raw = GOLDEN / folder / "config.json"
    files = [tmp_path / name for name in names]
    peer(tmp_path, "-c", READ, SCRIPTS, raw, *files, *options)
    theirs = mx.load(str(tmp_path / "theirs.safetensors"))
    assert isinstance(theirs, dict)
    assert config.transformer.context is not None
    kept = min(steps, config.transformer.context)  # their window is one too long
    text, audio = (np.array(x)[0] for x in lm.forward(codes))
    np.testing.assert_allclose(text[:kept], np.array(theirs["text"])[:kept], atol=1e-3)
    want = np.array(theirs["audio"])
    for k, delay in enumerate(config.delays[1 : 1 + config.dep_q]):
        ours = audio[k, : kept - delay]
        np.testing.assert_allclose(ours, want[delay:kept, k], atol=1e-3)


def test_the_goldens_are_what_their_code_gives(tmp_path: Path) -> None:
    peer(tmp_path, SCRIPTS / "make_kyutai_mlx.py", tmp_path)
    for folder in sorted(tmp_path.iterdir()):
        for path in sorted(folder.glob("*.safetensors")):
            made, kept = mx.load(str(path)), mx.load(str(GOLDEN / folder.name / path.name))
            assert isinstance(made, dict) and isinstance(kept, dict) and set(made) == set(kept)
            for name in made:
                ours, theirs = (np.array(x[name].astype(mx.float32)) for x in (made, kept))
                np.testing.assert_allclose(ours, theirs, atol=1e-4, equal_nan=True)
