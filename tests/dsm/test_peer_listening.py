"""Kyutai's PyTorch package hears what we hear, plain and after a prompt: the same tokens and heads.

Runs where PEER_PYTHON names an interpreter with `moshi` and torch (`make test-peer`).
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.stt import Prompt

GOLDEN = Path(__file__).parents[1] / "golden" / "dsm_stt"
PEER = os.environ.get("PEER_PYTHON", "")
pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not PEER, reason="PEER_PYTHON is not set; run `make test-peer`"),
]
# The hook of their script with a prompt, and their loop, whose first frame goes in twice.
SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np, torch
from moshi.models import LMGen, loaders
folder, given, out = map(Path, sys.argv[1:4])
raw = json.loads((folder / "config.json").read_text())
ours = {"mimi_name", "moshi_name", "tokenizer_name", "mimi_config_name", "stt_config"}
ours |= {"lm_gen_config", "model_type", "model_id"}
kwargs = {k: v for k, v in raw.items() if k not in ours}
lm = loaders.get_moshi_lm(folder / raw["moshi_name"], kwargs, "cpu", torch.float32)
data = np.load(given)
waiting, until, calls = data["pieces"].tolist(), int(data["cut"]), [0]

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
with torch.no_grad(), gen.streaming(1):
    for codes in [data["codes"][:, :1], *np.split(data["codes"], data["codes"].shape[1], axis=1)]:
        text, extra = gen.step_with_extra_heads(torch.tensor(codes)[None].long())
        tokens.append(int(text.flatten()[0]))
        heads.append([float(head.flatten()[0]) for head in extra])
        calls[0] += 1
np.savez(out, tokens=tokens[1:], heads=heads[1:])
"""


def theirs(folder, codes, pieces=(), cut=0):
    given, out = folder / "given.npz", folder / "out.npz"
    np.savez(given, codes=codes, pieces=np.array(pieces, int), cut=cut)
    done = subprocess.run(
        [PEER, "-c", SCRIPT, str(GOLDEN), str(given), str(out)],
        **{"cwd": folder, "capture_output": True, "text": True, "timeout": 300},
    )
    if "No module named 'torch'" in done.stderr:
        pytest.skip("the peers' environment has no torch")
    assert done.returncode == 0, done.stderr
    made = np.load(out)
    return made["tokens"].tolist(), made["heads"]


def sound(seed, seconds):
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(0.0, 0.1, round(seconds * 24_000)), np.float32)


def whole(*parts):
    """Each part in whole frames, one after the other."""
    return np.concatenate([np.pad(part, (0, -len(part) % 1920)) for part in parts])


@pytest.mark.parametrize("seed", range(4))
def test_a_recording(seed, tmp_path):
    stt = moshi_mlx.load_stt(GOLDEN, dtype="float32")
    pcm = sound(seed, 5 + seed)
    lead, tail = np.zeros(13 * 1920, np.float32), np.zeros(7 * 1920, np.float32)
    tokens, heads = theirs(tmp_path, stt.mimi.encode(whole(lead, pcm, tail)))
    made = stt.transcribe(pcm)
    assert made.tokens.tolist() == tokens
    assert made.pauses is not None and np.max(np.abs(made.pauses - heads)) < 1e-4


@pytest.mark.parametrize("seed", range(2))
def test_a_recording_after_a_prompt(seed, tmp_path):
    stt = moshi_mlx.load_stt(GOLDEN, dtype="float32")
    prompt, pcm = Prompt("a", sound(10 + seed, 2)), sound(20 + seed, 4)
    lead, pause = np.zeros(13 * 1920, np.float32), np.zeros(10 * 1920, np.float32)
    heard = whole(lead, prompt.pcm, pause, pcm, np.zeros(7 * 1920, np.float32))
    frames = len(whole(prompt.pcm, pause)) // 1920
    cut = frames + 13 + 6  # half a second of delay is six whole steps
    pieces = stt.tokenizer.encode(prompt.text)
    tokens, _ = theirs(tmp_path, stt.mimi.encode(heard), pieces, cut)
    made = stt.transcribe(pcm, prompt)
    assert made.tokens.tolist() == [3] * (cut - frames) + tokens[cut:]
