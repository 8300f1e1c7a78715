"""Speech to speech translation: `load_translator(folder or repository)` gives a Translator."""

from .translator import Translation, Translator, load_translator

__all__ = ["Translation", "Translator", "load_translator"]
