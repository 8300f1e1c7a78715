"""How much work MLX hands the GPU at a time: Metal's command buffers.

MLX closes one after 40 or 50 operations, or when what they touch adds up to 40 or 50 of what it
calls megabytes, and each costs the GPU some microseconds. Larger ones suit frames of hundreds of
tiny kernels on M1 to M4; results are the same to the last bit. MLX reads its limits once, when it
starts, so they must be in the environment before `mlx.core` is imported: nothing here imports it.
Source: MLX's mlx/backend/metal/device.cpp.
"""

import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from ..errors import UsageError

OPERATIONS, MEGABYTES = "MLX_MAX_OPS_PER_BUFFER", "MLX_MAX_MB_PER_BUFFER"
MOST = 1_000_000


@dataclass(frozen=True)
class CommandBuffers:
    """Limits of a command buffer. None: MLX's own for this chip."""

    operations: int | None = None
    megabytes: int | None = None

    def __str__(self) -> str:
        limits = ((self.operations, "operations"), (self.megabytes, "MB"))
        given = [f"{value} {unit}" for value, unit in limits if value is not None]
        return "command buffers " + (f"of up to {', '.join(given)}" if given else "as MLX has them")

    @classmethod
    def parse(cls, text: str) -> "CommandBuffers":
        """ "1000,400" -> both limits. Raises UsageError."""
        numbers = [part.strip() for part in text.split(",")]
        if len(numbers) != 2 or not all(n.isdecimal() and 0 < int(n) <= MOST for n in numbers):
            raise UsageError(
                "command buffers are two whole numbers, OPERATIONS,MEGABYTES (1000,400), "
                f"not {text!r}"
            )
        return cls(*map(int, numbers))

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> "CommandBuffers":
        """What MLX was started with, read as it reads it: by C's atoi, 0 for what is no number."""
        return cls(*(_as_read(environment.get(name)) for name in (OPERATIONS, MEGABYTES)))

    def ask(self, environment: MutableMapping[str, str] = os.environ) -> None:
        """Have MLX start with these limits."""
        for name, value in ((OPERATIONS, self.operations), (MEGABYTES, self.megabytes)):
            if value is not None:
                environment[name] = str(value)


def _as_read(value: str | None) -> int | None:
    if value is None:
        return None
    number = re.match(r"\s*([+-]?[0-9]+)", value)
    return int(number[1]) if number else 0
