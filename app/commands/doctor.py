"""Will Moshi run here: one screen about this machine, each line with what to do about it.

The exit status is 1 when there are problems to solve, else 0.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from tqdm import tqdm

from moshi_mlx.errors import UsageError
from moshi_mlx.output.whole_file import check_outputs, write_text

from ..doctor import checks, report
from ..doctor.model_check import check_model
from ..doctor.speed import Speed, measure
from ..machine.facts import Facts, gather
from ..options.model import KYUTAI_BITS, KYUTAIS_VOICES, add_force_option, kyutai_name
from ..selftest.remembered import SelftestOutcome, recall, sound_path

MODELS = tuple(kyutai_name(voice, bits) for voice in KYUTAIS_VOICES for bits in KYUTAI_BITS)
SPEED_TEST_BYTES = 2 * 10**9  # free memory that the five-second benchmark may take


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="a report for a bug tracker (no names, no paths) instead of the screen",
    )
    parser.add_argument(
        "--model", help="read this model too, to the last value: what of it is damaged"
    )
    parser.add_argument("--revision", help="a commit or branch of the model's repository")
    parser.add_argument("--quick", action="store_true", help="leave the five-second benchmark out")
    add_force_option(parser)
    parser.add_argument("--offline", action="store_true", help="don't ask the network anything")


def run(
    args: argparse.Namespace,
    gather: Callable[..., Facts] = gather,
    measure: Callable[[], Speed | None] = measure,
) -> int:
    """1 when there are problems to solve before Moshi can talk here, else 0."""
    if args.json not in (None, "-"):
        check_outputs([Path(args.json)], force=args.force)
    facts = gather(MODELS, network=not args.offline)
    speed, why_not = (None, "--quick") if args.quick else test_speed(facts, measure)
    lines = [
        *checks.check(facts),
        computes(recall()),
        *sounds(recall(sound_path())),
        *model_lines(args),
        report.speed_line(speed, why_not),
    ]
    status = 1 if any(line.level == checks.PROBLEM for line in lines) else 0
    if args.json is None:
        report.show(lines, Console(highlight=False))
        return status
    text = json.dumps(report.as_json(facts, lines, speed))
    if args.json == "-":
        print(text)
    else:
        write_text(Path(args.json), text + "\n")
    return status


def computes(outcome: SelftestOutcome | None) -> checks.Finding:
    """What the last self-test said."""
    if outcome is None:
        text = "not asked yet: `moshi selftest` tells whether this machine computes right"
        return checks.Finding(checks.OK, "selftest", text)
    if not outcome.wrong:
        text = f"{outcome.right} parts compute what they should ({outcome.when})"
        return checks.Finding(checks.OK, "selftest", text)
    return wrong_parts("selftest", outcome)


def sounds(outcome: SelftestOutcome | None) -> list[checks.Finding]:
    """What `moshi selftest --audio` said of the sound system, figures and all; nothing unasked."""
    if outcome is None:
        return []
    figures = "; ".join(outcome.figures)
    if outcome.wrong:
        found = wrong_parts("sound selftest", outcome)
        return [replace(found, text=f"{found.text} ({figures})")]
    text = f"{outcome.right} parts are as they should be ({outcome.when}; {figures})"
    return [checks.Finding(checks.OK, "sound selftest", text)]


def wrong_parts(title: str, outcome: SelftestOutcome) -> checks.Finding:
    names = ", ".join(part.name for part in outcome.wrong)
    advice = "; ".join(dict.fromkeys(part.fallback.advice for part in outcome.wrong))
    text = f"wrong on {outcome.when}: {names}"
    return checks.Finding(checks.WARNING, title, text, f"take instead: {advice}")


def model_lines(args: argparse.Namespace) -> list[checks.Finding]:
    """What `--model` asks for, with a bar where there is a terminal. Raises UsageError."""
    if args.model is None:
        if args.revision is not None:
            raise UsageError("--revision is of a model: give --model too")
        return []
    with tqdm(unit="B", unit_scale=True, disable=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return check_model(args.model, args.revision, progress)


def test_speed(
    facts: Facts, measure: Callable[[], Speed | None] = measure
) -> tuple[Speed | None, str]:
    """The five-second benchmark where it can run, else the reason why not."""
    if facts.mlx.backend is None:
        return None, "MLX doesn't start here"
    free = facts.memory_free_bytes
    if free is not None and free < SPEED_TEST_BYTES:
        return None, f"only {free / 1e9:.1f} GB of memory are free"
    with Console(stderr=True).status("measuring for five seconds ..."):
        speed = measure()
    return speed, "" if speed else "the test did not end in time"
