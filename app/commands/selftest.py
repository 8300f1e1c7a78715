"""Does this machine compute what it should: every part of the models, against Kyutai's numbers.

A minute or two, no download. Each part of a model runs on MLX's default device (a Mac's GPU) and
is compared with what Kyutai's PyTorch code says, with numpy in double precision, or with the CPU
beside. A part that is wrong names what to take instead.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rich.console import Console
from rich.status import Status

from moshi_mlx.errors import MoshiError, UsageError
from moshi_mlx.output.whole_file import check_outputs, write_text

from ..machine.facts import Facts, gather
from ..options.model import add_force_option
from ..selftest import report
from ..selftest.part import Fallback, PartResult
from ..selftest.remembered import default_path, outcome_of, remember
from ..selftest.run import Runner
from ..selftest.table import parts

Wanted = dict[str, Fallback]  # parts by name, with what to take instead
Results = list[PartResult]
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
) -> int:
    """0, or 1 when a part is wrong; `state`: where that is kept. Raises MoshiError."""
    chosen = chosen_parts(args.parts)
    if args.json not in (None, "-"):
        check_outputs([Path(args.json)], force=args.force)
    facts = gather((), network=False, audio=False)
    if facts.mlx.backend is None:
        raise MoshiError(f"MLX doesn't start here ({facts.mlx.why}): see `moshi doctor`")
    table = None if args.json == "-" else Console(highlight=False, soft_wrap=True)
    results = watched(chosen, run_parts, table)
    if not args.parts:
        keep(results, default_path() if state is None else state)
    document = report.as_json(results, facts)
    if table is not None:
        report.show(results, facts, table)
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


def chosen_parts(names: Sequence[str]) -> Wanted:
    """The parts that were named, or all. Raises UsageError for a name that none begins with."""
    every = {part.name: part.fallback for part in parts()}
    if not names:
        return every
    found: Wanted = {}
    for name in names:
        fitting = {n: f for n, f in every.items() if n.lower().startswith(name.lower())}
        if not fitting:
            raise UsageError(f"no part {name!r}; known: {', '.join(every)}")
        found |= fitting
    return {name: fallback for name, fallback in every.items() if name in found}


def watched(
    chosen: dict[str, Fallback], run_parts: RunParts, table: Console | None
) -> list[PartResult]:
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
        return run_parts(chosen, begin, end)
