"""Upload a quantized model to the Hugging Face hub, with a model card made from its report."""

import argparse
import sys
from pathlib import Path

from moshi_mlx.errors import UsageError
from moshi_mlx.hub import REPOSITORY

from ..errors import QuantizeError
from .push import licence_of, model_card, quantized_folder, read_report, upload


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", type=Path, help="a folder that `moshi quantize` made")
    parser.add_argument("repository", help="owner/name, made if it isn't there")
    parser.add_argument("--private", action="store_true", help="a new repository is private")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="JSON of `moshi quantize report` (default: the one in the target)",
    )
    parser.add_argument(
        "--license", metavar="NAME", help="for the card (default: the original's, from the hub)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the card, upload nothing")


def run(args: argparse.Namespace) -> int:
    if not REPOSITORY.fullmatch(args.repository):
        raise UsageError(
            f"{args.repository!r} is no repository's name: it is owner/name, of letters, digits, "
            "-, _ and ."
        )
    config = quantized_folder(args.target)
    report = read_report(args.target, args.report)
    if report.made != config["quantization"]:
        raise QuantizeError(
            f"the report is about another model than {args.target}: make it again with "
            "`moshi quantize report`"
        )
    licence = args.license or licence_of(str(report.made.get("source")))
    if licence is None:
        print("note: the card names no licence; --license gives one", file=sys.stderr)
    text_only = "hidden_size" in config or config.get("n_q") == 0
    card = model_card(args.repository, report, licence, text_only)
    if args.dry_run:
        print(card)
        return 0
    print(upload(args.target, args.repository, card, args.private))
    return 0
