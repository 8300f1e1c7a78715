"""Text to speech: `load_tts(folder or repository)` gives a Speaker."""

from .loading import load_tts
from .speaker import Speaker
from .speech import Speech
from .stream import SpeechStream

__all__ = ["Speaker", "Speech", "SpeechStream", "load_tts"]
