"""What to take instead of parts that `moshi selftest` found to be wrong here, once asked."""

import argparse
import sys
from collections.abc import Callable

from moshi_mlx.codec.rust import rust_available
from moshi_mlx.weights.recipes import RECIPES

from ..selftest.part import PAUSES, RUST, SPEED, Fallback
from ..selftest.remembered import SelftestOutcome, WrongPart

Ask = Callable[[str], bool]


def asked(question: str) -> bool:
    """On a terminal; anywhere else nobody can say yes."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(question, end=" [Y/n] ", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("", "y", "yes")


def take_fallbacks(
    args: argparse.Namespace,
    outcome: SelftestOutcome | None,
    recipe: str,
    ask: Ask = asked,
    rust: Callable[[], bool] = rust_available,
) -> list[str]:
    """Change options away from parts that are wrong, where somebody agrees; the lines to tell.

    `recipe`: of the model that will talk, "" where it isn't known.
    """
    told, refused = [], set()
    for part in outcome.wrong if outcome else ():
        fallback = part.fallback
        if not concerns(part, args, recipe) or fallback in refused:
            continue
        wrong = f"`moshi selftest` found that {part.name} is wrong here"
        if not fallback.option:
            told.append(f"{wrong}: take {fallback.advice}")
        elif fallback == RUST and not (rust() and args.model != "nano"):
            told.append(f"{wrong}, and rustymimi can't replace it")
        elif ask(f"{wrong}. Take {fallback.advice}?"):
            setattr(args, fallback.option, fallback.value)
        else:
            refused.add(fallback)
            told.append(f"{wrong}: {fallback.advice} goes around it")
    return told


def concerns(part: WrongPart, args: argparse.Namespace, recipe: str) -> bool:
    """Whether a talk with these options runs a part that is wrong."""
    fallback: Fallback = part.fallback
    if part.name in (SPEED, PAUSES):
        return False
    if fallback.option == "codec":
        return args.codec != "rust"
    if fallback.option:
        return getattr(args, fallback.option) != fallback.value
    return part.name == recipe if part.name in RECIPES else True
