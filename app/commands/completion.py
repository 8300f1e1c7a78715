"""Print a script that completes commands, options and files in a shell.

moshi completion bash >> ~/.bash_completion
moshi completion zsh > "${fpath[1]}/_moshi"
moshi completion fish > ~/.config/fish/completions/moshi.fish
"""

import argparse
from pathlib import Path

from .registry import COMMANDS, module_of

FOLDERS = ("DIR",)
FILES = ("FILE", "TOML", "WAV", "PATH")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def run(args: argparse.Namespace) -> int:
    import shtab

    print(shtab.complete(whole_parser(), args.shell))
    return 0


def whole_parser() -> argparse.ArgumentParser:
    """All commands under one parser, as a completion sees them."""
    whole = argparse.ArgumentParser(
        prog="moshi", description="Talk with Moshi on your own machine."
    )
    whole.add_argument("--version", action="store_true", help="what is installed")
    commands = whole.add_subparsers()
    for name, (_, line) in COMMANDS.items():
        parser = commands.add_parser(name, help=line, description=line)
        module_of(name).configure(parser)
        mark_files(parser)
    return whole


def mark_files(parser: argparse.ArgumentParser) -> None:
    """Which arguments are paths: shtab asks each for an attribute `complete`."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                mark_files(inner)
            continue
        metavar = action.metavar if isinstance(action.metavar, str) else ""
        if metavar in FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.type is Path or metavar.endswith(FILES) or action.dest in ("files", "model"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
