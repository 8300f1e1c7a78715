"""Talk with Moshi: it listens and speaks at the same time, through microphone and speakers."""

import argparse
from pathlib import Path

from .chat import Chat, ChatOptions, Sound
from .echo_choice import MODES
from .events import Settings
from .model_options import add_model_options, add_sampling_options, engine_from, sampling_from

TAIL_SECONDS = 4.0


def configure(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)
    add_sampling_options(parser)
    talk = parser.add_argument_group("talk")
    talk.add_argument("--plain", action="store_true", help="text only, no screen")
    talk.add_argument("--echo", choices=MODES, default="auto", help="who takes Moshi's echo out")
    talk.add_argument(
        "--no-greeting", action="store_true", help="Moshi waits until you speak (30 s at most)"
    )
    recording = parser.add_argument_group("recording")
    recording.add_argument(
        "--record", type=Path, metavar="DIR", help="write sound, transcript and timings here"
    )
    recording.add_argument("--flac", action="store_true", help="sound as flac, made at the end")
    virtual = parser.add_argument_group("without a sound card")
    virtual.add_argument("--virtual-input", type=Path, metavar="WAV", help="the microphone's sound")
    virtual.add_argument("--virtual-output", type=Path, metavar="WAV", help="what Moshi says")
    virtual.add_argument(
        "--tail",
        type=float,
        default=TAIL_SECONDS,
        metavar="SECONDS",
        help=f"silence after the virtual input (default {TAIL_SECONDS:g})",
    )


def run(args: argparse.Namespace) -> int:
    settings = Settings(greeting=not args.no_greeting, **sampling_from(args))
    options = ChatOptions(settings, args.echo, args.record, args.flac)
    chat = Chat(engine_from(args), sound_from(args), options)
    from .plain import run_plain

    return run_plain(chat)


def sound_from(args: argparse.Namespace) -> Sound:
    """The devices that the options name. Raises AudioError."""
    from .virtual_sound import FileSound

    return FileSound(args.virtual_input, args.virtual_output, args.tail)
