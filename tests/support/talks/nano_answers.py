"""A question of the package that the embedded model answers, and how its answer is read."""

import json
from pathlib import Path

from moshi_mlx.hub import NANO

QUESTION = NANO / "samples" / "four_plus_three.wav"


def transcript(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def text_of(rows: list[dict]) -> str:
    return " ".join(row["text"] for row in rows)


def expected_answer() -> str:
    answers = json.loads((NANO / "questions.json").read_text(encoding="utf-8"))["answers"]
    return next(a["answer"] for a in answers if "four plus three" in a["questions"])
