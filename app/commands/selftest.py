"""Does this machine compute what it should: every part of the models, against Kyutai's numbers.

No download. Each part of a model runs on MLX's default device (a Mac's GPU) and
is compared with what Kyutai's PyTorch code says, with numpy in double precision, or with the CPU
beside. A part that is wrong names what to take instead.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.status import Status

from moshi_mlx.errors import MoshiError, UsageError
from moshi_mlx.output.whole_file import check_outputs, write_text

from ..audio.devices.choice import Wish
from ..machine.facts import Facts, gather
from ..options.fallbacks import Ask, asked
from ..options.model import add_force_option
from ..selftest import report
from ..selftest.part import Fallback, PartResult
from ..selftest.remembered import default_path, outcome_of, remember, sound_path
from ..selftest.run import Runner
from ..selftest.sound.site import SoundSite
from ..selftest.sound.table import run_sound_parts, site_here, sound_parts
from ..selftest.table import parts
from .devices import add_device_options, checked_channel

Wanted = dict[str, Fallback]  # parts by name, with what to take instead
Results = list[PartResult]
Chosen = TypeVar("Chosen")
RunParts = Callable[[Wanted, Callable[[str], None], Callable[[PartResult], None]], Results]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help='these alone, by the start of their names (such as "KV" or q4)',
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="a report for a bug tracker (no names, no paths); without FILE instead of the table",
    )
    parser.add_argument(
        "--audio",
        action="store_true",
        help="microphone, loudspeaker and the system's sound in place of what is computed: they "
        "are opened and closed for a minute; nothing is played, nothing kept",
    )
    add_device_options(parser)
    add_force_option(parser)


def in_child(
    fallbacks: Wanted,
    tell_begin: Callable[[str], None],
    tell_result: Callable[[PartResult], None],
) -> Results:
    return Runner(fallbacks, tell_begin, tell_result).run()


def run(
    args: argparse.Namespace,
    gather: Callable[..., Facts] = gather,
    run_parts: RunParts = in_child,
    state: Path | None = None,
    sound_site: Callable[[Wish], SoundSite] = site_here,
) -> int:
    """0, or 1 when a part is wrong; `state`: where that is kept. Raises MoshiError."""
    if args.audio:
        return run_audio(args, gather, state, sound_site)
    if args.input or args.output or args.input_channel != 1:
        raise UsageError("--input, --output and --input-channel are of --audio: give that too")
    chosen = chosen_parts(args.parts, {part.name: part.fallback for part in parts()})
    check_report(args)
    facts = gather((), network=False, audio=False)
    if facts.mlx.backend is None:
        raise MoshiError(f"MLX doesn't start here ({facts.mlx.why}): see `moshi doctor`")
    table = table_for(args)
    results = watched(lambda *tell: run_parts(chosen, *tell), table)
    if not args.parts:
        keep(results, default_path() if state is None else state)
    if table is not None:
        report.show(results, report.device_of(facts), table)
    return give(args, report.as_json(results, facts))


def run_audio(
    args: argparse.Namespace,
    gather: Callable[..., Facts],
    state: Path | None,
    sound_site: Callable[[Wish], SoundSite],
) -> int:
    """The same of the parts about sound. Raises MoshiError."""
    every = {part.name: part for part in sound_parts()}
    chosen = chosen_parts(args.parts, every)
    check_report(args)
    if not agreed():
        return 0
    site = sound_site(Wish(args.input, args.output, checked_channel(args.input_channel)))
    facts = gather((), network=False, audio=False)
    table = table_for(args)
    results = watched(lambda *tell: run_sound_parts(list(chosen.values()), site, *tell), table)
    if not args.parts:
        keep(results, sound_path() if state is None else state)
    if table is not None:
        report.show(results, "sound", table, "are as they should be")
    return give(args, report.as_json(results, facts))


def agreed(ask: Ask = asked, somebody: Callable[[], bool] = lambda: sys.stdin.isatty()) -> bool:
    """Whoever sits at the terminal is asked; in a script `--audio` itself says so."""
    return not somebody() or ask(
        "Microphone and loudspeaker are opened and closed for a minute; nothing is played, nothing "
        "kept. Go on?"
    )


def check_report(args: argparse.Namespace) -> None:
    """Whether the report may be written. Raises MoshiError."""
    if args.json not in (None, "-"):
        check_outputs([Path(args.json)], force=args.force)


def table_for(args: argparse.Namespace) -> Console | None:
    return None if args.json == "-" else Console(highlight=False, soft_wrap=True)


def give(args: argparse.Namespace, document: dict[str, Any]) -> int:
    """The report, where one is wanted; the exit status."""
    if args.json == "-":
        print(json.dumps(document))
    elif args.json:
        write_text(Path(args.json), json.dumps(document) + "\n")
    return 0 if document["ok"] else 1


def keep(results: Results, path: Path) -> None:
    """For talks and the doctor. Where it can't be written they know nothing of it."""
    try:
        remember(outcome_of(results), path)
    except (MoshiError, OSError) as error:
        print(f"the outcome can't be kept for talks to come ({error})", file=sys.stderr)


def chosen_parts(names: Sequence[str], every: dict[str, Chosen]) -> dict[str, Chosen]:
    """The parts that were named, or all. Raises UsageError for a name that none begins with."""
    if not names:
        return every
    found: set[str] = set()
    for name in names:
        fitting = {n for n in every if n.lower().startswith(name.lower())}
        if not fitting:
            raise UsageError(f"no part {name!r}; known: {', '.join(every)}")
        found |= fitting
    return {name: part for name, part in every.items() if name in found}


def watched(
    run_parts: Callable[[Callable[[str], None], Callable[[PartResult], None]], Results],
    table: Console | None,
) -> Results:
    """Each line as it comes, and on a terminal what is being looked at."""
    errors = Console(stderr=True)
    status = Status("starting ...", console=errors) if errors.is_terminal else None
    holding: AbstractContextManager = nullcontext() if status is None else status

    def begin(name: str) -> None:
        if status is not None:
            status.update(f"{name} ...")

    def end(result: PartResult) -> None:
        if table is not None:
            table.print(report.line_of(result))

    with holding:
        return run_parts(begin, end)
