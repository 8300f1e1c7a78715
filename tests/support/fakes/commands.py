"""Commands called with fakes: their options parsed as the command line would."""

import argparse
from types import ModuleType


def parsed(command: ModuleType, *argv: str) -> argparse.Namespace:
    """What `moshi COMMAND ARGV` hands to the command's `run`."""
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return parser.parse_args(argv)
