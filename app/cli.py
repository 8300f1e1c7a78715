"""The command line: one table of subcommands, one place where errors become one line and a status.

Each subcommand's module has `configure(parser)` and `run(args) -> int` and is imported only when
it is called, so that `moshi --help` starts at once.
"""

import argparse
import contextlib
import difflib
import errno
import io
import os
import select
import signal
import stat
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import NoReturn

import moshi_mlx
from moshi_mlx.errors import MoshiError, UsageError, printable
from moshi_mlx.output.whole_file import ExistsError

from .audio.keep_awake import KeepAwake
from .commands.before_mlx import prepare
from .commands.registry import COMMANDS, module_of
from .commands.signals import Signals, leave

# What goes on without anybody typing: talks, downloads, hours of work. `web` sees to it itself.
AWAKE = {
    "chat",
    "demo",
    "file",
    "transcribe",
    "say",
    "translate",
    "text",
    "bench",
    "models",
    "quantize",
    "selftest",
}

# What the system says of a name that it doesn't even look up, or not for this user.
REFUSED_NAMES = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ELOOP)


def check_environment() -> None:
    """Kyutai's own distribution has our import name: each overwrites the other's files.

    After it was removed again, some of ours are gone with it.
    """
    repair = (
        "install moshi-local into one of its own (`uv tool install .` in its checkout does that)"
    )
    try:
        theirs = version("moshi_mlx")
    except PackageNotFoundError:
        if "load" in dir(moshi_mlx):
            return
        raise MoshiError(
            "moshi_mlx here isn't that of moshi-local, or what Kyutai's package of the same name "
            f"left of it when it was removed: {repair}"
        ) from None
    raise MoshiError(
        f"Kyutai's own moshi_mlx {theirs} is installed here as well, and the two can't share an "
        f"environment: {repair}"
    )


def overview() -> str:
    lines = [f"  {name:<10} {help_line}" for name, (_, help_line) in COMMANDS.items()]
    return "\n".join(
        ["usage: moshi COMMAND [options]", "", "Talk with Moshi on your own machine.", ""]
        + ["commands:", *lines, "", "`moshi COMMAND --help` tells what a command can do."]
    )


def unknown_command(name: str) -> str:
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean `moshi {near[0]}`?" if near else f"known: {', '.join(COMMANDS)}"
    return f"unknown command {name!r}; {hint}"


def dispatch(
    argv: Sequence[str],
    signals: Signals,
    keep_awake: Callable[[], contextlib.AbstractContextManager] = KeepAwake,
) -> int:
    """Run one command line; returns the exit status and lets MoshiError through."""
    if not argv or argv[0] in ("-h", "--help"):
        print(overview())
        return 0
    if argv[0] == "--version":
        print(f"moshi-local {version('moshi-local')}")
        return 0
    prepare(argv)
    module, args = parsed(argv)
    use_temporary_folder()
    signals.interrupt_s = getattr(module, "INTERRUPT_S", signals.interrupt_s)
    with keep_awake() if argv[0] in AWAKE else contextlib.nullcontext():
        return module.run(args)


class Parser(argparse.ArgumentParser):
    """What it refuses may be anything that was typed, or pasted."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def parsed(argv: Sequence[str]) -> tuple[ModuleType, argparse.Namespace]:
    """A command's module and what its line says. Raises UsageError, and SystemExit as argparse."""
    if argv[0] not in COMMANDS:
        raise UsageError(unknown_command(argv[0]))
    module = module_of(argv[0])
    parser = Parser(prog=f"moshi {argv[0]}", description=module.__doc__)
    module.configure(parser)
    parse = getattr(module, "parse", type(parser).parse_args)  # its own: preferences in a file
    return module, parse(parser, argv[1:])


def open_standard_streams() -> None:
    """Where one of them is closed (`<&-`, a service), the next file that is opened takes its number
    and is read or written as if it were the terminal; MLX takes no file of number 0 at all."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no text at all


def use_temporary_folder() -> None:
    """One that can be written to, for Python and for MLX, which believes TMPDIR blindly."""
    try:
        os.environ["TMPDIR"] = tempfile.gettempdir()
    except FileNotFoundError:
        raise MoshiError(
            "no folder for temporary files can be written to: make one, and say where with TMPDIR"
        ) from None


def ask_the_hub_for_models_alone() -> None:
    """huggingface_hub asks for a list of coding agents as well, once a day, and keeps whatever
    comes: what a hotel's network answers would end every command until the next day."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def nobody_reads() -> int | None:
    """The status of a command whose output has nowhere to go: its pipe's reader, its terminal."""
    for descriptor in (1, 2):
        poll = select.poll()
        poll.register(descriptor, 0)
        if any(what & (select.POLLERR | select.POLLHUP) for _, what in poll.poll(0)):
            terminal = stat.S_ISCHR(os.fstat(descriptor).st_mode)
            return 128 + (signal.SIGHUP if terminal else signal.SIGPIPE)
    return None


def attempt(argv: Sequence[str], signals: Signals) -> int:
    """Expected failures become one line and exit code 1 (2 where the command line is wrong, as
    argparse has it); bugs keep their traceback."""
    try:
        check_environment()
        return dispatch(argv, signals)
    except MoshiError as error:
        option = " with --force" if isinstance(error, ExistsError) else ""
        print(f"error: {error}{option}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except OSError as error:
        if error.errno not in REFUSED_NAMES or error.filename is None:
            raise
        told = MoshiError(f"{error.filename} can't be used ({error.strerror}); check the path")
        print(f"error: {told}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        sys.stdout.flush()  # here, where a reader that has gone is understood


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of a command. After a signal the process is over here: an interpreter that
    takes itself down crashes where a thread, or an import, was stopped in the middle."""
    open_standard_streams()
    ask_the_hub_for_models_alone()
    with Signals(heed_nohup=True) as signals:
        try:
            status = attempt(sys.argv[1:] if argv is None else argv, signals)
        except OSError as error:
            gone = nobody_reads()
            if gone is None and error.errno != errno.ENOSPC:
                raise
            if gone is None:
                print("error: the disk is full; make room, and start again", file=sys.stderr)
            leave(signals.status or gone or 1)
        if signals.status == 128 + signal.SIGINT:
            leave(status)  # the command's own: bench has reported what it has
    return status


if __name__ == "__main__":
    sys.exit(main())
