"""Measure how fast Moshi runs here: every part of a frame, the memory's limit, and a verdict.

Nothing is downloaded by default: speed doesn't depend on the values of the weights, so they are
made up in the exact shape. `moshi bench compare A.json B.json` sets two reports side by side.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from tqdm import tqdm

from moshi_mlx.backend.command_buffers import CommandBuffers
from moshi_mlx.backend.compiler import can_compile
from moshi_mlx.errors import MoshiError, UsageError
from moshi_mlx.output import whole_file

from ..bench import compare, document, html, screen, trace
from ..bench.document import Bench
from ..bench.floor import bandwidth
from ..bench.measure import DeviceError, Options, Run, TellProgress, failure_line, measure
from ..bench.runner import Plan
from ..bench.subject import DEFAULT_RECIPE, DEFAULT_SHAPE, Subject, from_model, from_random
from ..machine.facts import Facts, gather
from ..options.model import (
    KYUTAIS_VOICES,
    add_force_option,
    add_model_options,
    follow_compile_option,
    model_from,
)
from .before_mlx import COMMAND_BUFFERS

INCOMPLETE = 1  # it has not measured what it was asked to
DEFAULT_FRAMES = 200
BAR = "{desc} |{bar}| {elapsed}"
INTERRUPT_S = 60.0  # what Ctrl-C leaves, for the report of what has been measured


def configure(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what to measure")
    what.add_argument(
        "--random-weights",
        metavar="SHAPE",
        help="a model's name (moshi-7b, stt-1b, tts-1.6b, hibiki-1b, nano ...) or a config.json "
        f"(default: {DEFAULT_SHAPE}; the real nano where there is no GPU)",
    )
    what.add_argument("--recipe", help=f"q3 q4 q5 q6 q8 mxfp4 ... bf16 (default: {DEFAULT_RECIPE})")
    what.add_argument("--recipes", metavar="A,B", help="several in one run: q4,q6,q8,bf16")
    what.add_argument("--frames", type=int, help=f"how many (default: {DEFAULT_FRAMES})")
    what.add_argument(
        "--minutes", type=float, help="instead: talk that long at its own pace, for the heat"
    )
    what.add_argument(
        "--context-sweep", action="store_true", help="cost at no, 1/4, 1/2 and full history"
    )
    what.add_argument("--chip", help="compute the floor for this chip, not the one found (M4 Max)")
    what.add_argument(
        COMMAND_BUFFERS,
        metavar="OPS,MB",
        help="how much work Metal is handed at a time, for comparisons: 1000,400 (default: MLX's "
        "own for the chip)",
    )
    add_model_options(parser, without="none, made-up weights are measured")
    out = parser.add_argument_group("reports")
    out.add_argument("--json", metavar="FILE", help='everything measured; "-": instead of a screen')
    out.add_argument("--html", metavar="FILE", type=Path, help="a page with figures and charts")
    out.add_argument("--trace", metavar="FILE", type=Path, help="frames for ui.perfetto.dev")
    out.add_argument("--metal-capture", metavar="FILE", type=Path, help="a .gputrace for Xcode")
    add_force_option(out)
    actions = parser.add_subparsers(dest="action", metavar="[ACTION]")
    two = actions.add_parser("compare", help="compare A.json B.json: ratios of two reports")
    two.add_argument("first", type=Path, metavar="A.json")
    two.add_argument("second", type=Path, metavar="B.json")


def run(
    args: argparse.Namespace,
    gather: Callable[..., Facts] = gather,
    measure: Callable[..., Run] = measure,
) -> int:
    if args.action == "compare":
        check_alone(args)
        return compare.compare(args.first, args.second, Console(highlight=False))
    plan = plan_from(args)
    check_outputs(args)
    follow_compile_option(args)
    facts = gather((args.model,) if args.model else (), network=False, audio=False)
    if facts.mlx.backend is None:
        raise MoshiError(f"MLX doesn't start here ({facts.mlx.why}): see `moshi doctor`")
    subjects = subjects_from(args, facts)
    options = Options(
        plan, args.context_sweep, trace=args.trace is not None, metal_capture=args.metal_capture
    )
    buffers = CommandBuffers.of_environment()  # `before_mlx` has put the option there
    compiled = not args.uncompiled and can_compile()
    bench = Bench(facts, plan, bandwidth(facts, args.chip), [], buffers, compiled)
    bench = measure_all(bench, subjects, options, measure)
    for line in bench.failures:
        print(f"error: {line}", file=sys.stderr)
    if bench.runs:
        report(bench, args)
    elif not bench.failures:
        print("interrupted before the first frame: nothing was measured", file=sys.stderr)
    return exit_status(bench)


def exit_status(bench: Bench) -> int:
    return INCOMPLETE if bench.interrupted or bench.failures else 0


def check_alone(args: argparse.Namespace) -> None:
    """Raises UsageError: `compare` measures nothing."""
    usual = argparse.ArgumentParser()
    configure(usual)
    defaults = vars(usual.parse_args([]))
    for name, value in defaults.items():
        if name != "action" and getattr(args, name) != value:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"compare reads two reports and measures nothing: leave {option} out")


def plan_from(args: argparse.Namespace) -> Plan:
    """Raises MoshiError for a run that is too short to say anything."""
    if args.minutes is not None:
        if args.frames is not None:
            raise UsageError("give --frames or --minutes, not both")
        if not 0 < args.minutes <= 24 * 60:
            raise UsageError(f"--minutes {args.minutes:g}: give more than 0 and at most a day")
        return Plan(seconds=60 * args.minutes)
    frames = DEFAULT_FRAMES if args.frames is None else args.frames
    if frames < 2:
        raise UsageError(f"--frames {frames}: give 2 or more")
    return Plan(frames)


def check_outputs(args: argparse.Namespace) -> None:
    """Before anything else: can every report be written? Raises MoshiError."""
    named = (args.html, args.trace, None if args.json in (None, "-") else Path(args.json))
    whole_file.check_outputs([path for path in named if path is not None], force=args.force)
    if args.metal_capture is not None:
        trace.check_capture(args.metal_capture)


def subjects_from(args: argparse.Namespace, facts: Facts) -> list[Subject]:
    """What the options name, checked against this machine's memory. Raises MoshiError."""
    chosen = [args.recipe] if args.recipe else (args.recipes or "").split(",")
    recipes = [recipe.strip() for recipe in chosen if recipe.strip()]
    if args.recipe and args.recipes:
        raise UsageError("give --recipe or --recipes, not both")
    if args.model or args.voice or args.bits:
        if args.random_weights:
            raise UsageError("give a model or --random-weights, not both")
        if args.model and args.voice and args.voice not in KYUTAIS_VOICES:
            raise UsageError("a frame takes as long with any voice: leave --voice out")
        if recipes:
            raise UsageError("--model has its own precision: --recipe goes with --random-weights")
        return [from_model(args, model_from(args), facts)]
    if args.lora is not None:
        raise UsageError("--lora needs the --model that it adapts: made-up weights take none")
    for name in ("revision", "offline"):
        if getattr(args, name):
            raise UsageError(f"--{name} is of a model: give --model too, made-up weights have none")
    shape = args.random_weights
    if shape is None:
        shape = DEFAULT_SHAPE
        if facts.mlx.backend == "cpu" and not recipes:
            note = f"no GPU here: measuring nano; --random-weights {DEFAULT_SHAPE} takes the 7B"
            print(note, file=sys.stderr)
            return [from_model(args, "nano", facts)]
    if args.codec == "rust":
        raise UsageError("made-up weights run with the codec in MLX: --codec rust needs a --model")
    return from_random(shape, recipes or [DEFAULT_RECIPE], facts, args.kv_bits)


def measure_all(
    bench: Bench,
    subjects: list[Subject],
    options: Options,
    measure: Callable[..., Run] = measure,
) -> Bench:
    """Every subject in turn, until Ctrl-C; one that the device gives up on stops no other."""
    runs: list[Run] = []
    failures: list[str] = []
    interrupted = False
    with progress() as reporter:
        try:
            for subject in subjects:
                say = reporter(f"{subject.model} {subject.recipe}".strip())
                try:
                    run = measure(subject, options, bench.bandwidth.gb_s, say)
                except DeviceError as failure:
                    failures.append(str(failure))
                    continue
                runs.append(run)
                if run.recording.failure is not None:
                    failures.append(failure_line(run.subject, run.recording.failure))
                if run.recording.interrupted:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            interrupted = True
    return replace(bench, runs=runs, interrupted=interrupted, failures=tuple(failures))


@contextmanager
def progress() -> Iterator[Callable[[str], TellProgress]]:
    """Gives a reporter for a title: a bar on stderr, or a line for each phase in a log."""
    drawn = sys.stderr.isatty()
    with tqdm(total=1.0, bar_format=BAR, leave=False, disable=not drawn) as bar:
        said = [""]

        def reporter(title: str) -> TellProgress:
            def report(what: str, done: float) -> None:
                description = f"{title}: {what}"
                bar.set_description_str(description, refresh=False)
                bar.n = done
                bar.refresh()
                if not drawn and description != said[0]:
                    print(description, file=sys.stderr, flush=True)
                said[0] = description

            return report

        yield reporter


def report(bench: Bench, args: argparse.Namespace) -> None:
    """Screen and files; where stdout is no terminal, its last line is one JSON document."""
    whole = document.document(bench)
    if args.html is not None:
        whole_file.write_text(args.html, html.page(bench))
    if args.trace is not None:
        traces = {run.subject.recipe: run.trace for run in bench.runs}
        whole_file.write_text(args.trace, json.dumps(trace.document(traces)))
    if args.json == "-":
        print(json.dumps(whole))
        return
    if args.json is not None:
        whole_file.write_text(Path(args.json), json.dumps(whole) + "\n")
    console = Console(highlight=False)
    screen.show(bench, console)
    if not sys.stdout.isatty():  # for whatever reads it
        print()
        print(json.dumps(document.summary(bench)))
