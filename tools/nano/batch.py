"""Many conversations through moshi_mlx at once: the LM of the package, batched; the codec's encoder in PyTorch, as it is
five times faster on a CPU there (evaluate.py counts how many codes of the two are the same).
"""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import torch
from moshi.models import loaders
from safetensors.torch import load_file

from moshi_mlx.cache import Position
from moshi_mlx.config import NO_INPUT
from moshi_mlx.delay_line import DelayLine
from moshi_mlx.generator import override
from moshi_mlx.lm import Conditions, Lm
from moshi_mlx.sampling import samplers


def torch_codec(folder: Path) -> torch.nn.Module:
    """The codec of an exported folder."""
    codec = loaders.get_mimi(
        None, json.loads((folder / "mimi_config.json").read_text()), num_codebooks=8
    )
    codec.load_state_dict({k: v.float() for k, v in load_file(folder / "mimi.safetensors").items()})
    return codec.eval()


class Conversations:
    """B of them, frame by frame in step; as `LmGenerator`, without its compiled function."""

    def __init__(self, lm: Lm, B: int, seed: int, sampling: dict) -> None:
        settings = override(lm.config.sampling, sampling)
        self.lm, self.seed, self.context = lm, seed, lm.config.transformer.context
        self.samplers = samplers(settings)
        self.temperatures = mx.array([settings.text_temperature, settings.audio_temperature])
        self.lines = [DelayLine(lm.config) for _ in range(B)]
        self.buffers = lm.new_buffers(B)
        self.first_rows = np.arange(lm.config.n_q) * (lm.config.card + 1)

    def step(self, user: np.ndarray) -> tuple[np.ndarray, list[np.ndarray | None]]:
        """User codes [B, 8] -> text tokens [B] and the frames that are complete."""
        step, B = self.lines[0].step, len(self.lines)
        tokens = np.stack(
            [line.inputs(codes) for line, codes in zip(self.lines, user, strict=True)]
        )
        codes, config = tokens[:, 1:], self.lm.config
        rows = np.where(codes == NO_INPUT, config.n_q * (config.card + 1), codes + self.first_rows)
        live = min(step + 1, self.context)
        at = Position(
            slot=mx.array(step % self.context).reshape(1, 1, 1, 1, 1),
            rotations=mx.array(np.tile([step, step, 0], B).astype(np.int32)),
            length=live, mask=None,
        )  # fmt: skip
        key = mx.array(np.array([self.seed, step], np.uint32))
        drawn, _ = self.lm.step(
            mx.array(tokens[:, :1].astype(np.int32)), mx.array(rows[:, None].astype(np.int32)),
            self.buffers, at, self.samplers, self.temperatures, key, Conditions(),
        )  # fmt: skip
        sampled = np.array(drawn).astype(np.int32)
        mx.eval(self.buffers.arrays())
        return sampled[:, 0], [line.outputs(s) for line, s in zip(self.lines, sampled, strict=True)]
