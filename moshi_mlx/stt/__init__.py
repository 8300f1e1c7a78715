"""Speech to text: `load_stt(folder or repository)` gives a Transcriber."""

from .transcriber import Transcriber, Transcript, TranscriptStream, load_stt
from .words import Word

__all__ = ["Transcriber", "Transcript", "TranscriptStream", "Word", "load_stt"]
