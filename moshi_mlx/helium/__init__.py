"""Helium, the language model inside Moshi, as a text model: `load_helium(folder or repository)`."""

from .config import HeliumConfig
from .model import Helium, load_helium

__all__ = ["Helium", "HeliumConfig", "load_helium"]
