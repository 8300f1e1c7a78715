"""Options that several commands share: which model, and how it samples."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moshi_mlx import Moshi

DEFAULT_MODEL = "kyutai/moshiko-mlx-q4"
# option -> (type, help)
SAMPLING: dict[str, tuple[type, str]] = {
    "seed": (int, "the same seed gives the same answer (default: a new one each time)"),
    "text_temperature": (float, "how freely words are chosen; 0 is greedy"),
    "text_top_k": (int, "choose among the k likeliest words only"),
    "audio_temperature": (float, "how freely the voice is chosen; 0 is greedy"),
    "audio_top_k": (int, "choose among the k likeliest codes only"),
}


def add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help='a folder, a Hugging Face repository, or "nano", the small one in the package '
        "(default: %(default)s)",
    )
    group.add_argument("--revision", help="a commit or branch of the repository")
    group.add_argument("--offline", action="store_true", default=None, help="never ask the network")
    group.add_argument(
        "--codec", choices=("auto", "mlx", "rust"), default="auto", help="who runs Mimi"
    )


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sampling (defaults come with the model)")
    for name, (kind, text) in SAMPLING.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)


def load_from(args: argparse.Namespace) -> "Moshi":
    """The model that the options name. Raises MoshiError."""
    import moshi_mlx

    return moshi_mlx.load(
        args.model, codec=args.codec, revision=args.revision, offline=args.offline
    )


def sampling_from(args: argparse.Namespace) -> dict[str, Any]:
    """The sampling options that were given."""
    return {name: value for name in SAMPLING if (value := getattr(args, name)) is not None}
