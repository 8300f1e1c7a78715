"""A spoken talk with the small model of the package: bundled questions, answered aloud.

The questions are played into a chat through virtual devices, in real time, and both sides are heard
where there is a loudspeaker; `--live` opens microphone and speaker instead. The exit status is 0
when every answer was right, however slow this machine is, else 1.
"""

import argparse
import json
import queue
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from moshi_mlx.audio.levels import rms_db
from moshi_mlx.audio.writing import write
from moshi_mlx.clock import FRAME_SECONDS
from moshi_mlx.errors import UsageError, printable

from ..events import Event, FrameDone, Notice, Settings
from ..options.mark import add_mark_options, index_from
from ..options.model import add_json_option, add_model_options, engine_from, source_from
from ..provenance.seal import seal
from ..talk.chat import Chat, ChatOptions
from .demo_questions import Question, bundled, track
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
        "--out",
        type=Path,
        default=ChatOptions.folder,
        metavar="DIR",
        help=f"where the recording goes (default: {ChatOptions.folder}, as in a chat)",
    )
    parser.add_argument("--silent", action="store_true", help="play nothing through the speaker")
    parser.add_argument(
        "--live", action="store_true", help="ask it yourself, through microphone and speaker"
    )
    add_json_option(parser)
    add_model_options(parser, default="nano")
    add_mark_options(parser)


def run(args: argparse.Namespace) -> int:
    """0 when all answers were right; 1 when one was wrong or the talk failed."""
    from moshi_mlx.hub import resolve

    if args.live and (args.silent or args.json):
        option = "--silent" if args.silent else "--json"
        raise UsageError(f"{option} is for the questions that are played: leave it or --live out")
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
        options = ChatOptions(
            *(Settings(), "auto", args.out),
            seal=seal,
            index=index_from(args),
            source=source_from(args),
        )
        chat = Chat(engine_from(args), DeviceSound(None, None), options)
        return hold(chat, signals, lambda: show(chat, plain=True))


def played(args: argparse.Namespace, questions: list[Question]) -> int:
    """The questions through virtual devices, greedy, so that every run says the same."""
    from ..audio.file_sound import FileSound
    from ..audio.loudspeaker import Loudspeaker
    from .chat import hold

    pcm, spans = track(questions, ANSWER_SECONDS)
    greedy = Settings(seed=0, text_temperature=0.0, audio_temperature=0.0)
    with Signals(terminal=True) as signals, tempfile.TemporaryDirectory() as name:
        said = Path(name) / "questions.wav"
        write(said, pcm)
        options = ChatOptions(greedy, "off", args.out, seal=seal, index=index_from(args))
        sound = FileSound(said, None, 0.0, None if args.silent else Loudspeaker)
        chat = Chat(engine_from(args), sound, options)
        demo = Demo(questions, spans)
        chat.subscribe(demo.watch)

        def follow() -> None:
            chat.start()
            demo.follow(chat, sys.stderr if args.json else sys.stdout)

        status = hold(chat, signals, follow)
    if status:
        return status
    if args.json:
        told = demo.document() | {
            "model": args.model,
            "waited_s": round(sound.waited_s, 2),
            "heard_through": sound.heard_through,
            "recorded": [str(take) for take in chat.takes],
        }
        print(json.dumps(told, ensure_ascii=False))
    else:
        demo.tell()
    return 0 if demo.is_right else 1


@dataclass
class Asked:
    """One question's place on the track, in seconds, and what came of it."""

    question: Question
    start_s: float
    end_s: float
    until_s: float
    said: str = ""
    first_sound_s: float | None = None  # after the question's end

    @property
    def is_right(self) -> bool:
        return self.said.strip() == self.question.answer


class Demo:
    """Sorts Moshi's words and sound to the questions that they answer."""

    def __init__(self, questions: list[Question], spans: list[tuple[float, float]]) -> None:
        ends = [start for start, _ in spans[1:]] + [float("inf")]
        self.asked = [
            Asked(q, start, end, until)
            for q, (start, end), until in zip(questions, spans, ends, strict=True)
        ]
        self._begun = 0  # questions
        self._lines: queue.SimpleQueue[str | Notice] = queue.SimpleQueue()

    def watch(self, event: Event) -> None:
        """A listener: words and the first sound of each answer, in the order of the talk."""
        if isinstance(event, Notice):
            self._lines.put(event)
        if not isinstance(event, FrameDone):
            return
        now_s = (event.index + 1) * FRAME_SECONDS
        while self._begun < len(self.asked) and now_s > self.asked[self._begun].start_s:
            gap = "\n\n" if self._begun else ""
            self._lines.put(f"{gap}You:   {self.asked[self._begun].question.text}\nMoshi:")
            self._begun += 1
        self._lines.put(event.text)
        for asked in self.asked:
            if asked.start_s < now_s <= asked.until_s:
                asked.said += event.text
                sounds = event.reply is not None and rms_db(event.reply) > SOUND_DB
                if sounds and asked.first_sound_s is None and now_s > asked.end_s:
                    asked.first_sound_s = now_s + event.lag_ms / 1000 - asked.end_s

    def follow(self, chat: Chat, out: TextIO) -> None:
        """Shows the transcript until the talk is over."""
        while not chat.over:
            self._show(out, POLL_S)
        while not self._lines.empty():
            self._show(out, 0.0)
        print(file=out, flush=True)

    def _show(self, out: TextIO, timeout_s: float) -> None:
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            return
        if isinstance(line, Notice):
            print(printable(line.message), file=sys.stderr, flush=True)
        else:
            print(line, end="", file=out, flush=True)

    @property
    def is_right(self) -> bool:
        return all(asked.is_right for asked in self.asked)

    @property
    def latency_s(self) -> float | None:
        """The median from a question's end to the first sound of its answer."""
        waits = [a.first_sound_s for a in self.asked if a.first_sound_s is not None]
        return float(np.median(waits)) if waits else None

    def document(self) -> dict[str, Any]:
        """For programs."""
        questions = [
            {
                "question": asked.question.text,
                "answer": asked.said.strip(),
                "expected": asked.question.answer,
                "right": asked.is_right,
                "latency_s": asked.first_sound_s and round(asked.first_sound_s, 2),
            }
            for asked in self.asked
        ]
        latency_s = self.latency_s
        latency = None if latency_s is None else round(latency_s, 2)
        return {"right": self.is_right, "latency_s": latency, "questions": questions}

    def tell(self) -> None:
        """The latency, and which answers were wrong."""
        latency_s = self.latency_s
        if latency_s is not None:
            print(f"Latency: {latency_s:.2f} s from a question's end to the first sound.")
        for asked in self.asked:
            if not asked.is_right:
                print(
                    f"wrong answer to {asked.question.text!r}: {asked.said.strip()!r}, "
                    f"expected {asked.question.answer!r}",
                    file=sys.stderr,
                )
        if self.is_right:
            print(("The answer is" if len(self.asked) == 1 else "All answers are") + " right.")
