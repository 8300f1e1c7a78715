"""Many conversations at once with an exported folder, in PyTorch: a session of moshi_mlx holds one, and an evaluation of a
thousand would take an hour. parity.py and evaluate.py's `same` say that the two give the same tokens.
"""

import json
from pathlib import Path

import numpy as np
import torch
from moshi.models import loaders
from moshi.models.lm import LMGen, LMModel
from safetensors.torch import load_file

NOT_FOR_THE_MODEL = ("moshi_name", "mimi_name", "tokenizer_name", "mimi_config_name", "model_type", "lm_gen_config")  # fmt: skip


def torch_codec(folder: Path) -> torch.nn.Module:
    """The codec of an exported folder."""
    config = json.loads((folder / "mimi_config.json").read_text())
    codec = loaders.get_mimi(None, config, num_codebooks=8)
    codec.load_state_dict({k: v.float() for k, v in load_file(folder / "mimi.safetensors").items()})
    return codec.eval()


def torch_lm(folder: Path) -> LMModel:
    """Kyutai's model class with the weights of an exported folder."""
    config = json.loads((folder / "config.json").read_text())
    lm = LMModel(**{k: v for k, v in config.items() if k not in NOT_FOR_THE_MODEL})
    lm.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    return lm.eval()


@torch.inference_mode()
def converse(
    lm: LMModel, codes: list[np.ndarray], sampling: dict | None, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """User codes [8, frames] each, from call 1 on -> text token of every call [calls], own codes [8, calls - 1].

    Own frame t is complete after call t + 1. `sampling`: temp, temp_text, top_k, top_k_text; None is greedy.
    """
    torch.manual_seed(seed)
    calls = max(c.shape[1] for c in codes) + 1
    user = np.stack(
        [
            np.pad(c.astype(np.int64), ((0, 0), (1, calls - 1 - c.shape[1])), mode="edge")
            for c in codes
        ]
    )
    heard: list[torch.Tensor] = []
    options = {"use_sampling": False} if sampling is None else sampling
    gen = LMGen(lm, on_text_hook=lambda token: heard.append(token.flatten().clone()), **options)
    own = []
    with gen.streaming(len(codes)):
        for call in range(calls):
            out = gen.step(torch.from_numpy(user[:, :, call : call + 1]))
            if out is not None:
                own.append(out[:, 1:, 0].clone())
    texts, audio = torch.stack(heard, 1).numpy(), torch.stack(own, 2).numpy()
    return [(texts[i, : c.shape[1] + 1], audio[i, :, : c.shape[1]]) for i, c in enumerate(codes)]
