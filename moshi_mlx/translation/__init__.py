"""Speech to speech translation: `load_translator(folder or repository)` gives a Translator."""

from .stream import TranslatedFrame, TranslationStream
from .translator import Translation, Translator, load_translator

__all__ = ["TranslatedFrame", "Translation", "TranslationStream", "Translator", "load_translator"]
