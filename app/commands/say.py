"""Say a text aloud, or into a file, while it is written; with the second each word starts at.

moshi say "Hello."                                  heard
moshi say - -o story.wav                            stdin, while it is written
moshi say scripts.jsonl --output-dir speech         a list, a file each
"""

import argparse
import json
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moshi_mlx.audio.writing import kind_of
from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import MoshiError, UsageError, printable
from moshi_mlx.output.whole_file import check_outputs

from ..options.adapters import add_lora_option
from ..options.mark import add_mark_options, index_from, marking_told
from ..options.model import (
    adapter_from,
    add_force_option,
    add_sampling_options,
    add_source_options,
    loading_from,
)
from ..options.named_files import named_files
from ..options.numbers import Number
from ..options.output_dir import add_output_dir_option, make_folder
from ..provenance.origin import Origin
from ..speech.saying import Piece, Saying, in_turns, written
from ..speech.script_list import VOICES_MAX, Script, read_scripts
from ..speech.speech_files import kept

if TYPE_CHECKING:
    from moshi_mlx.tts import Speaker
    from moshi_mlx.tts.voice_names import VoiceFinder

    from ..audio.loudspeaker import Loudspeaker
    from ..provenance.marking import Marking

DEFAULT_MODEL = "kyutai/tts-1.6b-en_fr"
STDIN, LIST = "-", ".jsonl"
SLOWER_MAX, GUIDANCE_MAX = 2.0, 20.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "text",
        help='what to say; "-" reads stdin while it is written; a .jsonl has a script a line',
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="a .wav or .flac, in place of playing it"
    )
    add_output_dir_option(parser, "where the files of a .jsonl go")
    parser.add_argument("--play", action="store_true", help="play it too, where --output is given")
    parser.add_argument(
        "--speaker", metavar="NAME", help="loudspeaker: a part of its name, or number"
    )
    parser.add_argument(
        "--voice",
        action="append",
        default=[],
        metavar="NAME|FILE",
        help="a voice of the model (`moshi voices`), or its file; a second one is the second "
        "speaker's, who says every other line",
    )
    parser.add_argument("--voices", metavar="A,B", help="both speakers' voices at once")
    parser.add_argument(
        "--json", action="store_true", help="print the words with their times as JSON"
    )
    pace = parser.add_argument_group("how it is said")
    pace.add_argument(
        "--guidance",
        type=Number(0, GUIDANCE_MAX),
        metavar="COEF",
        help="how closely to the voice",
    )
    pace.add_argument(
        "--codebooks",
        type=Number(1, whole=True),
        metavar="N",
        help="fewer are quicker and rougher",
    )
    pace.add_argument(
        "--slower",
        type=Number(-SLOWER_MAX, SLOWER_MAX),
        default=0.0,
        metavar="BONUS",
        help="-2 to 2 (default: %(default)g)",
    )
    add_force_option(parser)
    add_mark_options(parser)
    group = add_source_options(
        parser, "a folder or a Hugging Face repository (default: %(default)s)", DEFAULT_MODEL
    )
    add_lora_option(group)
    add_sampling_options(parser, ("seed", "text_temperature", "audio_temperature"))


def run(args: argparse.Namespace) -> int:
    voices = voices_from(args)
    is_list = args.text.endswith(LIST) and not any(map(str.isspace, args.text))
    check_arguments(args, voices, is_list)
    return say_list(args, voices) if is_list else say_text(args, voices)


def voices_from(args: argparse.Namespace) -> list[str]:
    """Voices of one or two speakers as they were given. Raises UsageError."""
    if args.voices is None:
        return args.voice
    if args.voice:
        raise UsageError("--voices names both speakers' voices: leave --voice out")
    return [voice.strip() for voice in args.voices.split(",")]


def check_arguments(args: argparse.Namespace, voices: list[str], is_list: bool) -> None:
    """Before a model is loaded. Raises MoshiError."""
    if len(voices) > VOICES_MAX:
        raise UsageError(f"{len(voices)} voices given; there are {VOICES_MAX} speakers at most")
    if is_list:
        if args.output_dir is None:
            raise UsageError(f"{args.text} is a list: say where its files go with --output-dir DIR")
        if args.output is not None or args.play or args.speaker is not None:
            raise UsageError("a list goes into --output-dir: leave --output, --play, --speaker out")
        return
    if args.output_dir is not None:
        raise UsageError("--output-dir is for a list, a .jsonl; of one text say -o FILE")
    if args.output is not None and not args.play and args.speaker is not None:
        raise UsageError("--speaker is for what is played: add --play, or leave --output out")
    if args.text != STDIN and not args.text.strip():
        raise MoshiError('there is nothing to say: give a text, or "-" to read it from stdin')


def say_text(args: argparse.Namespace, voices: list[str]) -> int:
    """One text, or stdin while it is written. Raises MoshiError."""
    if args.output is not None:
        kind_of(args.output)
        check_outputs([args.output], named_files(args, "output"), args.force)
    files = Voices(args).files(voices)
    marking, index = marking_told(args), index_from(args)
    loudspeaker = loudspeaker_from(args)
    try:
        speaker = speaker_from(args)
        pieces = [args.text] if args.text != STDIN else written(sys.stdin)
        origin, status = origin_from(args, marking, args.seed), 0
        with kept(args.output, origin, index, tell) as keep:
            saying = Saying(loudspeaker, keep)
            turns = in_turns(pieces, len(voices))
            try:
                speak(speaker, turns, files, args, marking, saying, args.seed)
            except KeyboardInterrupt:  # what was said is kept
                status = 128 + signal.SIGINT
    finally:
        if loudspeaker is not None:
            loudspeaker.close()
    if args.output is not None and saying.samples:
        report(args.output, saying.samples)
    if args.json:
        print(json.dumps({"words": words_of(saying)}, ensure_ascii=False))
    return status


def say_list(args: argparse.Namespace, voices: list[str]) -> int:
    """A file a line; 1 where a line failed: the others are done all the same."""
    lines = read_scripts(Path(args.text))
    folder, failed = args.output_dir, []

    def fail(line: int, why: object) -> None:
        failed.append(line)
        print(f"error: line {line}: {why}", file=sys.stderr)

    index, scripts = index_from(args), []
    for line in lines:
        if not isinstance(line, Script):
            fail(line.line, line.why)
        elif not args.force and (folder / line.output).is_file():
            told = f"{printable(str(folder / line.output))}: done before, skipped"
            print(f"{told} (--force does it again)", file=sys.stderr)
        else:
            scripts.append(line)
    if scripts:
        make_folder(folder)
        known, marking, speaker = Voices(args), marking_told(args), speaker_from(args)
        for script in scripts:
            try:
                files = known.files(script.voices or voices)
                say_script(script, files, speaker, args, marking, index)
            except MoshiError as error:
                fail(script.line, error)
    if failed:
        told = f"line{'s' * (len(failed) > 1)} {', '.join(map(str, sorted(failed)))}"
        print(f"{len(failed)} of {len(lines)} scripts failed: {told}", file=sys.stderr)
    return 1 if failed else 0


def say_script(
    script: Script,
    voices: Sequence[Path],
    speaker: "Speaker",
    args: argparse.Namespace,
    marking: "Marking",
    index: Path | None,
) -> None:
    """A line of a list into its file. Raises MoshiError."""
    path = args.output_dir / script.output
    check_outputs([path], [*named_files(args), *voices], args.force)
    pieces = [(text, turn % VOICES_MAX) for turn, text in enumerate(script.turns)]
    seed = args.seed if script.seed is None else script.seed
    with kept(path, origin_from(args, marking, seed), index, tell) as keep:
        saying = Saying(None, keep)
        speak(speaker, pieces, voices, args, marking, saying, seed)
    report(path, saying.samples)
    if args.json:
        told = {"line": script.line, "output": str(path), "words": words_of(saying)}
        print(json.dumps(told, ensure_ascii=False), flush=True)


class Voices:
    """Voices by name or file, of the model that the options name, whose files are here for that."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._finder: VoiceFinder | None = None

    def files(self, given: Sequence[str]) -> list[Path]:
        """The file of each. Raises MoshiError for one that there isn't, DownloadError."""
        return [Path(voice) if Path(voice).is_file() else self._named(voice) for voice in given]

    def _named(self, voice: str) -> Path:
        from moshi_mlx.tts.voice_names import VoiceFinder, check_name

        check_name(voice)
        if self._finder is None:
            from moshi_mlx.config.reading import read_config
            from moshi_mlx.hub import resolve

            args = self._args
            folder = resolve(args.model, args.revision, args.offline)
            self._finder = VoiceFinder.of(folder, read_config(folder), args.offline)
        return self._finder.find(voice)


def speaker_from(args: argparse.Namespace) -> "Speaker":
    """The model that the options name, downloaded first where necessary. Raises MoshiError."""
    from moshi_mlx.tts import load_tts

    speaker = load_tts(args.model, **loading_from(args))
    if speaker.mimi is None:
        raise MoshiError(f"{args.model} has no Mimi beside it: it gives codes, not sound")
    return speaker


def loudspeaker_from(args: argparse.Namespace) -> "Loudspeaker | None":
    """Where it is heard; None where it only goes into a file. Raises AudioError."""
    if args.output is not None and not args.play:
        return None
    from ..audio.loudspeaker import Loudspeaker

    return Loudspeaker(args.speaker)


def speak(
    speaker: "Speaker",
    pieces: Iterable[Piece],
    voices: Sequence[Path],
    args: argparse.Namespace,
    marking: "Marking",
    saying: Saying,
    seed: int | None,
) -> None:
    """Speak as the text comes. Raises MoshiError."""
    stream = speaker.stream(
        keep=False,
        voices=voices,
        cfg_coef=args.guidance,
        n_q=args.codebooks,
        padding_bonus=args.slower,
        text_temperature=args.text_temperature,
        audio_temperature=args.audio_temperature,
        seed=seed,
        mark=marking.marker(),
    )
    saying.say(stream, pieces)


def report(path: Path, samples: int) -> None:
    tell(f"{printable(str(path))}: {samples / SAMPLE_RATE_HZ:.1f} s")


def tell(line: str) -> None:
    print(line, file=sys.stderr)


def origin_from(args: argparse.Namespace, marking: "Marking", seed: int | None) -> Origin:
    return Origin(
        args.model,
        seed=seed,
        revision=args.revision or "",
        adapter=adapter_from(args),
        mark=marking.kind,
    )


def words_of(saying: Saying) -> list[dict[str, object]]:
    return [{"word": word, "start": round(start_s, 3)} for word, start_s in saying.words]
