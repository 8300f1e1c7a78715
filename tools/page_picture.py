"""Makes the documents' pictures of the page: a moment of a real talk with the embedded model, what
the page says of a recording of it, and a talk whose visitor's words are written down, too.

python -m tools.page_picture docs/images [--words]  # web.png, web-phone.png and web-origin.png, or
                                                    # with --words web-words.png alone
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

from moshi_mlx.hub import NANO
from tests.support.processes import browser
from tests.support.processes.web_process import moshi_web

QUESTIONS = ("who_made_you", "four_plus_three")
PAUSE_S = 4.5
MICROPHONE_HZ = 48_000
MOST_ADDED_MS = 120.0
DESKTOP, PHONE = {"width": 1040, "height": 680}, browser.PHONE


def spoken(path: Path) -> Path:
    """The questions one after the other, with room for the answers."""
    pause = np.zeros(round(PAUSE_S * MICROPHONE_HZ), np.float32)
    parts = [pause[: MICROPHONE_HZ // 2]]
    for name in QUESTIONS:
        pcm, rate_hz = soundfile.read(NANO / "samples" / f"{name}.wav", dtype="float32")
        parts += [soxr.resample(pcm, rate_hz, MICROPHONE_HZ), pause]
    soundfile.write(path, np.concatenate([*parts, pause]), MICROPHONE_HZ, "PCM_16")
    return path


def begin(page, url: str) -> None:
    """A greedy talk, so that its answers are the ones that were trained."""
    page.goto(url)
    page.click("#open-settings")
    for name in ("text_temperature", "audio_temperature"):
        page.fill(f"#{name}", "0")
    page.uncheck("#echo")
    page.uncheck("#noise")
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    page.wait_for_selector("body[data-state=talking]")
    page.evaluate("document.activeElement.blur()")


def answers(page, number: int) -> None:
    """Wait for so many of Moshi's turns, and a little of the last."""
    page.locator(".turn.moshi").nth(number - 1).wait_for(timeout=30_000)
    page.wait_for_timeout(1300)


def keeps_up(page) -> None:
    """Raises SystemExit: such a picture would tell of a busy machine, not of the program."""
    added_ms = float(page.locator("#added-p95").text_content())
    dropped = page.locator("#dropped").text_content()
    if added_ms > MOST_ADDED_MS or dropped != "0 ms":
        raise SystemExit(f"no picture: {added_ms:.0f} ms added, {dropped} dropped; not idle here")


def pictures(chromium, url: str, folder: Path, out: Path) -> None:
    page = chromium.new_page(viewport=DESKTOP, color_scheme="dark")
    begin(page, url)
    page.click("#view")
    page.evaluate("document.activeElement.blur()")
    page.mouse.move(0, 0)  # nothing is hovered over
    answers(page, len(QUESTIONS))
    keeps_up(page)
    page.screenshot(path=out / "web.png")
    page.keyboard.press("t")
    with page.expect_download() as download:
        page.click("#get-wav")
    download.value.save_as(folder / "talk.wav")
    page.set_input_files("#origin-choose", folder / "talk.wav")
    page.wait_for_selector("#origin-answer .verdict", timeout=60_000)
    page.screenshot(path=out / "web-origin.png")
    page.close()
    page = chromium.new_page(viewport=PHONE, color_scheme="light")
    begin(page, url)
    answers(page, 1)
    keeps_up(page)
    page.screenshot(path=out / "web-phone.png")
    page.close()


def picture_of_words(chromium, url: str, out: Path) -> None:
    page = chromium.new_page(viewport=DESKTOP, color_scheme="light")
    begin(page, url)
    answers(page, len(QUESTIONS))
    keeps_up(page)
    page.screenshot(path=out / "web-words.png")
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="a folder")
    parser.add_argument("--words", action="store_true", help="the visitor's are written down")
    args = parser.parse_args()
    if problem := browser.missing():
        raise SystemExit(problem)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        flags = browser.speaking(spoken(folder / "questions.wav"))
        start = ("-m", "tools.known_words" if args.words else "app.cli")
        with moshi_web(start=start) as server, browser.chromium(*flags) as chromium:
            if args.words:
                picture_of_words(chromium, server.url, args.out)
            else:
                pictures(chromium, server.url, folder, args.out)


if __name__ == "__main__":
    main()
