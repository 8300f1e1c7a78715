"""Write down what recordings say: words with their times, as text, subtitles or JSON."""

import argparse
import io
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from moshi_mlx.audio.file import read_mono
from moshi_mlx.clock import FRAME_SAMPLES, SAMPLE_RATE_HZ
from moshi_mlx.errors import AudioError, MoshiError, UsageError
from moshi_mlx.output.whole_file import OutputError, whole_files

from ..captions.formats import FORMATS, paths_of
from ..options.model import add_force_option, add_lora_option, add_source_options

if TYPE_CHECKING:
    from moshi_mlx.stt import Transcriber, Transcript

DEFAULT_MODEL = "kyutai/stt-1b-en_fr-mlx"
ALL = "all"
STDIN = "-"
CHUNK = 12 * FRAME_SAMPLES  # about a second between two moves of the progress bar


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help='recordings; "-" reads one from stdin'
    )
    parser.add_argument(
        "--format",
        default="txt",
        metavar="FORMAT",
        help=f"{', '.join(FORMATS)}, several with commas, or {ALL} (default: %(default)s)",
    )
    parser.add_argument(
        "--output-dir", type=Path, metavar="DIR", help="files go here; without it text is printed"
    )
    add_force_option(parser)
    group = add_source_options(
        parser, "a folder or a Hugging Face repository (default: %(default)s)", DEFAULT_MODEL
    )
    add_lora_option(group)


def run(args: argparse.Namespace) -> int:
    """0, or 1 if a file could not be read or written; the others are done all the same."""
    formats = formats_from(args)
    waiting = [name for name in args.files if not done(name, args, formats)]
    if not waiting:
        return 0
    check_inputs(waiting)
    from moshi_mlx.stt import load_stt

    transcriber = load_stt(args.model, revision=args.revision, offline=args.offline, lora=args.lora)
    failed = 0
    for name in waiting:
        try:
            transcript = transcribe(transcriber, name)
            deliver(transcript, name, args, formats)
        except (AudioError, OutputError) as error:
            if len(args.files) == 1:
                raise
            failed += 1
            print(f"error: {error}", file=sys.stderr)
    if failed:
        print(f"{failed} of {len(waiting)} recordings failed, see above", file=sys.stderr)
    return 1 if failed else 0


def formats_from(args: argparse.Namespace) -> list[str]:
    """The formats asked for. Raises MoshiError before anything is loaded."""
    names = formats_named(args.format)
    if args.output_dir is None:
        if len(names) > 1:
            raise UsageError("several formats need files: say where with --output-dir DIR")
        return names
    if args.output_dir.exists() and not args.output_dir.is_dir():
        raise UsageError(f"{args.output_dir} is no folder; give --output-dir another name")
    stems = [Path(name).stem for name in args.files]
    if twice := next((stem for stem in stems if stems.count(stem) > 1), None):
        raise MoshiError(
            f"two recordings would both become {twice}.{names[0]}; rename one, or run them apart"
        )
    return names


def formats_named(given: str) -> list[str]:
    """ "txt,srt" or "all" -> formats. Raises MoshiError for others."""
    names = list(FORMATS) if given == ALL else list(dict.fromkeys(given.split(",")))
    for name in names:
        if name not in FORMATS:
            raise UsageError(f"no format {name!r}; there are {', '.join(FORMATS)} and {ALL}")
    return names


def done(name: str, args: argparse.Namespace, formats: list[str]) -> bool:
    """Whether a recording of a list that was begun before has its files already; says so."""
    if args.output_dir is None or args.force or name == STDIN:
        return False
    found = all(path.exists() for path in paths_of(Path(name), args.output_dir, formats).values())
    if found:
        print(f"{name}: done before, skipped (--force does it again)", file=sys.stderr)
    return found


def check_inputs(names: list[str]) -> None:
    """Before a model is loaded: whether the recordings are there."""
    for name in names:
        if name != STDIN and not Path(name).exists():
            raise AudioError(f"no sound file at {name}; check the path")


def read_sound(name: str) -> np.ndarray:
    """float32 [samples] at 24 kHz. Raises AudioError."""
    if name != STDIN:
        return read_mono(name)
    given = sys.stdin.buffer.read() if sys.stdin else b""
    if not given:
        raise AudioError("nothing came from stdin; pipe a sound file into it")
    return read_mono(io.BytesIO(given))


def transcribe(transcriber: "Transcriber", name: str) -> "Transcript":
    """One recording, with a bar that tells how many times faster than real time it goes."""
    pcm = read_sound(name)
    stream, started_s = transcriber.stream(), time.perf_counter()
    seconds = len(pcm) / SAMPLE_RATE_HZ
    with tqdm(total=round(seconds, 1), unit="s", desc=name, disable=not sys.stderr.isatty()) as bar:
        for start in range(0, len(pcm), CHUNK):
            part = pcm[start : start + CHUNK]
            stream.push(part)
            bar.update(len(part) / SAMPLE_RATE_HZ)
            heard_s = (start + len(part)) / SAMPLE_RATE_HZ
            bar.set_postfix_str(f"{heard_s / (time.perf_counter() - started_s):.1f} x real time")
        stream.finish()
    speed = seconds / (time.perf_counter() - started_s)
    print(f"{name}: {seconds:.1f} s, {speed:.1f} x real time", file=sys.stderr)
    return stream.transcript()


def deliver(
    transcript: "Transcript", name: str, args: argparse.Namespace, formats: list[str]
) -> None:
    """Print the one format, or write all files, each whole or not at all."""
    if args.output_dir is None:
        print(FORMATS[formats[0]](transcript), end="")
        return
    args.output_dir.mkdir(parents=True, exist_ok=True)
    sound = Path("stdin" if name == STDIN else name)
    paths = paths_of(sound, args.output_dir, formats)
    with whole_files(*paths.values()) as temporaries:
        for kind, temporary in zip(paths, temporaries, strict=True):
            temporary.write_text(FORMATS[kind](transcript), encoding="utf-8")
