"""Make a smaller model: any checkpoint to 8, 6, 5, 4 or 3 bits, or mixed, and tell what it cost."""

import argparse
import importlib
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from moshi_mlx import load
from moshi_mlx.backend.precision import exact_float32
from moshi_mlx.errors import UsageError, printable
from moshi_mlx.hub import own_parts
from moshi_mlx.weights.recipes import Recipe

from .calibrated.calibration import Calibration, read_calibration
from .checkpoint.checkpoint import Checkpoint, open_checkpoint, plan_of
from .checkpoint.place import check_target, real_target
from .checkpoint.plan import unused_patterns
from .checkpoint.target import Outcome, make_target, small_parts
from .mixed.sizing import Choice, Goal, choose_recipe
from .recipe.recipes import RECIPES, find_recipe
from .report.gain import Gain, gain_of
from .report.progress_bar import progress_bar
from .report.report import FILE, Report, report_of, to_json
from .report.tables import short

COMMANDS = {"report": ".report.command", "push": ".push.command"}  # `moshi quantize report ...`


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """A command of its own, or SOURCE TARGET (a folder named like a command: ./report)."""
    if not argv or argv[0] not in COMMANDS:
        return parser.parse_args(argv)
    module = importlib.import_module(COMMANDS[argv[0]], __package__)
    own = type(parser)(prog=f"moshi quantize {argv[0]}", description=module.__doc__)
    module.configure(own)
    args = own.parse_args(argv[1:])
    args.command = module.run
    return args


def configure_completion(parser: argparse.ArgumentParser) -> None:
    """The commands of its own, which `parse` tells apart from a source, and then as `configure`."""
    commands = parser.add_subparsers(metavar="")
    for name, where in COMMANDS.items():
        module = importlib.import_module(where, __package__)
        module.configure(commands.add_parser(name, help=(module.__doc__ or "").partition(":")[0]))
    configure(parser)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "`moshi quantize report --help`: compare two models; "
        "`moshi quantize push --help`: upload one."
    )
    parser.add_argument("source", help="a folder or a Hugging Face repository")
    parser.add_argument("target", type=Path, help="the folder to make")
    parser.add_argument("--recipe", help=f"{', '.join(RECIPES)}, or a JSON file (default: q4)")
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="DIR",
        help="a folder of recordings (wav, flac) or stored codes: round by what the layers are fed",
    )
    parser.add_argument(
        "--talker",
        metavar="MODEL",
        help="the model that answers the recordings (default: the source, whole in memory)",
    )
    parser.add_argument(
        "--target-gb",
        type=float,
        metavar="GB",
        help="with --calibrate: choose the bits of each layer, the file no larger than this",
    )
    parser.add_argument(
        "--target-bits",
        type=float,
        metavar="BITS",
        help="the same, for bits per weight over all (4.6, say)",
    )
    for part in ("mimi", "tokenizer"):
        parser.add_argument(
            f"--{part}",
            metavar="FILE|MODEL",
            help=f"the target's {part}: a file, or the model that has it (default: the source's)",
        )
    parser.add_argument(
        "--lora",
        metavar="FILE|MODEL",
        help="merge this adapter first: a file, or a folder or repository that holds one",
    )
    parser.add_argument("--force", action="store_true", help="replace the target if it exists")
    parser.add_argument("--revision", help="branch, tag or commit of the repository")
    parser.add_argument("--offline", action="store_true", default=None, help="no network")


def run(args: argparse.Namespace) -> int:
    exact_float32()
    if "command" in args:
        return args.command(args)
    goal = goal_of(args)
    given = {"mimi": args.mimi, "tokenizer": args.tokenizer}
    parts = own_parts(**given)
    checkpoint = open_checkpoint(args.source, args.revision, args.offline, parts, args.lora)
    recipe = find_recipe(args.recipe or "q4")
    plan_of(checkpoint, recipe)  # a checkpoint that doesn't fit its config is told at once
    check_target(args.target, checkpoint.folder, args.force)  # before minutes of work
    copies = small_parts(checkpoint, **given, offline=args.offline)  # all of them there
    calibration = calibration_of(args, checkpoint)
    papers: dict[str, str] = {}
    try:
        if goal is not None and calibration is not None:
            choice = chosen_by(calibration, goal)
            recipe, papers = choice.recipe, choice.papers()
        outcome, report = make(args, checkpoint, recipe, calibration, papers, copies)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        raise
    for line in outcome.fallbacks:
        print(f"note: {printable(line)}")
    if recipe.name not in RECIPES:
        for pattern in unused_patterns(outcome.plan, recipe):
            print(f"note: the recipe's {pattern!r} decides about no layer")
    print(f"{printable(str(outcome.folder))}: {short(report)}")
    if calibration is not None:
        print(gained(calibration, outcome))
    return 0


def gained(calibration: Calibration, outcome: Outcome) -> Gain:
    """Beside a larger error of the weights: how much less the talk differs."""
    with progress_bar("gain", " frames") as bar:
        return gain_of(calibration, outcome.plan, outcome.folder, bar.update)


def goal_of(args: argparse.Namespace) -> Goal | None:
    """The size asked for. Raises QuantizeError for options that contradict each other."""
    given = [value for value in (args.target_gb, args.target_bits) if value is not None]
    if not given:
        return None
    if len(given) > 1 or args.recipe is not None:
        raise UsageError("choose one: --recipe, --target-gb or --target-bits")
    if not 0 < given[0] < math.inf:
        raise UsageError(f"the target's size must be a number above 0, not {given[0]:g}")
    if args.calibrate is None:
        raise UsageError(
            "--target-gb and --target-bits need --calibrate DIR, a folder of recordings: "
            "the layers' bits are chosen by what is measured on them"
        )
    return Goal(args.target_gb, args.target_bits)


def chosen_by(calibration: Calibration, goal: Goal) -> Choice:
    """The recipe for a size, printed."""
    with progress_bar("sensitivity", " steps") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done)

        choice = choose_recipe(calibration, goal, progress)
    print(f"chosen for {goal}:\n{choice}")
    return choice


def calibration_of(args: argparse.Namespace, checkpoint: Checkpoint) -> Calibration | None:
    """What the options say about calibration. Raises QuantizeError."""
    if args.calibrate is None:
        if args.talker is not None:
            raise UsageError("--talker is for --calibrate: give a folder of recordings with it")
        return None
    talker = partial(load, args.talker, offline=args.offline)
    if args.talker is None:
        own = {"mimi": args.mimi, "tokenizer": args.tokenizer, "lora": args.lora}
        talker = partial(load, args.source, revision=args.revision, offline=args.offline, **own)
    calibration = read_calibration(checkpoint, args.calibrate, talker)
    print(f"calibrating on {calibration}")
    return calibration


def make(
    args: argparse.Namespace,
    checkpoint: Checkpoint,
    recipe: Recipe,
    calibration: Calibration | None,
    papers: Mapping[str, str],
    copies: Mapping[str, Path],
) -> tuple[Outcome, Report]:
    """The target with its report in it, a bar over all passes through the weights."""
    plan = plan_of(checkpoint, recipe)
    total = sum(planned.num_weights for planned in plan)
    options: dict[str, Any] = {"force": args.force, "copies": copies}
    if calibration is not None:
        total += calibration.num_weights(plan)
    reports: list[Report] = []
    with progress_bar(recipe.name, " weights", total) as bar:

        def compared(folder: Path) -> str:
            bar.close()
            reports.append(comparison(checkpoint, folder, real_target(args.target).name))
            return json.dumps(to_json(reports[0]), indent=1) + "\n"

        ready = {name: _as_it_is(text) for name, text in papers.items()}
        options["papers"] = ready | {FILE: compared}
        if calibration is not None:
            options["prepare"] = calibration.prepare(bar.update)
            options["rounding_name"] = calibration.label
        outcome = make_target(checkpoint, args.target, recipe, progress=bar.update, **options)
    return outcome, reports[0]


def comparison(checkpoint: Checkpoint, folder: Path, name: str) -> Report:
    """The short report, with a bar; the whole one goes into the target."""
    with progress_bar("comparing", " weights") as bar:
        return report_of(checkpoint, folder, bar.update, name)


def _as_it_is(text: str) -> Callable[[Path], str]:
    return lambda folder: text
