"""Moshi's words with their times: word pieces into lines of JSON, cues into WebVTT."""

import json
from dataclasses import dataclass

from moshi_mlx.clock import FRAME_SECONDS

GAP_S = 1.2  # silence that ends a cue
LONG_CUE_S = 6.0
SENTENCE_ENDS = (".", "!", "?")
VTT_HEADER = "WEBVTT\n\n"


@dataclass(frozen=True)
class TalkCue:
    start_s: float
    end_s: float
    text: str

    def vtt(self) -> str:
        text = self.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return f"{clock(self.start_s)} --> {clock(self.end_s)}\n<v Moshi>{text}\n\n"


def clock(seconds: float) -> str:
    """Seconds as WebVTT writes them: 00:01:02.345."""
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"


def json_line(index: int, text: str) -> str:
    """One word piece of frame `index` as a line of JSON."""
    return json_line_at(index * FRAME_SECONDS, text)


def json_line_at(at_s: float, text: str) -> str:
    """A word, or a piece of one, that begins then."""
    return json.dumps({"time_s": round(at_s, 2), "text": text}) + "\n"


class CueMaker:
    """Gathers word pieces into cues: a sentence, a pause or six seconds ends one."""

    def __init__(self) -> None:
        self._text = ""
        self._start_s = self._end_s = 0.0

    def add(self, index: int, text: str) -> TalkCue | None:
        """The piece of frame `index` ("" for none); returns the cue that has just ended."""
        now_s = index * FRAME_SECONDS
        done = None
        new_word = text.startswith(" ")
        sentence_over = self._text.endswith(SENTENCE_ENDS) and new_word
        pause = now_s - self._end_s > GAP_S
        too_long = new_word and now_s - self._start_s > LONG_CUE_S
        if self._text and (pause or sentence_over or too_long):
            done = self.finish()
        if text:
            self._start_s = now_s if not self._text else self._start_s
            self._text += text
            self._end_s = now_s + FRAME_SECONDS
        return done

    def finish(self) -> TalkCue | None:
        """The cue that is still open, if any."""
        text, self._text = self._text.strip(), ""
        return TalkCue(self._start_s, self._end_s + 0.4, text) if text else None
