"""`--calibrate`: what a recipe's run does with a folder of recordings."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moshi_mlx.clock import FRAME_SECONDS
from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.moshi import Moshi

from ..checkpoint.checkpoint import Checkpoint
from ..checkpoint.convert import Rounded
from ..checkpoint.entries import Entry, entries_of
from ..checkpoint.plan import Planned
from ..checkpoint.target import Prepare
from ..errors import QuantizeError
from .calibrate import Staged, calibrate, linear_layers
from .material import read_material
from .streamed_lm import StreamedLm, Tokens


@dataclass(frozen=True)
class Calibration:
    """A model's sequences, and how the target tells of them."""

    checkpoint: Checkpoint
    config: LmConfig
    codes: Sequence[np.ndarray]

    @property
    def frames(self) -> int:
        return sum(codes.shape[1] for codes in self.codes)

    @property
    def label(self) -> str:
        """The same for the same material, so that an interrupted run goes on with its own."""
        digest = hashlib.sha256(b"".join(codes.tobytes() for codes in self.codes)).hexdigest()
        return f"gptq, {self.frames} frames ({digest[:8]})"

    def __str__(self) -> str:
        seconds = self.frames * FRAME_SECONDS
        return f"{len(self.codes)} conversations, {self.frames} frames ({seconds:.0f} s)"

    def tokens(self) -> list[Tokens]:
        return [Tokens.of(codes, self.config) for codes in self.codes]

    def entries(self) -> list[Entry]:
        """The target's tensors."""
        shapes, path = self.checkpoint.source.shapes, str(self.checkpoint.folder)
        return entries_of(shapes, self.config, path)

    def streamed(self) -> StreamedLm:
        return StreamedLm(self.config, self.checkpoint.source, self.entries())

    def num_weights(self, plan: list[Planned]) -> int:
        """How many weights `prepare` will deal with."""
        layers = linear_layers(self.streamed(), plan)
        return sum(p.num_weights for members in layers.values() for p in members)

    def prepare(self, progress: Callable[[int], object]) -> Prepare:
        """For `make_target`: round by GPTQ; `progress` is told how many weights are done."""

        def run(plan: list[Planned], folder: Path) -> Rounded:
            staged = Staged(folder, self.config)
            calibrate(self.streamed(), plan, self.tokens(), staged.keep, progress)
            return staged.ready

        return run


def read_calibration(
    checkpoint: Checkpoint, folder: Path, talker: Callable[[], Moshi]
) -> Calibration:
    """The material of a folder for a checkpoint; `talker` loads the model that answers recordings.

    Raises QuantizeError, AudioError, and what `moshi_mlx.load` raises.
    """
    config = checkpoint.config
    if not isinstance(config, LmConfig):
        raise QuantizeError("a text model can't listen: leave out --calibrate")
    found = read_material(folder, config, talker)
    return Calibration(checkpoint, config, [sequence.codes for sequence in found])
