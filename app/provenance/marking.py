"""Which mark a command puts into the sound that it makes; a key never leaves it for a log."""

from dataclasses import dataclass, field

import numpy as np

from moshi_mlx.provenance import Marker, mark

UNMARKED = "Moshi's voice carries no mark (--no-mark)"
MACHINE_LINE = "You are talking with a machine: Moshi is an AI."


@dataclass(frozen=True)
class Marking:
    """key: a private one, None for the package's public one. payload: 12 bits or None."""

    on: bool = True
    key: bytes | None = field(default=None, repr=False)
    payload: int | None = None

    def marker(self) -> Marker | None:
        """A new one, for one stream of sound."""
        return Marker(self.key, self.payload) if self.on else None

    def applied(self, pcm: np.ndarray) -> np.ndarray:
        """A whole recording of generated sound, float [n] at 24 kHz -> as the world gets it."""
        return mark(pcm, self.key, self.payload) if self.on else pcm

    @property
    def kind(self) -> str:
        """What a manifest says."""
        if not self.on:
            return "none"
        return "public key" if self.key is None else "private key"
