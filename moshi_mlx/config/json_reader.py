"""Strict reading of one JSON object, key by key: a value of the right kind, or a ConfigError."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..errors import ConfigError

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

    def number(self, key: str, at_least: int = 1) -> int:
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            raise self.fail(f"{key} must be a whole number of at least {at_least}, not {value!r}")
        return value

    def positive(self, key: str) -> float:
        value = self.get(key)
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not 0 < value < math.inf:
            raise self.fail(f"{key} must be a number above 0, not {value!r}")
        return value

    def optional(self, key: str) -> int | None:
        """A whole number of at least 1; null or missing: None."""
        return None if self.get(key) is None else self.number(key)

    def flag(self, key: str) -> bool:
        value = self.get(key)
        if not isinstance(value, bool):
            raise self.fail(f"{key} must be true or false, not {value!r}")
        return value

    def mapping(self, key: str) -> Mapping[str, Any]:
        """A JSON object; null or missing: an empty one."""
        value = self.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self.fail(f"{key} must be a JSON object, not {value!r}")
        return value

    def heads(self, dim_key: str, heads_key: str) -> tuple[int, int]:
        dim, heads = self.number(dim_key), self.number(heads_key)
        if dim % heads or (dim // heads) % 2:
            raise self.fail(f"{dim_key} = {dim} can't be cut into {heads} heads of even width")
        return dim, heads
