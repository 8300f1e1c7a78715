"""`make demo`: a spoken question from the package, answered aloud by the embedded model.

Runs `moshi file` on it, writes out/demo.wav (left the question, right Moshi) with the transcript,
and exits with 1 unless the transcript holds the right answer.
"""

import json
import sys
from pathlib import Path

from app.cli import main
from moshi_mlx.hub import NANO

QUESTION = "four_plus_three"
OUT = Path("out")


def expected_answer(question: str) -> str:
    answers = json.loads((NANO / "questions.json").read_text(encoding="utf-8"))["answers"]
    return next(a["answer"] for a in answers if question in a["questions"])


def demo() -> int:
    OUT.mkdir(exist_ok=True)
    spoken = QUESTION.replace("_", " ")
    print(f"You ask, aloud: {spoken}?")
    wav = OUT / "demo.wav"
    question = NANO / "samples" / f"{QUESTION}.wav"
    status = main(
        ["file", str(question), str(wav), "--model", "nano", "--stereo"]
        + ["--seed", "0", "--text-temperature", "0", "--audio-temperature", "0"]
    )
    if status:
        return status
    rows = wav.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
    said = "".join(json.loads(row)["text"] for row in rows).strip()
    wanted = expected_answer(spoken)
    if said != wanted:
        print(f"wrong answer: expected {wanted!r}", file=sys.stderr)
        return 1
    print(f"Right. Listen to {wav}.")
    return 0


if __name__ == "__main__":
    sys.exit(demo())
