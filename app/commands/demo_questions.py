"""The spoken questions of a model folder: `samples/*.wav`, answers in `questions.json`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moshi_mlx.audio.file import read_mono
from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.config.json_file import read_json_object
from moshi_mlx.errors import MoshiError, UsageError

END_RATIO = 0.01  # of the peak: quieter than this at its end is no question any more
LEAD_SECONDS = 0.4


@dataclass(frozen=True)
class Question:
    """`text` as it is asked, the sound's file, and the right answer."""

    text: str
    path: Path
    answer: str


def bundled(folder: Path, names: Sequence[str]) -> list[Question]:
    """The named questions of a model folder, all of them for no names. Raises MoshiError."""
    listing = folder / "questions.json"
    if not listing.is_file():
        raise MoshiError(f"{folder} brings no spoken questions; the demo is for --model nano")
    answers = read_json_object(listing)["answers"]
    known = {q: a["answer"] for a in answers for q in a["questions"]}
    found = {
        path.stem: Question(path.stem.replace("_", " "), path, known[path.stem.replace("_", " ")])
        for path in sorted((folder / "samples").glob("*.wav"))
    }
    missing = [name for name in names if name not in found]
    if missing:
        raise UsageError(f"there is no question {missing[0]!r}; there are: {', '.join(found)}")
    return [found[name] for name in names or found]


def track(questions: list[Question], gap_s: float) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """float32 [samples] with `gap_s` of silence after each, and (start, end) of speech in s."""
    parts = [np.zeros(round(LEAD_SECONDS * SAMPLE_RATE_HZ), np.float32)]
    spans, at = [], len(parts[0])
    for question in questions:
        pcm = read_mono(question.path)
        loud = np.flatnonzero(np.abs(pcm) > END_RATIO * np.abs(pcm).max())
        pcm = pcm[: loud[-1] + 1]
        spans.append((at / SAMPLE_RATE_HZ, (at + len(pcm)) / SAMPLE_RATE_HZ))
        parts += [pcm, np.zeros(round(gap_s * SAMPLE_RATE_HZ), np.float32)]
        at += len(parts[-2]) + len(parts[-1])
    return np.concatenate(parts), spans
