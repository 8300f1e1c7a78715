"""Say a text aloud, or into a file, while it is written; with the second each word starts at."""

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moshi_mlx.audio.writing import kind_of, write_samples
from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import MoshiError, UsageError, printable
from moshi_mlx.output.whole_file import check_outputs, whole_files

from ..options.mark import add_mark_options, index_from, marking_from
from ..options.model import adapter_from, add_force_option, add_lora_option, add_source_options
from ..provenance.index_writer import add_sound
from ..provenance.origin import PROGRAM, Origin
from ..provenance.seal import seal
from ..speech.saying import Saying, written

if TYPE_CHECKING:
    from moshi_mlx.tts import Speaker

    from ..audio.loudspeaker import Loudspeaker

DEFAULT_MODEL = "kyutai/tts-1.6b-en_fr"
STDIN = "-"
VOICES_MAX = 2


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", help='what to say; "-" reads stdin while it is written')
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="a .wav or .flac, in place of playing it"
    )
    parser.add_argument("--play", action="store_true", help="play it too, where --output is given")
    parser.add_argument(
        "--speaker", metavar="NAME", help="loudspeaker: a part of its name, or number"
    )
    parser.add_argument(
        "--voice",
        action="append",
        default=[],
        metavar="FILE",
        help="a voice file of the model; a second one is the second speaker's",
    )
    parser.add_argument("--voices", metavar="A,B", help="both speakers' voice files at once")
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
    voices = voices_from(args)
    kind = None if args.output is None else kind_of(args.output)
    if args.output is not None:
        check_outputs([args.output], map(Path, voices), args.force)
    check_arguments(args, voices)
    marking = marking_from(args)
    loudspeaker = loudspeaker_from(args)
    try:
        from moshi_mlx.tts import load_tts

        speaker = load_tts(args.model, revision=args.revision, offline=args.offline, lora=args.lora)
        if speaker.mimi is None:
            raise MoshiError(f"{args.model} has no Mimi beside it: it gives codes, not sound")
        saying = Saying(marking.marker(), loudspeaker, keeps=kind is not None or args.index)
        interrupted = spoken(speaker, voices, args, saying)
    finally:
        if loudspeaker is not None:
            loudspeaker.close()
    if kind is not None and saying.samples:
        keep(args, saying.pcm, kind, marking.kind)
    if (index := index_from(args)) is not None and saying.samples:
        add_sound(index, saying.pcm)
    if args.json:
        words = [{"word": word, "start": round(s, 3)} for word, s in saying.words]
        print(json.dumps({"words": words}, ensure_ascii=False))
    return 128 + signal.SIGINT if interrupted else 0


def keep(args: argparse.Namespace, pcm: np.ndarray, kind: str, mark: str) -> None:
    """The file, signed. Raises OutputError."""
    origin = Origin(
        args.model,
        seed=args.seed,
        revision=args.revision or "",
        adapter=adapter_from(args),
        mark=mark,
    )
    with whole_files(args.output) as (sound,):
        write_samples(sound, pcm, kind, origin.note(), PROGRAM)
        seal(sound, origin)
    print(f"{printable(str(args.output))}: {len(pcm) / SAMPLE_RATE_HZ:.1f} s", file=sys.stderr)


def voices_from(args: argparse.Namespace) -> list[str]:
    """Voice files of one or two speakers. Raises UsageError."""
    if args.voices is None:
        return args.voice
    if args.voice:
        raise UsageError("--voices names both speakers' voices: leave --voice out")
    return [voice.strip() for voice in args.voices.split(",")]


def loudspeaker_from(args: argparse.Namespace) -> "Loudspeaker | None":
    """Where it is heard; None where it only goes into a file. Raises AudioError."""
    if args.output is not None and not args.play:
        if args.speaker is not None:
            raise UsageError("--speaker is for what is played: add --play, or leave --output out")
        return None
    from ..audio.loudspeaker import Loudspeaker

    return Loudspeaker(args.speaker)


def check_arguments(args: argparse.Namespace, voices: list[str]) -> None:
    """Before a model is loaded. Raises MoshiError."""
    if args.text != STDIN and not args.text.strip():
        raise MoshiError('there is nothing to say: give a text, or "-" to read it from stdin')
    if len(voices) > VOICES_MAX:
        raise MoshiError(f"{len(voices)} voices given; there are {VOICES_MAX} speakers at most")
    for voice in voices:
        if not Path(voice).is_file():
            raise MoshiError(f"no voice file at {voice}; check the path")
    if not -2 <= args.slower <= 2:
        raise MoshiError("--slower must lie between -2 and 2")


def spoken(speaker: "Speaker", voices: list[str], args: argparse.Namespace, saying: Saying) -> bool:
    """Speak as the text comes; True where Ctrl-C ended it, and what was said is kept.

    Raises MoshiError.
    """
    stream = speaker.stream(
        keep=False,
        voices=voices,
        cfg_coef=args.guidance,
        n_q=args.codebooks,
        padding_bonus=args.slower,
        text_temperature=args.text_temperature,
        audio_temperature=args.audio_temperature,
        seed=args.seed,
    )
    try:
        saying.say(stream, [args.text] if args.text != STDIN else written(sys.stdin))
    except KeyboardInterrupt:
        return True
    return False
