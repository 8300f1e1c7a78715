"""Options that MLX reads from the environment when it starts: put there before it is imported."""

import argparse
import os
from collections.abc import MutableMapping, Sequence

from moshi_mlx.backend.command_buffers import CommandBuffers

COMMAND_BUFFERS = "--command-buffers"


def prepare(argv: Sequence[str], environment: MutableMapping[str, str] = os.environ) -> None:
    """For `moshi bench --command-buffers`. Raises UsageError for what can't be read."""
    if argv[:1] != ["bench"]:
        return
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(COMMAND_BUFFERS, nargs="?")
    given = parser.parse_known_args(list(argv[1:]))[0].command_buffers
    if given is not None:  # one without a value is told by the command's own parser
        CommandBuffers.parse(given).ask(environment)
