"""Mimi, the speech codec: `load_mimi(path)` gives an object with encode, decode and stream."""

from .config import MimiConfig
from .loading import load_mimi
from .model import Mimi, MimiStream

__all__ = ["Mimi", "MimiConfig", "MimiStream", "load_mimi"]
