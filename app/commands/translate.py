"""Translate a spoken recording, or what a microphone hears, into spoken words of another language,
with the transcript."""

import argparse
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moshi_mlx.audio.file import FORMATS as SOUND_FORMATS
from moshi_mlx.audio.file import read_mono
from moshi_mlx.audio.writing import SampleFile, kind_of
from moshi_mlx.clock import FRAME_SAMPLES, FRAME_SECONDS, SAMPLE_RATE_HZ
from moshi_mlx.errors import AudioError, UsageError, printable
from moshi_mlx.output.whole_file import check_outputs, whole_files

from ..captions.formats import FORMATS, paths_of, write_files
from ..echo.choice import MODES, make_clean
from ..options.adapters import add_lora_option
from ..options.captions import add_format_option, formats_named
from ..options.mark import add_mark_options, index_from, marking_told
from ..options.model import (
    adapter_from,
    add_force_option,
    add_sampling_options,
    add_source_options,
    loading_from,
    sampling_from,
)
from ..options.named_files import named_files
from ..options.numbers import Number
from ..provenance.index_writer import SoundIndex
from ..provenance.origin import HUMAN, MACHINE, PROGRAM, Origin
from ..provenance.seal import seal_told
from .devices import add_microphone_options, checked_channel
from .signals import Signals

if TYPE_CHECKING:
    from moshi_mlx.translation import TranslationStream, Translator

    from ..audio.sound import Sound
    from ..provenance.marking import Marking
    from ..speech.live_file import LiveFile
    from ..speech.live_index import LiveIndex

DEFAULT_MODEL = "kyutai/hibiki-2b-mlx-bf16"
GUIDANCE_MAX = 10.0
LEFT_S = 120.0  # after Ctrl-C: the rest of a translation is said, 60 s at most, and signed


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        nargs="?",
        type=Path,
        metavar="INPUT",
        help=f"a recording ({SOUND_FORMATS}), or - for stdin; not with --live",
    )
    parser.add_argument(
        "target",
        nargs="?",
        type=Path,
        metavar="OUTPUT",
        help="where the translation goes: .wav or .flac; with --live .wav, if it is to be kept",
    )
    parser.add_argument(
        "--stereo", action="store_true", help="write both: the speaker left, the translation right"
    )
    add_format_option(parser, "of the transcript beside it: ")
    parser.add_argument(
        "--guidance",
        type=Number(1, GUIDANCE_MAX),
        metavar="COEF",
        help="how closely the voice follows the speaker's; 1: not guided (default: 3 where the "
        "model can be guided)",
    )
    add_force_option(parser)
    live = parser.add_argument_group("from the microphone")
    live.add_argument(
        "--live", action="store_true", help="translate what is said, while it is, until Ctrl-C"
    )
    add_microphone_options(live)
    live.add_argument(
        "--speaker", metavar="NAME", help="loudspeaker or headphones: a part of its name, or number"
    )
    live.add_argument(
        "--virtual-output", type=Path, metavar="WAV", help="a file in place of a loudspeaker"
    )
    live.add_argument(
        "--echo",
        choices=MODES,
        default="auto",
        help="who takes the translation's echo out (default: auto)",
    )
    add_mark_options(parser)
    group = add_source_options(
        parser, "a folder or a Hugging Face repository (default: %(default)s)", DEFAULT_MODEL
    )
    add_lora_option(group)
    add_sampling_options(parser)


def run(args: argparse.Namespace) -> int:
    if args.live and args.source is not None and args.target is None:
        args.source, args.target = None, args.source  # the microphone is what is translated
    check_arguments(args)
    return listen(args) if args.live else translate_file(args)


def check_arguments(args: argparse.Namespace) -> None:
    """What contradicts itself. Raises UsageError."""
    if args.live and args.source is not None:
        raise UsageError("--live translates the microphone: leave INPUT out, or --live")
    if not args.live and args.target is None:
        raise UsageError("say which recording, and where its translation goes; or --live")
    given = (args.input, args.speaker, args.virtual_input, args.virtual_output)
    if not args.live and (any(given) or args.input_channel != 1 or args.echo != "auto"):
        raise UsageError("microphone, loudspeaker and echo are for --live")
    if args.live and args.target is None and (args.stereo or args.format != "txt"):
        raise UsageError("--stereo and --format are of what is kept: give OUTPUT too, a .wav")


def translator_from(args: argparse.Namespace) -> "Translator":
    """The model that the options name, downloaded first where necessary. Raises MoshiError."""
    from moshi_mlx.translation import load_translator

    return load_translator(args.model, **loading_from(args))


def origin_from(args: argparse.Namespace, marking: "Marking") -> Origin:
    channels = (HUMAN, MACHINE) if args.stereo else (MACHINE,)
    return Origin(
        *(args.model, channels, args.seed, args.revision or "", adapter_from(args), marking.kind)
    )


def translate_file(args: argparse.Namespace) -> int:
    """A whole recording. Raises MoshiError."""
    kind, transcripts = kind_of(args.target), transcripts_of(args)
    inputs = named_files(args, "target")
    check_outputs([args.target, *transcripts.values()], inputs, args.force)
    marking, index = marking_told(args), index_from(args)
    heard = read_mono(args.source)
    stream = translator_from(args).stream(
        args.guidance, mark=marking.marker(), keep=False, **sampling_from(args)
    )
    origin = origin_from(args, marking)
    with whole_files(args.target, *transcripts.values()) as (temporary, *texts):
        with (
            SampleFile(temporary, kind, len(origin.channels), origin.note(), PROGRAM) as sound,
            nullcontext() if index is None else SoundIndex(index, tell) as landmarks,
        ):
            for said in translated(stream, heard):
                sound.write(beside(heard, sound.samples, said) if args.stereo else said)
                if landmarks is not None:
                    landmarks.add(said)
            samples = sound.samples
            if args.stereo and samples < len(heard):
                sound.write(beside(heard[samples:], 0, np.zeros(len(heard) - samples)))
        seal_told(temporary, origin, args.target, tell)
        transcript = stream.transcript()
        for name, text in zip(transcripts, texts, strict=True):
            text.write_text(FORMATS[name](transcript), encoding="utf-8")
    print(transcript.text or "(nothing was said)")
    report(args.target, samples, stream.ended)
    return 0


def translated(stream: "TranslationStream", heard: np.ndarray) -> Iterator[np.ndarray]:
    """float32 [1920] each, as they are made."""
    for start in range(0, len(heard), FRAME_SAMPLES):
        yield from (frame.pcm for frame in stream.push(heard[start : start + FRAME_SAMPLES]))
    yield from (frame.pcm for frame in stream.finish())


def listen(args: argparse.Namespace) -> int:
    """The microphone, until Ctrl-C or the end of --virtual-input. Raises MoshiError."""
    if args.target is not None:
        check_live_target(args)
    marking = marking_told(args)
    sound = sound_from(args)
    try:
        translator = translator_from(args)
        with Signals(terminal=True, interrupted=0) as signals:
            return interpret(sound, translator, args, marking, signals)
    finally:
        sound.stop()


def interpret(
    sound: "Sound",
    translator: "Translator",
    args: argparse.Namespace,
    marking: "Marking",
    signals: Signals,
) -> int:
    """Say what is said in the other language, and keep it; the exit status."""
    from ..speech.translating import Translating

    end, cut = threading.Event(), threading.Event()
    signals.interrupt_s = LEFT_S
    signals.call(lambda: ended(signals, end, cut), again=cut.set)
    stream = translator.stream(
        args.guidance, mark=marking.marker(), keep=False, **sampling_from(args)
    )
    sound.subscribe(lambda notice: tell(notice.message))
    sound.start()
    file, index = kept_from(args, marking)
    kept = [keep for keep in (file, index) if keep is not None]
    translating = Translating(
        sound,
        stream,
        make_clean(args.echo, lambda: sound.state().headphones),
        show=lambda text: print(text, end="", flush=True),
        tell=tell,
        keeps=kept,
    )
    tell("translating; Ctrl-C ends")
    try:
        translating.run(end, cut)
    finally:
        if file is not None:  # first: a signature takes time, and a signal leaves little of it
            write_files(stream.transcript(), transcripts_of(args))
        for keep in kept:
            keep.close()
    sound.stop()
    if args.virtual_output is not None and args.virtual_output.is_file():
        played = args.virtual_output
        seal_told(played, replace(origin_from(args, marking), channels=(MACHINE,)), played, tell)
    return report_live(sound, stream, file)


def ended(signals: Signals, end: threading.Event, cut: threading.Event) -> None:
    """What a first signal does: after Ctrl-C the rest is still said."""
    end.set()
    if signals.status:
        cut.set()
    else:
        tell("\nthe rest is being said; Ctrl-C again ends at once")


def tell(line: str) -> None:
    print(line, file=sys.stderr)


def report_live(sound: "Sound", stream: "TranslationStream", file: "LiveFile | None") -> int:
    """Where it lies and what went wrong; the exit status."""
    if not stream.transcript().text:
        tell("nothing was said")
    if file is not None:
        tell(f"{printable(str(file.path))}: {file.frames * FRAME_SECONDS:.1f} s")
        if file.unsigned:
            tell(file.unsigned)
    problems = [sound.problem(), None if file is None else file.failure]
    for problem in filter(None, problems):
        tell(f"error: {problem}")
    return 1 if any(problems) else 0


def check_live_target(args: argparse.Namespace) -> None:
    """Raises MoshiError for a file that can't be written as it goes."""
    if args.target.suffix.lower() != ".wav":
        raise AudioError(f"{args.target} is written while it grows, as .wav; choose that ending")
    inputs = named_files(args, "target", "virtual_output")
    played = [] if args.virtual_output is None else [args.virtual_output]
    check_outputs([args.target, *transcripts_of(args).values(), *played], inputs, args.force)


def sound_from(args: argparse.Namespace) -> "Sound":
    """The devices that the options name, found but not opened. Raises AudioError."""
    channel = checked_channel(args.input_channel)
    if args.virtual_input is None:
        if args.virtual_output is not None:
            raise UsageError("--virtual-output needs --virtual-input too: a file that is said")
        from ..audio.device_sound import DeviceSound

        return DeviceSound(args.input, args.speaker, channel)
    if args.input or args.speaker or channel != 1:
        raise UsageError("--virtual-input is a device of its own: leave --input and --speaker out")
    if args.virtual_output is not None:
        inputs = named_files(args, "target", "virtual_output")
        check_outputs([args.virtual_output], inputs, args.force)
    from ..audio.file_sound import FileSound

    return FileSound(args.virtual_input, args.virtual_output, 0.0)


def kept_from(
    args: argparse.Namespace, marking: "Marking"
) -> "tuple[LiveFile | None, LiveIndex | None]":
    """Where what is said goes beside the loudspeaker. Raises MoshiError."""
    from ..speech.live_file import LiveFile
    from ..speech.live_index import LiveIndex

    path = index_from(args)
    index = None if path is None else LiveIndex(path, lambda notice: tell(notice.message))
    if args.target is None:
        return None, index
    return LiveFile(args.target, origin_from(args, marking), args.stereo), index


def transcripts_of(args: argparse.Namespace) -> dict[str, Path]:
    """format -> the transcript's file, beside the sound. Raises MoshiError for unknown formats."""
    return paths_of(args.target, args.target.parent, formats_named(args.format))


def beside(heard: np.ndarray, start: int, said: np.ndarray) -> np.ndarray:
    """[samples, 2]: what was heard from sample `start` on, silence after its end, and `said`."""
    left = heard[start : start + len(said)]
    return np.stack([np.pad(left, (0, len(said) - len(left))), said], 1).astype(np.float32)


def report(path: Path, samples: int, ended: bool) -> None:
    """Where it lies, and whether the model came to an end."""
    tell(f"{printable(str(path))}: {samples / SAMPLE_RATE_HZ:.1f} s")
    if not ended:
        tell("the model did not say that it was done: the end may be missing or invented")
