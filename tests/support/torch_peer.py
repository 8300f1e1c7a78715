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
# `run(job, arrays) -> arrays` is the test's own; `opened(folder)`: as their commands open a model;
# `Codes`: in place of a Mimi where codes are given and taken; a job's "weights": made of this seed.
AROUND = """
import json, sys
from pathlib import Path
import numpy as np, torch
from moshi.models import LMGen, loaders
from safetensors.torch import save_file

torch.set_num_threads(1)

def opened(folder):
    folder = Path(folder)
    raw = json.loads((folder / "config.json").read_text())
    sizes = folder / "mimi_config.json"
    return loaders.CheckpointInfo.from_hf_repo(
        "none",
        config_path=folder / "config.json",
        moshi_weights=folder / raw.get("moshi_name", "model.safetensors"),
        mimi_weights=folder / raw.get("mimi_name", "no Mimi"),
        tokenizer=folder / raw.get("tokenizer_name", "no tokenizer"),
        mimi_config_path=sizes if sizes.is_file() else None,
    )

def lm_of(folder):
    return opened(folder).get_moshi(dtype=torch.float32)

def random_weights(folder, seed):
    # Exact in bf16; silence, a word's start and the end are likelier than a piece.
    lm = loaders.get_moshi_lm(None, opened(folder).lm_config, "cpu", torch.float32)
    torch.manual_seed(seed)
    made = {}
    for name, tensor in lm.state_dict().items():
        noise = torch.randn(tensor.shape)
        if "norm" in name or "alpha" in name:
            noise = 0.2 * noise if name.endswith("bias") else 1 + 0.2 * noise
        elif "emb" in name and "low_rank" not in name:
            noise = 0.5 * noise
        elif noise.dim() > 1:
            noise = 1.3 * noise / noise.shape[-1] ** 0.5
        if name == "text_linear.weight":
            noise[[0, 2, 3]] *= 2
        made[name] = noise.to(torch.bfloat16).to(
            torch.float32 if name.startswith("condition_provider") else torch.bfloat16
        )
    save_file(made, str(Path(folder) / "model.safetensors"))

class Codes:
    sample_rate, frame_rate, channels = 24000, 12.5, 1

    def __init__(self, codebooks, cardinality=0, heard=()):
        self.num_codebooks, self.cardinality, self.heard = codebooks, cardinality, list(heard)

    def set_num_codebooks(self, codebooks):
        pass

    def streaming_forever(self, batch):
        pass

    def encode(self, pcm):
        if not self.heard:
            raise StopIteration
        return torch.tensor(self.heard.pop(0)).long()[None, :, None]

    def decode(self, codes):
        return torch.zeros(1, 1, 1920)

def listened(lm, codes, spelled, until):
    # Codes [K, T]; `spelled`: pieces that a prompt gives the text, at most `until` frames long.
    waiting, calls = list(spelled), [0]

    def on_logits(logits):
        if waiting and calls[0] - 1 < until:
            mask = torch.zeros_like(logits, dtype=torch.bool)
            mask[..., [0, 3, waiting[0]]] = True
            logits[:] = torch.where(mask, logits, float("-inf"))

    def on_token(token):
        if waiting and token.item() == waiting[0]:
            waiting.pop(0)

    gen = LMGen(lm, temp=0.0, temp_text=0.0, on_text_logits_hook=on_logits, on_text_hook=on_token)
    tokens, heads = [], []
    with gen.streaming(1):
        for frame in [codes[:, :1], *codes.split(1, dim=1)]:
            text, extra = gen.step_with_extra_heads(frame[None].long())
            tokens.append(int(text.flatten()[0]))
            heads.append([float(head.flatten()[0]) for head in extra])
            calls[0] += 1
    return {"tokens": tokens[1:], "heads": heads[1:]}

{script}

place, jobs = Path(sys.argv[1]), json.loads(sys.argv[2])
with torch.no_grad():
    for i, job in enumerate(jobs):
        given = np.load(place / f"given{i}.npz")
        if "weights" in job:
            random_weights(job["folder"], job["weights"])
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
