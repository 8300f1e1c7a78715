"""Speech to text: `load_stt(folder or repository)` gives a Transcriber."""

from .loading import load_stt
from .prompt import Prompt
from .stream import TranscriptStream
from .transcriber import Transcriber
from .transcript import Transcript
from .words import Word

__all__ = ["Prompt", "Transcriber", "Transcript", "TranscriptStream", "Word", "load_stt"]
