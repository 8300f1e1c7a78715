"""Numbers that options take: a range is part of the option, so that another one is wrong usage."""

import argparse
import math


class Number:
    """The `type` of an option, `whole` or not, from `low` to `high`, both included."""

    def __init__(self, low: float, high: float = math.inf, whole: bool = False) -> None:
        self._low, self._high, self._whole = low, high, whole
        kind = "whole number" if whole else "number"
        self.__name__ = f"{kind} {self._range()}"

    def __call__(self, given: str) -> float:
        """Raises ArgumentTypeError, which argparse and preferences understand."""
        try:
            value = int(given) if self._whole else float(given)
        except ValueError:
            value = math.nan
        if not self._low <= value <= self._high:
            raise argparse.ArgumentTypeError(f"must be a {self.__name__}, not {given[:40]}")
        return value

    def _range(self) -> str:
        if math.isinf(self._high):
            return f"of {self._low:g} or more"
        return f"from {self._low:.15g} to {self._high:.15g}"
