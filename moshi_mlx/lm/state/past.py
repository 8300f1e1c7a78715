"""What a conversation goes on from: a prompt's past, which anyone may begin with, or its own.

Shapes: r rows of one conversation (1, with guidance 2), H heads, n live slots of a ring.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from ...config.lm_config import SamplingConfig
from ..buffers import Conditions
from ..conversation import Guidance
from ..delay_line import LineState
from ..layers.kv_ring import Ring
from ..model_digest import ModelDigest
from .state_file import StateWriter, host_tensors


@dataclass(frozen=True)
class Past:
    """What the model remembers of a conversation, and the tokens that are on their way.

    slots: what the rings hold, [2, r, H, n, ...] a part; prompt_frames: how many of the first
    positions were a prompt. All arrays are evaluated and never written to.
    """

    model: ModelDigest
    dtype: mx.Dtype
    kv_bits: int
    guidance: Guidance | None
    given: Conditions
    slots: tuple[Ring, ...]
    line: LineState
    prompt_frames: int = 0

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for ring in self.slots for part in ring)

    def tensors(self) -> dict[str, mx.array]:
        """What of it goes into a file as tensors."""
        found = {
            f"slots.{layer}.{i}": part
            for layer, ring in enumerate(self.slots)
            for i, part in enumerate(ring)
            if part.size
        }
        found |= {"line": mx.array(self.line.line)}
        if self.line.given.size:
            found["given"] = mx.array(self.line.given)
        for i, array in enumerate(self.given.arrays()):
            found[f"conditions.{i}"] = array
        return found

    def facts(self) -> dict[str, Any]:
        """And what as facts."""
        return {
            "model": self.model.text,
            "dtype": str(self.dtype).rpartition(".")[2],
            "kv_bits": self.kv_bits,
            "guidance": None if self.guidance is None else asdict(self.guidance),
            "step": self.line.step,
            "slots": self.slots[0][0].shape[3],
            "given": len(self.line.given),
            "prompt_frames": self.prompt_frames,
        }


@dataclass(frozen=True)
class LmPrompt:
    """Known tokens that a model has heard in one pass: conversations begin with it.

    Made by `Lm.prompt`, `Lm.persona_prompt` and `Lm.prompt_from`; given to `Lm.generator`. title:
    what it says, for people.
    """

    past: Past
    title: str = ""

    def __repr__(self) -> str:
        title = f" {self.title!r}" if self.title else ""
        return f"<LmPrompt{title}: {self.frames} frames, {self.nbytes / 1e6:.1f} MB>"

    @property
    def frames(self) -> int:
        """Its positions, 80 ms each."""
        return self.past.prompt_frames

    @property
    def nbytes(self) -> int:
        """What its keys and values take."""
        return self.past.nbytes

    def save(self, path: str | Path) -> None:
        """Write a file for `Lm.prompt_from`, whole or not at all. Raises OutputError."""
        facts = {**self.past.facts(), "title": self.title}
        StateWriter("prompt", host_tensors(self.past.tensors()), lambda: facts).write(path)


@dataclass(frozen=True)
class LmState:
    """A conversation between two frames, as `LmGenerator.snapshot` made it; for `Lm.resume`.

    pinned: first positions that are never overwritten; own_draws: it was drawn with samplers of
    the caller's, which no file can hold.
    """

    past: Past
    seed: int
    sampling: SamplingConfig
    pinned: int = 0
    own_draws: bool = False

    def __repr__(self) -> str:
        return f"<LmState: seed {self.seed}, {self.frames} frames, {self.nbytes / 1e6:.1f} MB>"

    @property
    def frames(self) -> int:
        """Frames so far, those of a prompt counted."""
        return self.past.line.step

    @property
    def nbytes(self) -> int:
        """What its keys and values take."""
        return self.past.nbytes

    def tensors(self) -> dict[str, mx.array]:
        """What of it goes into a file as tensors."""
        return self.past.tensors()

    def facts(self) -> Mapping[str, Any]:
        """And what as facts."""
        return {
            **self.past.facts(),
            "seed": self.seed,
            "sampling": asdict(self.sampling),
            "pinned": self.pinned,
            "own_draws": self.own_draws,
        }

    def save(self, path: str | Path) -> None:
        """Write a file for `Lm.resume`, whole or not at all. Raises OutputError."""
        StateWriter("talk", host_tensors(self.tensors()), self.facts).write(path)
