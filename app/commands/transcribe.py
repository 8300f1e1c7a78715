"""Write down what recordings say, or a microphone hears: words with their times, as text,
subtitles or JSON."""

import argparse
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from moshi_mlx.audio.file import read_mono
from moshi_mlx.errors import AudioError, MoshiError, UsageError, printable
from moshi_mlx.output.whole_file import OutputError, check_outputs, disk_name

from ..captions.formats import FORMATS, paths_of, write_files
from ..options.adapters import add_lora_option
from ..options.captions import add_format_option, formats_named
from ..options.model import (
    add_force_option,
    add_source_options,
    loading_from,
)
from ..options.named_files import named_files
from ..options.numbers import Number
from ..options.output_dir import add_output_dir_option, make_folder
from .devices import add_microphone_options, microphone_from
from .signals import Signals

if TYPE_CHECKING:
    from moshi_mlx.stt import Prompt, Transcriber, Transcript

    from ..audio.sound import Sound

DEFAULT_MODEL = "kyutai/stt-1b-en_fr-mlx"
STDIN = "-"
BATCH = 4
LAST_WORDS_S = 20.0  # what Ctrl-C leaves to a model that is behind with what was said


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help='recordings; "-" reads one from stdin'
    )
    add_format_option(parser)
    add_output_dir_option(parser, "files go here; without it text is printed")
    add_force_option(parser)
    parser.add_argument(
        "--batch",
        type=Number(1, whole=True),
        default=BATCH,
        metavar="N",
        help="recordings in one pass over the model (default: %(default)s)",
    )
    live = parser.add_argument_group("from the microphone")
    live.add_argument(
        "--live",
        action="store_true",
        help="write down what is said until Ctrl-C; the transcript goes into --output-dir, or here",
    )
    add_microphone_options(live)
    spelling = parser.add_argument_group("spelling of names (a recording in which they are said)")
    spelling.add_argument("--prompt", metavar="TEXT", help="what is said in --prompt-file")
    spelling.add_argument("--prompt-file", type=Path, metavar="FILE", help="heard first")
    group = add_source_options(
        parser, "a folder or a Hugging Face repository (default: %(default)s)", DEFAULT_MODEL
    )
    add_lora_option(group)


def run(args: argparse.Namespace) -> int:
    """0, or 1 if a file could not be read or written; the others are done all the same."""
    check_arguments(args)
    formats = formats_from(args)
    if args.live:
        return listen(args, formats)
    waiting = [name for name in args.files if not done(name, args, formats)]
    if not waiting:
        return 0
    check_inputs(waiting)
    check_places(waiting, args, formats)
    prompt = prompt_from(args)
    transcriber = transcriber_from(args)
    failed = write_down(transcriber, waiting, args, formats, prompt)
    if failed:
        print(f"{failed} of {len(waiting)} recordings failed, see above", file=sys.stderr)
    return 1 if failed else 0


def transcriber_from(args: argparse.Namespace) -> "Transcriber":
    """The model that the options name, downloaded first where necessary. Raises MoshiError."""
    from moshi_mlx.stt import load_stt

    return load_stt(args.model, **loading_from(args))


def check_arguments(args: argparse.Namespace) -> None:
    """What contradicts itself. Raises UsageError."""
    if args.live and args.files:
        raise UsageError("--live listens to the microphone: leave the files out, or --live")
    if not args.live and not args.files:
        raise UsageError('say which recordings, "-" for stdin, or --live for the microphone')
    if not args.live and (args.input or args.virtual_input or args.input_channel != 1):
        raise UsageError("--input, --input-channel and --virtual-input are for --live")
    if (args.prompt is None) != (args.prompt_file is None):
        raise UsageError("--prompt and --prompt-file go together: a text, and where it is said")


def formats_from(args: argparse.Namespace) -> list[str]:
    """The formats asked for. Raises MoshiError before anything is loaded."""
    names = formats_named(args.format)
    if args.output_dir is not None and args.output_dir.exists() and not args.output_dir.is_dir():
        raise UsageError(f"{args.output_dir} is no folder; give --output-dir another name")
    if args.live:
        return names
    if args.output_dir is None:
        if len(names) > 1:
            raise UsageError("several formats need files: say where with --output-dir DIR")
        return names
    stems = [disk_name(Path(name).stem) for name in args.files]
    if twice := next((stem for stem in stems if stems.count(stem) > 1), None):
        raise MoshiError(
            f"two recordings would both become {twice}.{names[0]}; rename one, or run them apart"
        )
    return names


def done(name: str, args: argparse.Namespace, formats: list[str]) -> bool:
    """Whether a recording of a list that was begun before has its files already; says so."""
    if args.output_dir is None or args.force or name == STDIN:
        return False
    if not wanted(name, args, formats):
        print(f"{printable(name)}: done before, skipped (--force does it again)", file=sys.stderr)
        return True
    return False


def wanted(name: str, args: argparse.Namespace, formats: list[str]) -> dict[str, Path]:
    """format -> file of a recording's transcript; what is there is kept, but by --force."""
    paths = paths_of(Path("stdin" if name == STDIN else name), args.output_dir, formats)
    if args.force or name == STDIN:
        return paths
    return {name: path for name, path in paths.items() if not path.is_file()}


def check_inputs(names: list[str]) -> None:
    """Before a model is loaded: whether the recordings are there."""
    for name in names:
        if name != STDIN and not Path(name).exists():
            raise AudioError(f"no sound file at {name}; check the path")


def check_places(names: list[str], args: argparse.Namespace, formats: list[str]) -> None:
    """Before a model is loaded: no transcript takes the place of a recording, or what comes from
    stdin that of an earlier one. Raises OutputError."""
    if args.output_dir is None or not args.output_dir.is_dir():
        return
    outputs = [path for name in names for path in wanted(name, args, formats).values()]
    check_outputs(outputs, named_files(args), args.force)


def prompt_from(args: argparse.Namespace) -> "Prompt | None":
    """Raises AudioError for a file that can't be read."""
    if args.prompt is None:
        return None
    from moshi_mlx.stt import Prompt

    return Prompt(args.prompt, read_mono(args.prompt_file))


def write_down(
    transcriber: "Transcriber",
    names: list[str],
    args: argparse.Namespace,
    formats: list[str],
    prompt: "Prompt | None",
) -> int:
    """How many of the recordings failed. A single one's error is raised."""
    from ..speech.recordings import RecordingList

    failures: list[MoshiError] = []

    def failed(error: MoshiError) -> None:
        if len(names) == 1:
            raise error
        failures.append(error)
        print(f"error: {error}", file=sys.stderr)

    started_s = time.perf_counter()
    recordings = RecordingList(names, read_mono, failed, sys.stderr.isatty(), prompt)
    for name, transcript, seconds in recordings.transcribe(
        transcriber, min(args.batch, len(names))
    ):
        try:
            deliver(transcript, name, args, formats)
        except OutputError as error:
            failed(error)
        else:
            print(f"{printable(name)}: {seconds:.1f} s", file=sys.stderr)
    speed = recordings.heard_s / max(1e-9, time.perf_counter() - started_s)
    print(f"{recordings.heard_s:.1f} s of sound, {speed:.1f} x real time", file=sys.stderr)
    return len(failures)


def deliver(
    transcript: "Transcript", name: str, args: argparse.Namespace, formats: list[str]
) -> None:
    """Print the one format, or write all files, each whole or not at all."""
    if args.output_dir is None:
        print(FORMATS[formats[0]](transcript), end="")
        return
    make_folder(args.output_dir)
    write_files(transcript, wanted(name, args, formats))


def listen(args: argparse.Namespace, formats: list[str]) -> int:
    """The microphone, until Ctrl-C or the end of --virtual-input."""
    prompt, stop = prompt_from(args), threading.Event()
    sound = microphone_from(args)
    try:
        transcriber = transcriber_from(args)
        with Signals(terminal=True, interrupted=0) as signals:
            signals.interrupt_s = LAST_WORDS_S
            signals.call(stop.set)
            return hear(sound, transcriber, prompt, args, formats, stop)
    finally:
        sound.stop()


def hear(
    sound: "Sound",
    transcriber: "Transcriber",
    prompt: "Prompt | None",
    args: argparse.Namespace,
    formats: list[str],
    stop: threading.Event,
) -> int:
    """Show what is said and keep it; the exit status."""
    from ..speech.listening import Listening

    folder = args.output_dir or Path()
    make_folder(folder)
    paths = paths_of(Path(time.strftime("live-%Y%m%d-%H%M%S.wav")), folder, formats)
    stream = transcriber.stream(prompt)
    sound.subscribe(lambda notice: print(notice.message, file=sys.stderr))
    sound.start()
    print("listening; Ctrl-C ends", file=sys.stderr)
    listening = Listening(
        sound,
        stream,
        show=lambda text: print(text, end="", flush=True),
        tell=lambda line: print(line, file=sys.stderr),
        save=lambda transcript: write_files(transcript, paths),
    )
    transcript = listening.run(stop)
    sound.stop()
    if transcript.text:
        write_files(transcript, paths)
        print(f"transcript: {', '.join(map(str, paths.values()))}", file=sys.stderr)
    else:
        print("nothing was said", file=sys.stderr)
    if (problem := sound.problem()) is not None:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0
