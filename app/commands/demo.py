"""A spoken talk with the small model of the package: bundled questions, answered aloud.

The questions are played into a chat through virtual devices, in real time; `--live` opens the real
microphone and speaker instead. The exit status says whether every answer was right.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moshi_mlx.audio.levels import rms_db
from moshi_mlx.clock import FRAME_SECONDS

from ..events import Event, FrameDone, Settings
from ..provenance.seal import seal
from ..talk.chat import Chat, ChatOptions, Inbox
from .demo_questions import Question, bundled, track
from .mark_options import add_mark_options, index_from
from .model_options import add_model_options, engine_from
from .signals import Signals

DEFAULT_QUESTIONS = ("four_plus_three", "who_made_you", "two_plus_two")
ANSWER_SECONDS = 5.0  # silence after each question, room for its answer
SOUND_DB = -45.0  # RMS of a frame from which on Moshi is heard
POLL_S = 0.1


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--question",
        action="append",
        metavar="NAME",
        help=f"a bundled question, may be repeated (default: {', '.join(DEFAULT_QUESTIONS)})",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out"), metavar="DIR", help="the recording (default out)"
    )
    parser.add_argument(
        "--live", action="store_true", help="ask it yourself, through microphone and speaker"
    )
    add_model_options(parser, default="nano")
    add_mark_options(parser)


def run(args: argparse.Namespace) -> int:
    """0 when all answers were right; 1 when one was wrong or the talk failed."""
    from moshi_mlx.hub import resolve

    folder = resolve(args.model, args.revision, args.offline)
    questions = bundled(folder, args.question or (() if args.live else DEFAULT_QUESTIONS))
    if args.live:
        return live(args, questions)
    return played(args, questions)


def live(args: argparse.Namespace, questions: list[Question]) -> int:
    """`moshi chat` with this model, after telling what can be asked."""
    from ..audio.device_sound import DeviceSound
    from .chat import hold, show

    asked = "; ".join(q.text for q in questions)
    print(f"Ask, for example: {asked}. Ctrl-C ends the talk.", file=sys.stderr)
    with Signals(terminal=True) as signals:
        options = ChatOptions(Settings(), "auto", args.out, seal=seal, index=index_from(args))
        chat = Chat(engine_from(args), DeviceSound(None, None), options)
        return hold(chat, signals, lambda: show(chat, plain=True))


def played(args: argparse.Namespace, questions: list[Question]) -> int:
    """The questions through virtual devices, greedy, so that every run says the same."""
    from ..audio.file_sound import FileSound
    from ..recording.sound_file import write_wav
    from .chat import hold

    pcm, spans = track(questions, ANSWER_SECONDS)
    greedy = Settings(seed=0, text_temperature=0.0, audio_temperature=0.0)
    with Signals(terminal=True) as signals, tempfile.TemporaryDirectory() as name:
        said = Path(name) / "questions.wav"
        write_wav(said, pcm)
        options = ChatOptions(greedy, "off", args.out, seal=seal, index=index_from(args))
        chat = Chat(engine_from(args), FileSound(said, None, 0.0), options)
        demo, inbox = Demo(questions, spans), chat.inbox()
        chat.subscribe(demo.watch)

        def follow() -> None:
            chat.start()
            demo.follow(chat, inbox)

        status = hold(chat, signals, follow)
    return status or demo.verdict()


@dataclass
class Asked:
    """One question's place on the track, in seconds, and what came of it."""

    question: Question
    start_s: float
    end_s: float
    until_s: float
    said: str = ""
    first_sound_s: float | None = None  # after the question's end


class Demo:
    """Sorts Moshi's words and sound to the questions that they answer."""

    def __init__(self, questions: list[Question], spans: list[tuple[float, float]]) -> None:
        ends = [start for start, _ in spans[1:]] + [float("inf")]
        self.asked = [
            Asked(q, start, end, until)
            for q, (start, end), until in zip(questions, spans, ends, strict=True)
        ]

    def watch(self, event: Event) -> None:
        """A listener: words and the first sound of each answer."""
        if not isinstance(event, FrameDone):
            return
        now_s = (event.index + 1 + event.dropped_frames) * FRAME_SECONDS
        for asked in self.asked:
            if asked.start_s < now_s <= asked.until_s:
                asked.said += event.text
                sounds = event.reply is not None and rms_db(event.reply) > SOUND_DB
                if sounds and asked.first_sound_s is None and now_s > asked.end_s:
                    asked.first_sound_s = now_s + event.lag_ms / 1000 - asked.end_s

    def follow(self, chat: Chat, inbox: Inbox) -> None:
        """Shows the transcript until the talk is over."""
        shown = -1
        while not chat.over:
            event = inbox.get(POLL_S)
            now_s = chat.snapshot().talk.frames * FRAME_SECONDS
            while shown + 1 < len(self.asked) and now_s >= self.asked[shown + 1].start_s:
                shown += 1
                if shown:
                    print(flush=True)
                print(f"You:   {self.asked[shown].question.text}\nMoshi:", end="", flush=True)
            if isinstance(event, FrameDone):
                print(event.text, end="", flush=True)
        rest = "".join(e.text for e in inbox.drain() if isinstance(e, FrameDone))
        print(rest, flush=True)

    def verdict(self) -> int:
        """Prints the latency and what was wrong; the exit status."""
        waits = [a.first_sound_s for a in self.asked if a.first_sound_s is not None]
        if waits:
            print(f"Latency: {np.median(waits):.2f} s from a question's end to the first sound.")
        wrong = [a for a in self.asked if a.said.strip() != a.question.answer]
        for asked in wrong:
            print(
                f"wrong answer to {asked.question.text!r}: {asked.said.strip()!r}, "
                f"expected {asked.question.answer!r}",
                file=sys.stderr,
            )
        if not wrong:
            print(f"All {len(self.asked)} answers are right.")
        return 1 if wrong else 0
