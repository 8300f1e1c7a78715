"""Let Moshi answer a recording: a sound file in, Moshi's side out, the transcript beside it."""

import argparse
import json
import os
import sys
from pathlib import Path

from tqdm import tqdm

from moshi_mlx.audio.file import FORMATS, read_mono
from moshi_mlx.audio.writing import kind_of, write_samples
from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import UsageError, printable
from moshi_mlx.output.whole_file import beside, check_outputs, whole_files
from moshi_mlx.session.answering import ANSWER_TAIL_MAX_S, ANSWER_TAIL_S, Answer
from moshi_mlx.text.word import Word

from ..captions.formats import vtt_of
from ..events import Settings
from ..options.adapters import adapters_from
from ..options.mark import add_mark_options, index_from, marking_told
from ..options.model import (
    add_force_option,
    add_json_option,
    add_model_options,
    add_sampling_options,
    load_from,
    model_from,
    sampling_from,
)
from ..options.named_files import named_files
from ..options.persona import add_persona_options, persona_from
from ..provenance.index_writer import add_sound
from ..provenance.origin import HUMAN, MACHINE, PROGRAM, Origin, revision_of
from ..provenance.seal import seal_told
from ..talk.personas import Personas, options_of


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input", type=Path, help=f"a recording, at any rate: {FORMATS}; - for stdin"
    )
    parser.add_argument("output", type=Path, help="where Moshi's side goes: .wav or .flac")
    parser.add_argument(
        "--stereo", action="store_true", help="write both: the user left, Moshi right"
    )
    parser.add_argument(
        "--tail",
        type=float,
        default=ANSWER_TAIL_S,
        metavar="SECONDS",
        help=f"silence added after the recording, room for the answer (default: {ANSWER_TAIL_S:g})",
    )
    add_force_option(parser)
    add_json_option(parser)
    add_model_options(parser, several=True)
    add_persona_options(parser)
    add_sampling_options(parser)
    add_mark_options(parser)


def run(args: argparse.Namespace) -> int:
    check(args)
    heard = read_mono(args.input)
    marking, index = marking_told(args), index_from(args)
    settings = Settings(**persona_from(args), adapter=adapters_from(args).chosen or None)
    moshi = load_from(args)
    moshi.warm_up()
    persona = Personas(moshi).of(settings)
    for note in () if persona is None else persona.notes:
        print(note, file=sys.stderr)
    with tqdm(unit="frame", disable=not sys.stderr.isatty()) as bar:

        def advance(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        answer = moshi.answer(
            heard,
            args.tail,
            mark=marking.marker(),
            adapter=settings.adapter,
            on_frame=advance,
            **options_of(persona, settings),
            **sampling_from(args),
        )
    origin = Origin(
        model_from(args),
        (HUMAN, MACHINE) if args.stereo else (MACHINE,),
        answer.seed,
        revision_of(moshi.folder),
        settings.adapter or moshi.adapter,
        marking.kind,
    )
    transcript = write_answer(args.output, answer, args.stereo, origin)
    tell_answer(args, answer, transcript)
    if index is not None:  # last, so that a disk that is full loses nothing else
        add_sound(index, answer.pcm)
    return 0


def tell_answer(args: argparse.Namespace, answer: Answer, transcript: Path) -> None:
    """What was said and where it lies, on the screen or as JSON."""
    seconds = len(answer.pcm) / SAMPLE_RATE_HZ
    if args.json:
        told = {"output": str(args.output), "transcript": str(transcript), "text": answer.text}
        told |= {
            "seconds": seconds,
            "seed": answer.seed,
            "subtitles": str(subtitles_of(args.output)),
        }
        told |= {"words": [row_of(word) for word in answer.words]}
        print(json.dumps(told | {"took_s": answer.took_s}, ensure_ascii=False))
        return
    print(answer.text or "(Moshi said nothing)")
    made = f"{args.output}, {transcript.name} and {subtitles_of(args.output).name}"
    if str(transcript) == os.devnull:
        made = str(args.output)
    print(
        f"{printable(made)}: {seconds:.1f} s, seed {answer.seed}, "
        f"real-time factor {answer.took_s / seconds:.2f}",
        file=sys.stderr,
    )


def check(args: argparse.Namespace) -> None:
    """Before the model is loaded: an ending that can be written, and nothing lost by it."""
    kind_of(args.output)
    texts = (transcript_of(args.output), subtitles_of(args.output))
    check_outputs([args.output, *texts], named_files(args, "output"), args.force)
    if not 0 <= args.tail <= ANSWER_TAIL_MAX_S:
        raise UsageError(f"--tail must lie between 0 and {ANSWER_TAIL_MAX_S:g} seconds")


def transcript_of(output: Path) -> Path:
    return beside(output, ".jsonl")


def subtitles_of(output: Path) -> Path:
    return beside(output, ".vtt")


def row_of(word: Word) -> dict[str, object]:
    """A word as JSON, with its times in seconds."""
    start_s, end_s = round(word.start_s, 2), round(word.end_s, 2)
    return {"time_s": start_s, "end_s": end_s, "speaker": "moshi", "text": word.text}


def write_answer(
    path: Path, answer: Answer, stereo: bool = False, origin: Origin | None = None
) -> Path:
    """The sound (`stereo`: user left, Moshi right), its words and subtitles: all whole, or none.

    origin: what the sound says of itself, and is signed with where that can be done.

    The transcript is one JSON object a word: {"time_s", "end_s", "speaker", "text"}. Returns its
    path. Raises AudioError, OutputError.
    """
    transcript = transcript_of(path)
    samples = answer.aligned if stereo else answer.pcm
    with whole_files(path, transcript, subtitles_of(path)) as (sound, words, subtitles):
        note = "" if origin is None else origin.note()
        write_samples(sound, samples, kind_of(path), note, PROGRAM)
        if origin is not None:
            seal_told(sound, origin, path, lambda line: print(line, file=sys.stderr))
        rows = [json.dumps(row_of(word), ensure_ascii=False) + "\n" for word in answer.words]
        words.write_text("".join(rows), encoding="utf-8")
        subtitles.write_text(vtt_of(answer.words, "Moshi"), encoding="utf-8")
    return transcript
