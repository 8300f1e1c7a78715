"""A transcript as a file: txt, srt, vtt, tsv and json, as whisper's tools write them."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from moshi_mlx.output.whole_file import beside, whole_files
from moshi_mlx.stt import Transcript
from moshi_mlx.text.word import Word

from .cues import cues_of


def txt(transcript: Transcript) -> str:
    """The text, a line for each cue."""
    lines = [cue.text for cue in cues_of(transcript.words)]
    return "".join(f"{line}\n" for line in [transcript.leading, *lines] if line)


def srt(transcript: Transcript) -> str:
    """SubRip: numbered cues."""
    return "".join(
        f"{number}\n{clock(cue.start_s, ',')} --> {clock(cue.end_s, ',')}\n"
        + "".join(f"{line}\n" for line in cue.lines)
        + "\n"
        for number, cue in enumerate(cues_of(transcript.words), 1)
    )


def vtt(transcript: Transcript) -> str:
    """WebVTT."""
    return vtt_of(transcript.words)


def vtt_of(words: Iterable[Word], speaker: str = "") -> str:
    """WebVTT of one speaker's words, with the speaker's name where it is given."""
    voice = f"<v {escaped(speaker)}>" if speaker else ""
    cues = "".join(
        f"{clock(cue.start_s, '.')} --> {clock(cue.end_s, '.')}\n{voice}"
        + "".join(f"{escaped(line)}\n" for line in cue.lines)
        + "\n"
        for cue in cues_of(words)
    )
    return f"WEBVTT\n\n{cues}"


def tsv(transcript: Transcript) -> str:
    """Start and end in milliseconds, and the text; a row for each cue."""
    rows = "".join(
        f"{milliseconds(cue.start_s)}\t{milliseconds(cue.end_s)}\t{cue.text}\n"
        for cue in cues_of(transcript.words)
    )
    return f"start\tend\ttext\n{rows}"


def as_json(transcript: Transcript) -> str:
    """Text, segments (cues) and every word with its times in seconds."""
    segments = [
        {
            "id": number,
            "start": round(cue.start_s, 3),
            "end": round(cue.end_s, 3),
            "text": cue.text,
            "words": [
                {"word": w.text, "start": round(w.start_s, 3), "end": round(w.end_s, 3)}
                for w in cue.words
            ],
        }
        for number, cue in enumerate(cues_of(transcript.words))
    ]
    whole = {"text": transcript.text, "segments": segments}
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


FORMATS: dict[str, Callable[[Transcript], str]] = {
    "txt": txt,
    "srt": srt,
    "vtt": vtt,
    "tsv": tsv,
    "json": as_json,
}


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def clock(seconds: float, point: str) -> str:
    """3723.5 -> 01:02:03,500."""
    minutes, ms = divmod(milliseconds(seconds), 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{ms // 1000:02d}{point}{ms % 1000:03d}"


def escaped(text: str) -> str:
    """Text in a WebVTT cue: three characters have a meaning there."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def write_files(transcript: Transcript, paths: Mapping[str, Path]) -> None:
    """A file for each format, all of them whole or none. Raises OutputError."""
    with whole_files(*paths.values()) as temporaries:
        for kind, temporary in zip(paths, temporaries, strict=True):
            temporary.write_text(FORMATS[kind](transcript), encoding="utf-8")


def paths_of(sound: Path, folder: Path, formats: list[str]) -> dict[str, Path]:
    """Where each format of a sound file's transcript goes: the sound's name, another ending."""
    return {name: beside(folder / sound.name, f".{name}") for name in formats}
