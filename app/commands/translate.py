"""Translate a spoken recording into spoken words of another language, with the transcript."""

import argparse
import sys
from pathlib import Path

import numpy as np

from moshi_mlx.audio.file import FORMATS as SOUND_FORMATS
from moshi_mlx.audio.file import read_mono
from moshi_mlx.audio.writing import kind_of, write_samples
from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import UsageError, printable
from moshi_mlx.output.whole_file import check_outputs, whole_files

from ..captions.formats import FORMATS, paths_of
from ..options.captions import add_format_option, formats_named
from ..options.mark import add_mark_options, index_from, marking_from
from ..options.model import (
    adapter_from,
    add_force_option,
    add_lora_option,
    add_sampling_options,
    add_source_options,
    sampling_from,
)
from ..provenance.index_writer import add_sound
from ..provenance.origin import HUMAN, MACHINE, PROGRAM, Origin
from ..provenance.seal import seal

DEFAULT_MODEL = "kyutai/hibiki-2b-mlx-bf16"
GUIDANCE_MAX = 10.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=Path, help=f"a recording ({SOUND_FORMATS}), or - for stdin")
    parser.add_argument("output", type=Path, help="where the translation goes: .wav or .flac")
    parser.add_argument(
        "--stereo", action="store_true", help="write both: the speaker left, the translation right"
    )
    add_format_option(parser, "of the transcript beside it: ")
    parser.add_argument(
        "--guidance",
        type=float,
        metavar="COEF",
        help="how closely the voice follows the speaker's; 1: not guided (default: 3 where the "
        "model can be guided)",
    )
    add_force_option(parser)
    add_mark_options(parser)
    group = add_source_options(
        parser, "a folder or a Hugging Face repository (default: %(default)s)", DEFAULT_MODEL
    )
    add_lora_option(group)
    add_sampling_options(parser)


def run(args: argparse.Namespace) -> int:
    kind, transcripts = kind_of(args.output), transcripts_of(args)
    check_outputs([args.output, *transcripts.values()], [args.input], args.force)
    if args.guidance is not None and not 1 <= args.guidance <= GUIDANCE_MAX:
        raise UsageError(f"--guidance must lie between 1 and {GUIDANCE_MAX:g}")
    marking = marking_from(args)
    heard = read_mono(args.input)
    from moshi_mlx.translation import load_translator

    translator = load_translator(
        args.model, revision=args.revision, offline=args.offline, lora=args.lora
    )
    made = translator.translate(heard, args.guidance, **sampling_from(args))
    assert made.pcm is not None
    transcript = translator.transcript(made)
    pcm = marking.applied(made.pcm)
    channels = (HUMAN, MACHINE) if args.stereo else (MACHINE,)
    origin = Origin(
        *(args.model, channels, args.seed, args.revision or "", adapter_from(args), marking.kind)
    )
    with whole_files(args.output, *transcripts.values()) as (sound, *texts):
        samples = beside(heard, pcm) if args.stereo else pcm
        write_samples(sound, samples, kind, origin.note(), PROGRAM)
        seal(sound, origin)
        for name, temporary in zip(transcripts, texts, strict=True):
            temporary.write_text(FORMATS[name](transcript), encoding="utf-8")
    print(transcript.text or "(nothing was said)")
    if (index := index_from(args)) is not None:
        add_sound(index, pcm)
    report(args, len(made.pcm), made.end_output is not None)
    return 0


def transcripts_of(args: argparse.Namespace) -> dict[str, Path]:
    """format -> the transcript's file, beside the sound. Raises MoshiError for unknown formats."""
    return paths_of(args.output, args.output.parent, formats_named(args.format))


def beside(heard: np.ndarray, said: np.ndarray) -> np.ndarray:
    """[samples, 2], the shorter one filled up with silence."""
    both = np.zeros((max(len(heard), len(said)), 2), np.float32)
    both[: len(heard), 0], both[: len(said), 1] = heard, said
    return both


def report(args: argparse.Namespace, samples: int, ended: bool) -> None:
    """Where it lies, and whether the model came to an end."""
    print(f"{printable(str(args.output))}: {samples / SAMPLE_RATE_HZ:.1f} s", file=sys.stderr)
    if not ended:
        print(
            "the model did not say that it was done: the end may be missing or invented",
            file=sys.stderr,
        )
