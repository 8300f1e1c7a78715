"""Tell what a quantized model lost: sizes, errors layer by layer, and with recordings its talk."""

import argparse
import json
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from moshi_mlx.errors import UsageError
from moshi_mlx.output.whole_file import check_outputs, write_text

from . import tables
from .html import page
from .progress_bar import progress_bar
from .report import FILE, Report, make_report, to_json

FREE_FRAMES = 500


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("original", metavar="A", help="the original, a folder or a repository")
    parser.add_argument("quantized", metavar="B", help="the quantized one")
    parser.add_argument(
        "--lora",
        metavar="FILE|MODEL",
        help="compare with the original and this adapter, as `moshi quantize --lora` merged it",
    )
    parser.add_argument(
        "--audio",
        type=Path,
        metavar="DIR",
        help="recordings (wav, flac) or stored codes: compare what both say to them",
    )
    parser.add_argument(
        "--frames",
        type=int,
        help=f"length of the free run with --audio, 80 ms each (default: {FREE_FRAMES})",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write it as a page")
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    parser.add_argument("--offline", action="store_true", default=None, help="no network")


def run(args: argparse.Namespace) -> int:
    frames = FREE_FRAMES if args.frames is None else args.frames
    if not 1 <= frames <= 1_000_000:
        raise UsageError("--frames must lie between 1 and 1000000")
    if args.frames is not None and args.audio is None:
        raise UsageError("--frames is the length of the free run: give --audio DIR too")
    outputs = [path for path in (args.json, args.html) if path is not None]
    check_outputs(outputs, files_of(args), args.force)  # before minutes of work
    with ExitStack() as bars:
        # drawn at the first step, after all that can be told at once
        weights = cache(lambda: bars.enter_context(progress_bar("weights", " weights")))
        talk = cache(lambda: bars.enter_context(progress_bar("talk", " frames")))

        def talked(frames: int, of: int) -> None:
            talk().total = of
            talk().update(frames)

        report = make_report(
            args.original,
            args.quantized,
            args.audio,
            free_frames=frames,
            offline=args.offline,
            lora=args.lora,
            progress=lambda count: weights().update(count),
            talk_progress=talked,
        )
    if report.made.get("adapter") and args.lora is None:
        print(f"note: {report.quantized} holds an adapter: --lora compares with that in A, too")
    print(terminal(report))
    if args.json is not None:
        write_text(args.json, json.dumps(to_json(report), indent=1) + "\n")
    if args.html is not None:
        write_text(args.html, page(report))
    return 0


def files_of(args: argparse.Namespace) -> list[Path]:
    """What is compared, as far as it lies here: no report takes its place, but an older one's."""
    named = [Path(name).expanduser() for name in (args.original, args.quantized, args.lora) if name]
    inside = [path for folder in named if folder.is_dir() for path in folder.iterdir()]
    return [path for path in (*named, *inside) if path.is_file() and path.name != FILE]


def terminal(report: Report) -> str:
    """Everything but the tensors that are least off."""
    parts = [
        tables.size_line(report),
        tables.judgement(report),
        "",
        tables.plain(tables.layers(report, 10)),
    ]
    if (talk := report.talk) is not None:
        parts += ["", tables.material_line(talk), tables.plain(tables.streams(talk))]
        parts += ["", tables.free_line(talk), tables.plain(tables.texts(talk))]
    return "\n".join(parts)
