"""Tell what a quantized model lost: sizes, errors layer by layer, and with recordings its talk."""

import argparse
import json
import os
import tempfile
from pathlib import Path

from tqdm import tqdm

from ..errors import QuantizeError
from . import tables
from .html import page
from .report import Report, make_report, to_json


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("original", metavar="A", help="the original, a folder or a repository")
    parser.add_argument("quantized", metavar="B", help="the quantized one")
    parser.add_argument(
        "--audio",
        type=Path,
        metavar="DIR",
        help="recordings (wav, flac) or stored codes: compare what both say to them",
    )
    parser.add_argument(
        "--frames",
        type=int,
        default=500,
        help="length of the free run with --audio, 80 ms each (default: 500)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write it as a page")
    parser.add_argument("--offline", action="store_true", default=None, help="no network")


def run(args: argparse.Namespace) -> int:
    if not 1 <= args.frames <= 1_000_000:
        raise QuantizeError("--frames must lie between 1 and 1000000")
    for path in (args.json, args.html):
        if path is not None:
            check_writable(path)  # before minutes of work
    with tqdm(unit=" weights", unit_scale=True, desc="report") as bar:
        report = make_report(
            args.original,
            args.quantized,
            args.audio,
            free_frames=args.frames,
            offline=args.offline,
            progress=bar.update,
        )
    print(terminal(report))
    if args.json is not None:
        write_whole(args.json, json.dumps(to_json(report), indent=1) + "\n")
    if args.html is not None:
        write_whole(args.html, page(report))
    return 0


def terminal(report: Report) -> str:
    """Everything but the tensors that are least off."""
    parts = [tables.size_line(report), "", tables.plain(tables.layers(report, 10))]
    if (talk := report.talk) is not None:
        parts += ["", tables.material_line(talk), tables.plain(tables.streams(talk))]
        parts += ["", tables.free_line(talk), tables.plain(tables.texts(talk))]
    return "\n".join(parts)


def check_writable(path: Path) -> None:
    """Raises QuantizeError for a name that can't become a file."""
    parent = path.absolute().parent
    if path.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK):
        raise QuantizeError(f"{path} can't be written: choose a file in a folder that takes it")


def write_whole(path: Path, text: str) -> None:
    """A file that takes its name when it is whole. Raises QuantizeError."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.absolute().parent, delete=False
        ) as file:
            temporary = Path(file.name)
            try:
                file.write(text)
                file.close()
                temporary.chmod(0o644)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise QuantizeError(f"{path} can't be written: {error.strerror or error}") from error
