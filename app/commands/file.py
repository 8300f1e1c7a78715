"""Let Moshi answer a recording: a sound file in, Moshi's side out, the transcript beside it."""

import argparse
import json
import sys
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from moshi_mlx.audio.file import FORMATS, read_mono
from moshi_mlx.clock import FRAME_SAMPLES, FRAME_SECONDS, SAMPLE_RATE_HZ
from moshi_mlx.codec.cpu_threads import DECODING_MAX
from moshi_mlx.errors import UsageError
from moshi_mlx.output.whole_file import check_outputs, whole_files
from moshi_mlx.provenance import Marker

from ..options.mark import add_mark_options, index_from, marking_from
from ..options.model import (
    add_force_option,
    add_json_option,
    add_model_options,
    add_sampling_options,
    load_from,
    model_from,
    sampling_from,
)
from ..provenance.index_writer import add_sound
from ..provenance.marking import UNMARKED
from ..provenance.origin import HUMAN, MACHINE, Origin, revision_of
from ..provenance.seal import seal
from ..recording.sound_file import kind_of, write_samples

if TYPE_CHECKING:
    from moshi_mlx import Moshi

TAIL_SECONDS = 4.0  # silence after the recording, so that the answer isn't cut off
TAIL_SECONDS_MAX = 3600.0


@dataclass
class Answer:
    """Moshi's side of a recording, sample-aligned with it.

    `words`: (seconds, text), in order; `took_s`: from the first frame to the last.
    """

    pcm: np.ndarray
    words: list[tuple[float, str]] = field(default_factory=list)
    seed: int = 0
    took_s: float = 0.0

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.words).strip()


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
        default=TAIL_SECONDS,
        metavar="SECONDS",
        help=f"silence added after the recording, room for the answer (default {TAIL_SECONDS:g})",
    )
    add_force_option(parser)
    add_json_option(parser)
    add_model_options(parser)
    add_sampling_options(parser)
    add_mark_options(parser)


def run(args: argparse.Namespace) -> int:
    check(args)
    heard = read_mono(args.input)
    heard = np.append(heard, np.zeros(int(args.tail * SAMPLE_RATE_HZ), np.float32))
    marking, index = marking_from(args), index_from(args)
    moshi = load_from(args)
    moshi.warm_up()
    answer = answer_recording(
        moshi, heard, sys.stderr.isatty(), marking.marker(), **sampling_from(args)
    )
    origin = Origin(
        model_from(args),
        (HUMAN, MACHINE) if args.stereo else (MACHINE,),
        answer.seed,
        revision_of(moshi.folder),
        moshi.adapter,
        marking.kind,
    )
    transcript = write_answer(args.output, answer, heard if args.stereo else None, origin)
    if index is not None:
        add_sound(index, answer.pcm)
    if not marking.on:
        print(UNMARKED, file=sys.stderr)
    if args.json:
        told = {"output": str(args.output), "transcript": str(transcript), "text": answer.text}
        told |= {"seconds": len(heard) / SAMPLE_RATE_HZ, "seed": answer.seed}
        print(json.dumps(told | {"took_s": answer.took_s}, ensure_ascii=False))
        return 0
    print(answer.text or "(Moshi said nothing)")
    print(
        f"{args.output} and {transcript.name}: {len(heard) / SAMPLE_RATE_HZ:.1f} s, "
        f"seed {answer.seed}, real-time factor {answer.took_s * SAMPLE_RATE_HZ / len(heard):.2f}",
        file=sys.stderr,
    )
    return 0


def check(args: argparse.Namespace) -> None:
    """Before the model is loaded: an ending that can be written, and nothing lost by it."""
    kind_of(args.output)
    check_outputs([args.output, transcript_of(args.output)], [args.input], args.force)
    if not 0 <= args.tail <= TAIL_SECONDS_MAX:
        raise UsageError(f"--tail must lie between 0 and {TAIL_SECONDS_MAX:g} seconds")


def transcript_of(output: Path) -> Path:
    return output.with_suffix(".jsonl")


def answer_recording(
    moshi: "Moshi",
    heard: np.ndarray,
    progress: bool = False,
    mark: Marker | bool | None = True,
    **options,
) -> Answer:
    """Run a session over float32 [samples]; Moshi's side [samples], aligned to the same clock.

    One frame of silence goes first, since the model ignores a session's first frame, and is taken
    out of the alignment: sample n of the answer sounds while sample n of the recording is heard.
    """
    frames = -(-len(heard) // FRAME_SAMPLES)
    padded = np.zeros((frames + 1) * FRAME_SAMPLES, np.float32)
    padded[FRAME_SAMPLES : FRAME_SAMPLES + len(heard)] = heard
    said = np.zeros((frames + 1, FRAME_SAMPLES), np.float32)
    with moshi.session(mark=mark, **options) as session:
        session.warm_up()  # a top-k of its own has a step of its own
        answer = Answer(np.empty(0, np.float32), seed=session.seed)
        blocks = padded.reshape(-1, FRAME_SAMPLES)
        started_s = time.perf_counter()
        decoding: deque[tuple[np.ndarray, Future[np.ndarray | None]]] = deque()
        for i, block in enumerate(tqdm(blocks, unit="frame", disable=not progress)):
            following = blocks[i + 1] if i < frames else None
            reply = session.step_early(block, following=following)
            if reply.text:
                answer.words.append((max(i - 1, 0) * FRAME_SECONDS, reply.text))
            decoding.append((said[i], reply.sound))
            if len(decoding) > DECODING_MAX:
                _keep(*decoding.popleft())
        for row, sound in decoding:
            _keep(row, sound)
        answer.took_s = time.perf_counter() - started_s
    answer.pcm = said[1:].reshape(-1)[: len(heard)]
    return answer


def _keep(row: np.ndarray, sound: "Future[np.ndarray | None]") -> None:
    """Wait for a frame's sound, into `row` [1920]; none while the delays fill."""
    pcm = sound.result()
    if pcm is not None:
        row[:] = pcm


def write_answer(
    path: Path, answer: Answer, heard: np.ndarray | None, origin: Origin | None = None
) -> Path:
    """The sound (with `heard`: user left, Moshi right) and its transcript: both whole, or none.

    origin: what the sound says of itself, and is signed with where that can be done.

    The transcript is one JSON object a piece of text: {"time_s", "speaker", "text"}. Returns its
    path. Raises AudioError, OutputError.
    """
    transcript = transcript_of(path)
    samples = answer.pcm if heard is None else np.stack([heard, answer.pcm], axis=1)
    with whole_files(path, transcript) as (sound, words):
        write_samples(sound, samples, kind_of(path), origin.note() if origin else "")
        if origin is not None:
            seal(sound, origin)
        with words.open("w", encoding="utf-8") as file:
            for seconds, text in answer.words:
                row = {"time_s": round(seconds, 2), "speaker": "moshi", "text": text}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return transcript
