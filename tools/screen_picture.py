"""Makes the README's picture of the terminal: a moment of a real talk with the embedded model.

python -m tools.screen_picture docs/images/chat.svg [--light] [--size 88x26]
python -m tools.screen_picture docs/images/chat-words.svg --words     # the user's words, too
"""

import argparse
import asyncio
import re
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

import moshi_mlx
from app.audio.file_sound import FileSound
from app.events import Settings, Status
from app.provenance.marking import Marking
from app.screen.chat_screen import ChatScreen
from app.talk.chat import Chat, ChatOptions
from app.talk.moshi_engine import engine_maker
from moshi_mlx.clock import FRAME_MS, FRAME_SECONDS, SAMPLE_RATE_HZ
from moshi_mlx.hub import NANO
from tools.known_words import KnownWords

QUESTIONS = ("who_made_you", "four_plus_three", "tell_me_the_colour_of_the_grass")
PAUSE_S = 4.5
MOMENT_S = 1.4  # after the last question's end, when the picture is taken: in the answer


def spoken(folder: Path) -> Path:
    """The questions one after the other, with room for the answers."""
    pause = np.zeros(round(PAUSE_S * SAMPLE_RATE_HZ), np.float32)
    parts: list[np.ndarray] = [pause[: SAMPLE_RATE_HZ // 2]]
    for name in QUESTIONS:
        pcm, _ = soundfile.read(NANO / "samples" / f"{name}.wav", dtype="float32")
        parts += [pcm, pause]
    path = folder / "questions.wav"
    soundfile.write(path, np.concatenate(parts), SAMPLE_RATE_HZ)
    return path


async def picture(light: bool, size: tuple[int, int], words: bool) -> str:
    """The screen as SVG while the last question is being answered. Raises SystemExit where the
    machine didn't keep up: such a picture tells of a busy machine, not of the program."""
    with tempfile.TemporaryDirectory() as folder:
        asked = spoken(Path(folder))
        seconds = soundfile.info(asked).duration
        settings = Settings(seed=7, text_temperature=0.0, audio_temperature=0.0)
        engine = engine_maker(lambda: moshi_mlx.load("nano"), "nano", "bf16", Marking())
        known = partial(KnownWords, QUESTIONS) if words else None
        chat = Chat(engine, FileSound(asked, None, 0.0), ChatOptions(settings, words=known))
        inbox = chat.inbox()
        stop_s = seconds - PAUSE_S + MOMENT_S
        chat.start()
        app = ChatScreen(chat, inbox, light)
        try:
            async with app.run_test(size=size) as pilot:
                while not chat.over and chat.snapshot().talk.frames * FRAME_SECONDS < stop_s:
                    await pilot.pause(0.05)
                keeps_up(chat.snapshot().talk)
                return plain_fonts(app.export_screenshot(title="moshi chat"))
        finally:
            chat.close()


def keeps_up(talk: Status) -> None:
    if talk.step_ms_p95 >= FRAME_MS or talk.dropped_frames:
        raise SystemExit(
            f"no picture: p95 {talk.step_ms_p95:.0f} ms, {talk.dropped_frames:.0f} frames dropped; "
            "run it while nothing else does"
        )


def plain_fonts(svg: str) -> str:
    """Without the web fonts that Rich asks for: the picture must not need the network."""
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", "Menlo, Consolas, DejaVu Sans Mono, monospace")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--light", action="store_true")
    parser.add_argument("--size", default="88x26", help="columns x rows")
    parser.add_argument("--words", action="store_true", help="what the user says, too")
    args = parser.parse_args()
    columns, rows = map(int, args.size.split("x"))
    svg = asyncio.run(picture(args.light, (columns, rows), args.words))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
