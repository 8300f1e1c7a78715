"""--your-words: what the user says, written down by another model beside the talk."""

import argparse
from collections.abc import Callable

from ..events import Event
from ..machine.readers import child_command
from ..speech.words_beside import WordsBeside
from ..talk.chat import Beside

STT_MODEL = "kyutai/stt-1b-en_fr-mlx"
MakeWords = Callable[[Callable[[Event], None]], Beside]


def add_words_option(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--your-words",
        nargs="?",
        const=STT_MODEL,
        metavar="MODEL",
        help="write down what you say too, by a speech to text model beside the talk "
        f"(default: {STT_MODEL})",
    )


def words_from(args: argparse.Namespace) -> MakeWords | None:
    """What writes down the user's words, given whom to tell; None where nobody asked. Its model is
    downloaded here. Raises MoshiError for a model of another kind."""
    if args.your_words is None:
        return None
    from moshi_mlx.stt.loading import stt_folder

    folder = stt_folder(args.your_words, offline=args.offline, memory_limits=False).path
    command, environment = child_command("speech.words_child", str(folder))
    return lambda tell: WordsBeside(command, environment, tell)
