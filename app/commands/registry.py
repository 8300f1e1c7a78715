"""The table of subcommands: where each lives, and its line in `moshi --help`."""

import importlib
from types import ModuleType

# command -> (module, one line for --help). A leading dot: in `commands`.
COMMANDS: dict[str, tuple[str, str]] = {
    "chat": (".chat", "talk with Moshi through microphone and speakers"),
    "web": (".web", "talk in a browser, or with any client that speaks Kyutai's protocol"),
    "echo-test": (".echo_test", "measure the echo of this room and what to do about it"),
    "devices": (".devices", "list the sound devices and say which a talk would use"),
    "demo": (".demo", "a spoken talk with the small model in the package; nothing to download"),
    "file": (".file", "let Moshi answer a recording, into a sound file and a transcript"),
    "transcribe": (
        ".transcribe",
        "write down recordings or a microphone, each word with its time",
    ),
    "say": (".say", "say a text aloud, or into a sound file, while it is written"),
    "translate": (".translate", "translate a spoken recording into speech of another language"),
    "text": (".text", "continue a text with Helium, the language model inside Moshi"),
    "trace": (".trace", "tell whether sound was made by moshi-local: mark, signature, index"),
    "voices": (".voices", "list the voices that a model has"),
    "prompts": (".prompts", "list the personas' prompts that this machine keeps, or clear them"),
    "models": (".models", "list, fetch, look at and remove models"),
    "doctor": (".doctor", "tell whether this machine can talk with Moshi, and what to mend"),
    "selftest": (".selftest", "tell whether this machine's GPU computes what it should"),
    "bench": (".bench", "measure how fast a model runs here, and how far from the limit"),
    "quantize": ("quantize.cli", "make a smaller model and tell what it cost"),
    "completion": (".completion", "print a script that completes all this in bash, zsh or fish"),
}


def module_of(command: str) -> ModuleType:
    """Import the module behind a command; the sibling folder `quantize` is reached here alone."""
    name = COMMANDS[command][0]
    if name.startswith("."):
        return importlib.import_module(name, __package__)
    # "moshi_mlx.app.commands" installed, "app.commands" in the checkout
    parent = (__package__ or "").removesuffix("app.commands").rstrip(".")
    return importlib.import_module(f"{parent}.{name}".lstrip("."))
