"""Tell whether sound was made by moshi-local: its mark, its signature, the index of this machine.

Exit status: 0 found, 3 not found, 1 an error. Of several files: 0 when it was found in any.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from moshi_mlx.audio.file import read_mono
from moshi_mlx.errors import MoshiError, UsageError, printable
from moshi_mlx.output.whole_file import check_outputs, write_text
from moshi_mlx.provenance import Window, make_key, read_key

from ..options.named_files import named_files
from ..provenance.index import Index, default_path
from ..provenance.tracing import Tracer
from ..provenance.verdict import MarkVerdict

if TYPE_CHECKING:
    from moshi_mlx.codec.interface import Codec

NOT_FOUND = 3
LONG_S = 600.0  # from there on, progress is shown


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help="sound files")
    parser.add_argument("--json", action="store_true", help="everything, as JSON on stdout")
    parser.add_argument("--html", type=Path, metavar="PAGE", help="a page with the timeline")
    parser.add_argument("--force", action="store_true", help="replace a page that is there")
    parser.add_argument(
        "--thorough", action="store_true", help="up to 6 %% of tempo or speed instead of 2 %%"
    )
    parser.add_argument(
        "--key",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="look for the mark of this private key too; may be repeated",
    )
    parser.add_argument(
        "--make-key", type=Path, metavar="FILE", help="make a private key for marks, and end"
    )
    parser.add_argument(
        "--forget", metavar="TALK", help="take a talk, by its number, or ALL out of the index"
    )
    parser.add_argument("--talks", action="store_true", help="list the talks in the index")
    parser.add_argument(
        "--try-codec",
        metavar="MODEL",
        help="mark each FILE, pass it through this model's codec, tell what is left of that",
    )


def run(args: argparse.Namespace) -> int:
    check_together(args)
    if args.make_key is not None:
        make_key(args.make_key)
        print(f"{args.make_key}: give it to --mark-key when talking and to --key here; keep a copy")
        return 0
    if args.talks or args.forget is not None:
        return index_work(args.forget)
    if not args.files:
        raise UsageError("give a sound file: moshi trace FILE")
    if args.html is not None:
        check_outputs([args.html], named_files(args, "html"), args.force)
    if args.try_codec is not None:
        return try_codec(args)
    return trace(args)


def check_together(args: argparse.Namespace) -> None:
    """Raises UsageError for options that would be ignored."""
    alone = {"--make-key": args.make_key, "--talks": args.talks, "--forget": args.forget}
    given = [option for option, value in alone.items() if value not in (None, False)]
    looking = {"FILE": args.files, "--json": args.json, "--html": args.html, "--key": args.key}
    looking |= {"--thorough": args.thorough, "--try-codec": args.try_codec}
    unused = given[1:] + [option for option, value in looking.items() if value]
    if given and unused:
        raise UsageError(f"{given[0]} does nothing else: leave {unused[0]} out")
    if args.try_codec is not None and (args.html is not None or args.json):
        option = "--html" if args.json is False else "--json"
        raise UsageError(f"--try-codec tells on the screen alone: leave {option} out")


def trace(args: argparse.Namespace) -> int:
    """Every file, whatever becomes of the others."""
    index = default_path() if default_path().exists() else None
    keys = {str(path): read_key(path) for path in args.key}
    tracer = Tracer(keys, index, args.thorough)
    verdicts: list[MarkVerdict] = []
    failed = False
    for path in args.files:
        try:
            with progress(path) as told:
                verdicts.append(tracer.trace(path, told))
        except MoshiError as error:
            print(f"error: {error}", file=sys.stderr)
            failed = True
            continue
        if not args.json:
            show(verdicts[-1])
    for problem in tracer.problems:
        print(problem, file=sys.stderr)
    if args.json:
        print(json.dumps([verdict.as_json() for verdict in verdicts], indent=1))
    if args.html is not None and verdicts:
        from ..provenance.timeline import page

        write_text(args.html, page(verdicts))
    if failed:
        return 1
    return 0 if any(verdict.found for verdict in verdicts) else NOT_FOUND


@contextmanager
def progress(path: Path) -> Iterator[Callable[[float, float], None]]:
    """Something to tell seconds done and in all to: a bar on a terminal for a long file."""
    with ExitStack() as stack:
        bars: list[tqdm] = []

        def told(done_s: float, all_s: float) -> None:
            if not bars and all_s >= LONG_S and sys.stderr.isatty():
                bar = tqdm(total=round(all_s), unit="s", desc=path.name, leave=False)
                bars.append(stack.enter_context(bar))
            for bar in bars:
                bar.update(round(done_s) - bar.n)

        yield told


def show(verdict: MarkVerdict) -> None:
    print(f"{printable(str(verdict.path))}: {verdict.sentence()}")
    for line in verdict.lines():
        print(line)


def index_work(forget: str | None) -> int:
    """List the talks, or take some out. Raises MoshiError where there is none of that number."""
    path = default_path()
    if not path.exists():
        print("There is no index here; --index with a command that speaks begins one.")
        return 0 if forget in (None, "ALL") else 1
    with Index(path) as index:
        if forget is None:
            for line in index.lines():
                print(line)
            return 0
        if not re.fullmatch("ALL|[0-9]{1,9}", forget):
            raise UsageError(
                f"--forget {forget}: give a talk's number (moshi trace --talks) or ALL"
            )
        gone = index.forget(None if forget == "ALL" else int(forget))
        if not gone and forget != "ALL":
            raise MoshiError(f"no talk {forget} in the index; moshi trace --talks lists them")
        print(f"{gone} {'talk' if gone == 1 else 'talks'} forgotten.")
        return 0


def try_codec(args: argparse.Namespace) -> int:
    """What a neural codec leaves of the mark: unknown until somebody tries the one in question.

    Of the model no more than its Mimi is fetched and loaded.
    """
    from moshi_mlx import load_mimi
    from moshi_mlx.provenance import detect, mark

    codec = load_mimi(args.try_codec)
    for path in args.files:
        marked = mark(read_mono(path))
        before, after = detect(marked), detect(through(codec, marked))
        kept = sum(window.found for window in after)
        print(
            f"{printable(str(path))}: the mark is found in {kept} of {len(after)} windows of 10 s "
            f"behind the codec of {args.try_codec} (z {mean_z(after):.1f}; before it "
            f"{mean_z(before):.1f}, in {sum(window.found for window in before)}). Short files say "
            "little: try minutes."
        )
    return 0


def through(codec: "Codec", pcm: np.ndarray) -> np.ndarray:
    """float32 [n] -> what is heard of it, [n] less a frame begun at the end; frame by frame as in a
    talk, so that hours need no more memory than minutes."""
    stream, size = codec.stream(), codec.frame_samples
    frames = [pcm[at : at + size] for at in range(0, len(pcm) - size + 1, size)]
    coded = [stream.decode(stream.encode(frame)) for frame in frames]
    return np.concatenate([np.zeros(0, np.float32), *coded])


def mean_z(windows: Sequence[Window]) -> float:
    return sum(window.z for window in windows) / max(len(windows), 1)
