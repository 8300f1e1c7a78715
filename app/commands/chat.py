"""Talk with Moshi: it listens and speaks at the same time, through microphone and speakers."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from moshi_mlx.errors import AudioError, UsageError, printable
from moshi_mlx.output.whole_file import check_outputs
from moshi_mlx.weights.recipes import name_of

from ..audio.devices.choice import NoDeviceError
from ..audio.process.gil_handover import short_handovers, spare_the_collector
from ..audio.sound import Sound
from ..echo.choice import MODES
from ..events import Ready, Settings
from ..options.adapters import adapters_from
from ..options.fallbacks import take_fallbacks
from ..options.mark import add_mark_options, index_from
from ..options.model import (
    add_force_option,
    add_model_options,
    add_sampling_options,
    engine_from,
    model_from,
    sampling_from,
    source_from,
)
from ..options.named_files import named_files
from ..options.persona import add_persona_options, persona_from
from ..options.preferences import add_config_option, parse_with_preferences
from ..options.resume import add_resume_option, resumed, settings_of
from ..options.your_words import add_words_option, words_from
from ..provenance.origin import Origin
from ..provenance.seal import seal, seal_told
from ..screen.plain_text import run_plain
from ..selftest.remembered import recall
from ..talk.chat import Chat, ChatOptions
from ..talk.ending import clock, ending
from ..talk.engine import MakeEngine
from ..talk.keeping import resume_line
from .devices import add_device_options, checked_channel
from .signals import Signals, leave

TAIL_SECONDS = 4.0
WITHOUT_DEVICES = (
    "Without: `moshi web` (a browser's microphone and speaker, on this machine or another), `moshi "
    "demo --silent`, `moshi file QUESTION.wav ANSWER.wav`"
)
LONGEST_TAIL_S = 3600.0  # it is held in memory


def configure(parser: argparse.ArgumentParser) -> None:
    talk = parser.add_argument_group("talk")
    talk.add_argument("--plain", action="store_true", help="text only, no screen")
    add_device_options(talk)
    talk.add_argument(
        "--echo", choices=MODES, default="auto", help="who takes Moshi's echo out (default: auto)"
    )
    talk.add_argument(
        "--no-greeting", action="store_true", help="Moshi waits until you speak (30 s at most)"
    )
    add_words_option(talk)
    add_resume_option(talk)
    add_config_option(parser)
    add_model_options(parser, several=True)
    add_persona_options(parser)
    add_sampling_options(parser)
    add_mark_options(parser)
    recording = parser.add_argument_group("recording")
    recording.add_argument(
        "--record", type=Path, metavar="DIR", help="write sound, transcript and timings here"
    )
    recording.add_argument("--flac", action="store_true", help="sound as flac, made at the end")
    virtual = parser.add_argument_group("without a sound card")
    virtual.add_argument("--virtual-input", type=Path, metavar="FILE", help="what you say")
    virtual.add_argument("--virtual-output", type=Path, metavar="WAV", help="what Moshi says")
    add_force_option(virtual)
    virtual.add_argument(
        "--tail",
        type=float,
        metavar="SECONDS",
        help=f"silence after the virtual input (default: {TAIL_SECONDS:g})",
    )


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    return parse_with_preferences(parser, argv)


def run(
    args: argparse.Namespace,
    engine_from: Callable[[argparse.Namespace, str | None], MakeEngine] = engine_from,
) -> int:
    """0, or 1 with one line on stderr. Raises MoshiError.

    engine_from: the options and a dtype -> what makes the engine.
    """
    kept = resumed(args)
    name = model_from(args)  # what contradicts itself is told before a device is asked
    go_around(args, name)
    greeting = not args.no_greeting
    if kept is None:
        who = persona_from(args) | {"adapter": adapters_from(args).chosen or None}
        settings = Settings(greeting=greeting, **who, **sampling_from(args))
    else:
        settings = settings_of(kept, greeting)
        told = f"resuming a talk with {printable(name)}, {clock(kept.seconds)} long so far"
        print(told, file=sys.stderr)
    options = ChatOptions(
        *(settings, args.echo, args.record, args.flac),
        seal=seal,
        index=index_from(args),
        words=words_from(args),
        source=source_from(args),
    )
    short_handovers()
    sound = sound_from(args)
    make_engine = engine_from(args, None if kept is None else kept.dtype)
    with Signals(terminal=True) as signals:
        chat = Chat(make_engine, sound, options)
        chat.subscribe(lambda event: spare_the_collector() if isinstance(event, Ready) else None)
        status = hold(chat, signals, lambda: show(chat, args.plain))
        seal_output(args.virtual_output, chat)
        return status


def go_around(args: argparse.Namespace, name: str) -> None:
    """Parts that the self-test found to be wrong here: options change, where somebody agrees."""
    outcome = recall()
    if outcome is None or not outcome.wrong:
        return
    for line in take_fallbacks(args, outcome, name_of(name)):
        print(line, file=sys.stderr)


def seal_output(path: Path | None, chat: Chat) -> None:
    """What `--virtual-output` wrote, where a file was made."""
    ready = chat.ready
    if path is not None and ready is not None and path.is_file():
        origin = origin_of(ready, chat.options.settings.adapter)
        seal_told(path, origin, path, lambda line: print(line, file=sys.stderr))


def origin_of(ready: Ready, chosen: str | None = None) -> Origin:
    """Of a file that holds the model's side alone; `chosen`: one of several adapters."""
    adapter = chosen or ready.adapter
    return Origin(ready.model, revision=ready.revision, adapter=adapter, mark=ready.mark)


def hold(chat: Chat, signals: Signals, show: Callable[[], None]) -> int:
    """A talk until its end, or until a signal: then its devices and its recording are closed beside
    `show`, which may hang on a terminal that is gone. Returns the exit status, 0 or 1."""
    signals.call(chat.close_soon)
    try:
        show()
    finally:
        ended = chat.close()
    status = report(chat)
    if not ended:  # a model that is loading can't be interrupted, and mustn't hold us up
        leave(signals.status or status)
    return status


def show(chat: Chat, plain: bool) -> None:
    """Until the talk is over: on a screen, or as text where there is none."""
    if plain or not (sys.stdin.isatty() and sys.stdout.isatty()):
        run_plain(chat)
        return
    from ..screen.chat_screen import run_screen

    run_screen(chat)


def report(chat: Chat) -> int:
    """How it went, where the recordings are and what failed, if anything; the exit status."""
    for line in ending(chat.snapshot()):
        print(line, file=sys.stderr)
    for take in chat.takes:
        shown = printable(str(take))
        print(f"recorded: {shown}", file=sys.stderr)
        if take in chat.unsigned:
            print(f"{shown}: {chat.unsigned[take]}", file=sys.stderr)
    for path in chat.kept:
        print(f"saved: {printable(resume_line(path))}", file=sys.stderr)
    if chat.failure is not None:
        print(f"error: {chat.failure}", file=sys.stderr)
        return 1
    return 0


def sound_from(args: argparse.Namespace) -> Sound:
    """The devices that the options name, found but not opened. Raises AudioError."""
    if args.virtual_input is None:
        if args.virtual_output is not None:
            raise UsageError("--virtual-output needs --virtual-input too: a file that is said")
        if args.tail is not None:
            raise UsageError("--tail is the silence after --virtual-input: give that too")
        from ..audio.device_sound import DeviceSound

        try:
            return DeviceSound(args.input, args.output, checked_channel(args.input_channel))
        except NoDeviceError as error:
            raise AudioError(f"{error}. {WITHOUT_DEVICES}") from None
    if args.input or args.output or args.input_channel != 1:
        raise UsageError("--virtual-input is a device of its own: leave --input and --output out")
    tail_s = TAIL_SECONDS if args.tail is None else args.tail
    if not 0 <= tail_s <= LONGEST_TAIL_S:
        raise UsageError(f"--tail is 0 to {LONGEST_TAIL_S:g} seconds, not {tail_s:g}")
    if args.virtual_output is not None:
        inputs = named_files(args, "virtual_output")
        check_outputs([args.virtual_output], inputs, args.force)
    from ..audio.file_sound import FileSound

    return FileSound(args.virtual_input, args.virtual_output, tail_s)
