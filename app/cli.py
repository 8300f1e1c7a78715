"""The command line: one table of subcommands, one place where errors become one line and a status.

Each subcommand's module has `configure(parser)` and `run(args) -> int` and is imported only when
it is called, so that `moshi --help` starts at once.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from moshi_mlx.errors import MoshiError

# command -> (module, one line for --help). A leading dot: in `commands`.
COMMANDS: dict[str, tuple[str, str]] = {
    "chat": (".chat", "talk with Moshi through microphone and speakers"),
    "web": (".web", "talk in a browser, or with any client that speaks Kyutai's protocol"),
    "echo-test": (".echo_test", "measure the echo of this room and what to do about it"),
    "devices": (".devices", "list the sound devices and say which a talk would use"),
    "demo": (".demo", "a spoken talk with the small model in the package; nothing to download"),
    "file": (".file", "let Moshi answer a recording, into a sound file and a transcript"),
    "text": (".text", "continue a text with Helium, the language model inside Moshi"),
    "doctor": (".doctor", "tell whether this machine can talk with Moshi, and what to mend"),
    "bench": (".bench", "measure how fast a model runs here, and how far from the limit"),
    "quantize": ("quantize.cli", "make a smaller model and tell what it cost"),
}


def check_environment() -> None:
    """Kyutai's own distribution has our import name: each overwrites the other's files."""
    try:
        theirs = version("moshi_mlx")
    except PackageNotFoundError:
        return
    raise MoshiError(
        f"Kyutai's own moshi_mlx {theirs} is installed here as well, and the two can't share an "
        "environment: install moshi-local into one of its own (uvx or pipx do that)"
    )


def module_of(command: str):
    """Import the module behind a command; the sibling folder `quantize` is reached here alone."""
    name = COMMANDS[command][0]
    if name.startswith("."):
        return importlib.import_module(f".commands{name}", __package__)
    parent = (__package__ or "").rpartition(".")[0]  # "moshi_mlx" installed, "" in the checkout
    return importlib.import_module(f"{parent}.{name}".lstrip("."))


def overview() -> str:
    lines = [f"  {name:<10} {help_line}" for name, (_, help_line) in COMMANDS.items()]
    return "\n".join(
        ["usage: moshi COMMAND [options]", "", "Talk with Moshi on your own machine.", ""]
        + ["commands:", *lines, "", "`moshi COMMAND --help` tells what a command can do."]
    )


def dispatch(argv: Sequence[str]) -> int:
    """Run one command line; returns the exit status and lets MoshiError through."""
    if not argv or argv[0] in ("-h", "--help"):
        print(overview())
        return 0
    if argv[0] == "--version":
        print(f"moshi-local {version('moshi-local')}")
        return 0
    if argv[0] not in COMMANDS:
        raise MoshiError(f"unknown command {argv[0]!r}; known: {', '.join(COMMANDS)}")
    module = module_of(argv[0])
    parser = argparse.ArgumentParser(prog=f"moshi {argv[0]}", description=module.__doc__)
    module.configure(parser)
    parse = getattr(module, "parse", type(parser).parse_args)  # its own: preferences in a file
    return module.run(parse(parser, argv[1:]))


def main(argv: Sequence[str] | None = None) -> int:
    """Expected failures become one line and exit code 1; bugs keep their traceback."""
    try:
        check_environment()
        return dispatch(sys.argv[1:] if argv is None else argv)
    except MoshiError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
