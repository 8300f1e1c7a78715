"""Strict reading of one JSON object, key by key: a value of the right kind, or a ConfigError."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..errors import ConfigError
from .json_file import shown

# No model comes near these; whatever is beyond them is damage, or meant to exhaust the machine.
MAX_SIZE = 2**24
MAX_NUMBER = 1e12
NO_DEFAULTS: Mapping[str, Any] = MappingProxyType({})


class Reader:
    """Reads one config; every refusal names the file, the key and what would do.

    `defaults`: what a key that is missing stands for.
    """

    def __init__(
        self, raw: Mapping[str, Any], source: str, defaults: Mapping[str, Any] = NO_DEFAULTS
    ) -> None:
        self.raw, self.source, self.defaults = raw, source, defaults

    def fail(self, message: str) -> ConfigError:
        return ConfigError(f"{self.source}: {message}")

    def get(self, key: str) -> Any:
        return self.raw.get(key, self.defaults.get(key))

    def number(self, key: str, at_least: int = 1, at_most: int = MAX_SIZE) -> int:
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            raise self.fail(
                f"{key} must be a whole number of at least {at_least}, not {shown(value)}"
            )
        if value > at_most:
            raise self.fail(f"{key} must be at most {at_most}, not {shown(value)}")
        return value

    def positive(self, key: str) -> float:
        value = self.get(key)
        if not is_number(value) or not value > 0:
            raise self.fail(f"{key} must be a number above 0, not {shown(value)}")
        return value

    def optional(self, key: str) -> int | None:
        """A whole number of at least 1; null or missing: None."""
        return None if self.get(key) is None else self.number(key)

    def flag(self, key: str) -> bool:
        """True or false; null is false, as in PyTorch's `if`."""
        value = False if self.get(key) is None else self.get(key)
        if not isinstance(value, bool):
            raise self.fail(f"{key} must be true or false, not {shown(value)}")
        return value

    def mapping(self, key: str) -> Mapping[str, Any]:
        """A JSON object; null or missing: an empty one."""
        value = self.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self.fail(f"{key} must be a JSON object, not {shown(value)}")
        return value

    def heads(self, dim_key: str, heads_key: str) -> tuple[int, int]:
        dim, heads = self.number(dim_key), self.number(heads_key)
        if dim % heads or (dim // heads) % 2:
            raise self.fail(f"{dim_key} = {dim} can't be cut into {heads} heads of even width")
        return dim, heads


def is_number(value: Any) -> bool:
    """A finite number that a float holds; true and false are none."""
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return good and -MAX_NUMBER <= value <= MAX_NUMBER
