"""Kyutai's PyTorch package `moshi` in a process of its own, many jobs in one: importing it is dear.

Tests that use it need PEER_PYTHON, an interpreter with `moshi` and torch (`make test-peer`).
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PEER = os.environ.get("PEER_PYTHON", "")
TORCH_PEER = [
    pytest.mark.peer,
    pytest.mark.skipif(not PEER, reason="PEER_PYTHON is not set; run `make test-peer`"),
]
TIMEOUT_S = 600
# `run(job, arrays) -> arrays` is the test's own; `opened(folder)`: as their commands open a model.
AROUND = """
import json, sys
from pathlib import Path
import numpy as np, torch
from moshi.models import LMGen, loaders

torch.set_num_threads(1)

def opened(folder):
    folder = Path(folder)
    raw = json.loads((folder / "config.json").read_text())
    sizes = folder / "mimi_config.json"
    return loaders.CheckpointInfo.from_hf_repo(
        "none",
        config_path=folder / "config.json",
        moshi_weights=folder / raw.get("moshi_name", "model.safetensors"),
        mimi_weights=folder / raw["mimi_name"],
        tokenizer=folder / raw["tokenizer_name"],
        mimi_config_path=sizes if sizes.is_file() else None,
    )

{script}

place, jobs = Path(sys.argv[1]), json.loads(sys.argv[2])
with torch.no_grad():
    for i, job in enumerate(jobs):
        given = np.load(place / f"given{i}.npz")
        np.savez(place / f"made{i}.npz", **run(job, given))
"""

Arrays = Mapping[str, Any]


def made_by_torch(
    script: str, place: Path, jobs: Sequence[tuple[Mapping[str, Any], Arrays]]
) -> list[Arrays]:
    """What `run(job, arrays)` of the script gives for each job, whose first part is JSON.

    `place`: an empty folder. Fails with what the process said.
    """
    for i, (_, arrays) in enumerate(jobs):
        np.savez(place / f"given{i}.npz", **arrays)
    whole = AROUND.replace("{script}", script)
    done = subprocess.run(
        [PEER, "-c", whole, str(place), json.dumps([job for job, _ in jobs])],
        **{"cwd": place, "capture_output": True, "text": True, "timeout": TIMEOUT_S},
    )
    assert done.returncode == 0, done.stderr
    return [np.load(place / f"made{i}.npz") for i in range(len(jobs))]
