"""Say a text aloud into a file: the sound, and the second that each word starts at."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from moshi_mlx.audio.writing import kind_of, write_samples
from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import MoshiError
from moshi_mlx.output.whole_file import check_outputs, whole_files

from ..options.mark import add_mark_options, index_from, marking_from
from ..options.model import adapter_from, add_force_option, add_lora_option, add_source_options
from ..provenance.index_writer import add_sound
from ..provenance.origin import PROGRAM, Origin
from ..provenance.seal import seal

if TYPE_CHECKING:
    from moshi_mlx.tts import Speaker, Speech

DEFAULT_MODEL = "kyutai/tts-1.6b-en_fr"
STDIN = "-"
VOICES_MAX = 2


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", help='what to say; "-" reads stdin while it is written')
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="a .wav or .flac"
    )
    parser.add_argument(
        "--voice",
        action="append",
        default=[],
        metavar="FILE",
        help="a voice file of the model; a second one is the second speaker's",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the words with their times as JSON"
    )
    pace = parser.add_argument_group("how it is said")
    pace.add_argument("--guidance", type=float, metavar="COEF", help="how closely to the voice")
    pace.add_argument("--codebooks", type=int, metavar="N", help="fewer are quicker and rougher")
    pace.add_argument(
        "--slower", type=float, default=0.0, metavar="BONUS", help="-2 to 2 (default %(default)g)"
    )
    pace.add_argument("--seed", type=int, help="the same seed speaks the same")
    pace.add_argument("--text-temperature", type=float, help="0 is greedy")
    pace.add_argument("--audio-temperature", type=float, help="0 is greedy")
    add_force_option(parser)
    add_mark_options(parser)
    group = add_source_options(
        parser, "a folder or a Hugging Face repository (default: %(default)s)", DEFAULT_MODEL
    )
    add_lora_option(group)


def run(args: argparse.Namespace) -> int:
    kind = kind_of(args.output)
    check_outputs([args.output], map(Path, args.voice), args.force)
    check_arguments(args)
    marking = marking_from(args)
    from moshi_mlx.tts import load_tts

    speaker = load_tts(args.model, revision=args.revision, offline=args.offline, lora=args.lora)
    speech = spoken(speaker, args)
    if speech.pcm is None:
        raise MoshiError(f"{args.model} has no Mimi beside it: it gives codes, not sound")
    origin = Origin(
        args.model,
        seed=args.seed,
        revision=args.revision or "",
        adapter=adapter_from(args),
        mark=marking.kind,
    )
    pcm = marking.applied(speech.pcm)
    with whole_files(args.output) as (sound,):
        write_samples(sound, pcm, kind, origin.note(), PROGRAM)
        seal(sound, origin)
    if (index := index_from(args)) is not None:
        add_sound(index, pcm)
    if args.json:
        words = [{"word": word, "start": round(s, 3)} for word, s in speech.word_times]
        print(json.dumps({"words": words}, ensure_ascii=False))
    print(f"{args.output}: {len(speech.pcm) / SAMPLE_RATE_HZ:.1f} s", file=sys.stderr)
    if speech.end_step is None:
        print("the model did not come to the end of the text: it is cut off", file=sys.stderr)
        return 1
    return 0


def check_arguments(args: argparse.Namespace) -> None:
    """Before a model is loaded. Raises MoshiError."""
    if args.text != STDIN and not args.text.strip():
        raise MoshiError('there is nothing to say: give a text, or "-" to read it from stdin')
    if len(args.voice) > VOICES_MAX:
        raise MoshiError(f"{len(args.voice)} voices given; there are {VOICES_MAX} speakers at most")
    for voice in args.voice:
        if not Path(voice).is_file():
            raise MoshiError(f"no voice file at {voice}; check the path")
    if not -2 <= args.slower <= 2:
        raise MoshiError("--slower must lie between -2 and 2")


def spoken(speaker: "Speaker", args: argparse.Namespace) -> "Speech":
    """Speak as the text comes. Raises MoshiError."""
    stream = speaker.stream(
        voices=args.voice,
        cfg_coef=args.guidance,
        n_q=args.codebooks,
        padding_bonus=args.slower,
        text_temperature=args.text_temperature,
        audio_temperature=args.audio_temperature,
        seed=args.seed,
    )
    for text in [args.text] if args.text != STDIN else words_of(sys.stdin):
        stream.say(text)
        for _ in stream.frames():
            pass
    if not stream.has_words:
        raise MoshiError("there is nothing to say: the text has no words")
    stream.end()
    for _ in stream.frames():
        pass
    return stream.speech()


def words_of(file: TextIO | None) -> Iterator[str]:
    """Whole lines as they are written; a break is never cut in two. Raises MoshiError."""
    if file is None:
        raise MoshiError('there is no stdin to read from; give the text in place of "-"')
    try:
        yield from file
    except UnicodeDecodeError:
        raise MoshiError("stdin is no UTF-8 text; convert it first") from None
