"""Lasting preferences: a TOML file whose keys are a command's options, checked like these.

    voice = "moshika"
    bits = 8
    no_greeting = true

The command line wins over the file, the file over the defaults.
"""

import argparse
import difflib
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moshi_mlx.errors import ConfigError

from .model import KYUTAIS_VOICES, SAMPLING

NOT_LASTING = ("config", "help", "resume", "virtual_input", "virtual_output", "force")
# void where another model is asked for
OF_A_MODEL = ("lora", "adapter", "mimi", "tokenizer", "revision", "persona", "keep_prompt")
# and where a saved talk brings its own
OF_A_TALK = (*OF_A_MODEL, "model", "voice", "bits", "kv_bits", "codec", *SAMPLING)
ONE_MODEL = (("model",), ("voice", "bits"))  # either names it; the other's preference is void


def default_path() -> Path:
    root = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(root) / "moshi" / "chat.toml"


def add_config_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="TOML",
        help="lasting preferences: options as keys (default: ~/.config/moshi/chat.toml if there)",
    )


def parse_with_preferences(
    parser: argparse.ArgumentParser, argv: Sequence[str]
) -> argparse.Namespace:
    """The command line over the file. Raises ConfigError for a file that can't be meant so."""
    plain = parser.parse_args(argv)
    given = {name for name, value in vars(plain).items() if value != parser.get_default(name)}
    path = plain.config or (default_path() if default_path().is_file() else None)
    if path is None:
        return plain
    values = checked(read(path), parser, path)
    preferred = values.get("voice")
    if preferred is not None and preferred not in KYUTAIS_VOICES and "model" not in values:
        raise ConfigError(
            f"{path}: voice must be one of {', '.join(KYUTAIS_VOICES)}, not {preferred!r}, or of "
            "the model that is preferred too"
        )
    if "voice" in given and plain.voice not in KYUTAIS_VOICES:
        given.remove("voice")  # one of the preferred model's
    for one, other in (ONE_MODEL, ONE_MODEL[::-1]):
        if given.intersection(one):
            values = {name: value for name, value in values.items() if name not in other}
    if given.intersection(sum(ONE_MODEL, ())):
        values = {name: value for name, value in values.items() if name not in OF_A_MODEL}
        if values.get("voice") not in KYUTAIS_VOICES:
            values.pop("voice", None)
    values = {name: value for name, value in values.items() if name not in given}
    if "resume" in given:
        values = {name: value for name, value in values.items() if name not in OF_A_TALK}
    parser.set_defaults(**values)
    return parser.parse_args(argv)


def read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path} can't be read ({error.strerror}); check --config") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply: options are keys with one value") from None
    except ValueError as error:  # not TOML, not UTF-8, or a number of thousands of digits
        raise ConfigError(f"{path} is not TOML: {' '.join(str(error).split())}") from None


def checked(raw: dict[str, Any], parser: argparse.ArgumentParser, path: Path) -> dict[str, Any]:
    """Keys and values of the file as the parser's own. Raises ConfigError."""
    actions = {a.dest: a for a in parser._actions if a.dest not in NOT_LASTING}
    values = {}
    for key, value in raw.items():
        name = key.replace("-", "_")
        if name not in actions:
            close = difflib.get_close_matches(name, actions, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(actions))}"
            raise ConfigError(f"{path}: unknown key {key}; {hint}")
        values[name] = value_of(actions[name], key, value, path)
    return values


def value_of(action: argparse.Action, key: str, value: Any, path: Path) -> Any:
    """One value, converted and checked as the option would be."""
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise ConfigError(f"{path}: {key} must be true or false, not {value!r}")
        return value
    if isinstance(action, argparse._AppendAction):  # an option that may be repeated
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(one, str) for one in values):
            raise ConfigError(f"{path}: {key} takes a text or several, not {value!r}")
        return values
    if isinstance(value, bool | dict | list):
        raise ConfigError(f"{path}: {key} takes one value, not {value!r}")
    kind = action.type if callable(action.type) else str
    try:
        converted = kind(str(value))
    except (TypeError, ValueError, argparse.ArgumentTypeError):
        name = getattr(kind, "__name__", "value")
        raise ConfigError(f"{path}: {key} must be a valid {name}, not {value!r}") from None
    if action.choices is not None and converted not in action.choices:
        choices = ", ".join(map(str, action.choices))
        raise ConfigError(f"{path}: {key} must be one of {choices}, not {value!r}")
    return converted.expanduser() if isinstance(converted, Path) else converted  # no shell does it
