"""Make a smaller model: any checkpoint to 8, 6, 5, 4 or 3 bits, or mixed, and tell what it cost."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from .recipes import RECIPES, find_recipe
from .target import Outcome, make_target, open_checkpoint, plan_of


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="a folder or a Hugging Face repository")
    parser.add_argument("target", type=Path, help="the folder to make")
    parser.add_argument(
        "--recipe", default="q4", help=f"{', '.join(RECIPES)}, or a JSON file (default: q4)"
    )
    parser.add_argument("--force", action="store_true", help="replace the target if it exists")
    parser.add_argument("--revision", help="branch, tag or commit of the repository")
    parser.add_argument("--offline", action="store_true", default=None, help="no network")


def run(args: argparse.Namespace) -> int:
    checkpoint = open_checkpoint(args.source, args.revision, args.offline)
    recipe = find_recipe(args.recipe)
    plan = plan_of(checkpoint, recipe)
    total = sum(planned.num_weights for planned in plan)
    with tqdm(total=total, unit=" weights", unit_scale=True, desc=recipe.name) as bar:
        try:
            outcome = make_target(
                checkpoint, args.target, recipe, force=args.force, progress=bar.update
            )
        except KeyboardInterrupt:
            bar.close()
            print("interrupted: the same command goes on from here", file=sys.stderr)
            raise
    summarize(outcome, checkpoint.source.num_bytes)
    return 0


def summarize(outcome: Outcome, source_bytes: int) -> None:
    for line in outcome.fallbacks:
        print(f"note: {line}")
    print(
        f"{outcome.folder}: {outcome.num_bytes / 1e9:.3f} GB of {source_bytes / 1e9:.3f}, "
        f"{outcome.bits_per_weight:.2f} bits per weight"
    )
