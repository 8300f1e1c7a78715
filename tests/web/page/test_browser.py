"""The page in a real browser: a spoken question through a fake microphone, answered by nano."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import soundfile

from tests.support.processes import browser
from tests.support.processes.browser import LEAD_S, OUT, PATIENCE_MS

ANSWER = "Four plus three is seven."

pytestmark = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())


def wait_for_state(page, state: str) -> None:
    page.wait_for_selector(f"body[data-state={state}]", timeout=PATIENCE_MS)


def wait_until(page, condition: Callable[[], bool]) -> None:
    """By asking again: the page's own rules let nobody evaluate a condition in it."""
    for _ in range(int(PATIENCE_MS / 200)):
        if condition():
            return
        page.wait_for_timeout(200)
    raise AssertionError("it never happened")


def frames(page) -> int:
    """Of the answer, as far as their delay was measured."""
    return int(page.locator("#added-p95").get_attribute("data-frames") or 0)


def left_out(page) -> bool:
    """Whether the machine was too busy for all of the microphone: no answer is due then."""
    return page.locator("#dropped").text_content() != "0 ms"


def hear(page, words: str) -> None:
    """Wait for words of Moshi's."""
    wait_until(page, lambda: words in page.inner_text("#transcript") or frames(page) > 180)
    assert words in page.inner_text("#transcript") or left_out(page)


def set_up(page) -> None:
    """Greedy, so that the answer is the one that was trained; the microphone as it is."""
    page.click("#open-settings")
    page.fill("#text_temperature", "0")
    page.fill("#audio_temperature", "0")
    page.uncheck("#echo")
    page.uncheck("#noise")
    page.keyboard.press("Escape")


@dataclass
class Watched:
    """What a page asked for and complained of."""

    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def watch(self, page) -> None:
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", lambda socket: self.requests.append(socket.url))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda m: self.problems.append(m.text) if m.type == "error" else None)
        page.on("response", lambda r: self.sizes.append(len(r.body())) if r.ok else None)


def conversation(page) -> float:
    """The question once, to its answer; returns the page's own figure of added delay, p95 ms."""
    page.keyboard.press("t")
    wait_for_state(page, "talking")
    page.locator(".turn.you").wait_for(timeout=PATIENCE_MS)
    page.screenshot(path=OUT / "desktop-talking.png")
    hear(page, ANSWER)
    wait_until(page, lambda: frames(page) > 50)
    return float(page.locator("#added-p95").text_content())


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "most_ms", [math.inf, pytest.param(120.0, marks=pytest.mark.long, id="on an idle machine")]
)
def test_a_spoken_question_is_answered_on_the_page(server, new_page, tmp_path, most_ms):
    page, seen = new_page(browser.DESKTOP), Watched()
    seen.watch(page)
    OUT.mkdir(parents=True, exist_ok=True)
    page.goto(server.url)
    page.screenshot(path=OUT / "desktop-idle.png")
    set_up(page)
    added_ms = conversation(page)
    page.click("details.figures summary")
    page.screenshot(path=OUT / "desktop-answered.png", full_page=True)
    page.set_viewport_size(browser.PHONE)
    page.wait_for_timeout(300)
    page.screenshot(path=OUT / "phone-talking.png")
    page.keyboard.press("t")
    wait_for_state(page, "idle")
    with page.expect_download() as download:
        page.click("#get-wav")
    path = tmp_path / "talk.wav"
    download.value.save_as(path)
    sound, rate = soundfile.read(path)
    page.screenshot(path=OUT / "phone-after.png")

    assert seen.problems == []
    assert all(url.split("//")[1].startswith("127.0.0.1") for url in seen.requests)
    assert sum(seen.sizes) < 150_000 + path.stat().st_size and len(seen.sizes) > 5
    assert rate == 24_000 and sound.shape[1] == 2
    assert np.sqrt(np.mean(sound[:, 0] ** 2)) > 0.003  # the question arrived
    assert np.sqrt(np.mean(sound[:, 1] ** 2)) > 0.003 or left_out(page)  # and the answer was sound
    print(f"added delay, p95: {added_ms} ms")
    assert added_ms <= most_ms


def in_the_queue(page, server) -> int:
    return page.request.get(f"{server.url}api/status").json()["waiting"]


@pytest.mark.timeout(400)
def test_a_second_visitor_waits_for_the_line_or_leaves_it(server, new_page):
    first, second = new_page(browser.PHONE), new_page(browser.PHONE)
    first.goto(server.url)
    first.click("#talk")
    wait_for_state(first, "talking")
    second.goto(server.url)
    second.click("#talk")
    wait_for_state(second, "waiting")
    assert "Someone else is talking" in second.inner_text("#alert-text")
    assert "you are next" in second.inner_text("#status")
    second.screenshot(path=OUT / "phone-waiting.png")
    assert in_the_queue(second, server) == 1
    second.get_by_role("button", name="Stop waiting").first.click()
    wait_for_state(second, "idle")
    assert second.locator("#alert").is_hidden()
    wait_until(second, lambda: in_the_queue(second, server) == 0)
    second.click("#talk")
    wait_for_state(second, "waiting")
    assert first.locator("body").get_attribute("data-state") == "talking"
    first.close()  # gone without a word: the line goes to the next within a second
    wait_for_state(second, "talking")
    assert second.locator("#alert").is_hidden()


COUNT = """window.drawn = 0;
const { clearRect } = CanvasRenderingContext2D.prototype;
CanvasRenderingContext2D.prototype.clearRect = function (...box) {
    window.drawn++;
    return clearRect.apply(this, box);
};"""


def drawn(page) -> tuple[int, float]:
    """Pictures of the voices so far, and the seconds."""
    pictures, ms = page.evaluate("[window.drawn, performance.now()]")
    return pictures, ms / 1000


@pytest.mark.timeout(400)
def test_muted_is_not_heard_and_holding_is(server, new_page):
    """Meanwhile the page draws no more than changes: a column every 50 ms."""
    page = new_page(browser.DESKTOP)
    page.add_init_script(COUNT)
    page.goto(server.url)
    page.keyboard.press("t")
    wait_for_state(page, "talking")
    page.keyboard.press("m")
    assert page.get_attribute("#mute", "aria-pressed") == "true"
    before = drawn(page)
    page.wait_for_timeout(1000 * LEAD_S + 1000)  # most of the question has passed
    pictures, seconds = np.subtract(drawn(page), before)
    assert 0 < pictures < 22 * seconds + 3
    assert page.locator(".turn.you").count() == 0
    page.keyboard.press("t")
    wait_for_state(page, "idle")
    page.keyboard.press("t")  # the microphone starts again
    wait_for_state(page, "talking")
    page.keyboard.press("m")
    page.keyboard.down("Space")
    assert page.get_attribute("#hold", "aria-pressed") == "true"
    page.locator(".turn.you").wait_for(timeout=PATIENCE_MS)
    page.keyboard.up("Space")
    assert page.get_attribute("#mute", "aria-pressed") == "true"


@pytest.mark.timeout(400)
def test_devices_theme_and_spectrogram_while_talking(server, new_page):
    page = new_page(browser.DESKTOP, "no-preference")
    page.goto(server.url)
    page.get_by_role("button", name="Talk", exact=True).click()
    wait_for_state(page, "talking")
    page.get_by_role("button", name="Spectrogram").click()
    page.get_by_role("button", name="Settings").click()
    page.wait_for_function("document.querySelector('#microphone').length > 1")
    page.get_by_role("combobox", name="Microphone").select_option(index=1)
    page.get_by_role("combobox", name="Colours").select_option("dark")
    page.get_by_role("button", name="Close settings").click()
    page.locator(".turn.you").wait_for(timeout=PATIENCE_MS)  # the other microphone is heard
    page.screenshot(path=OUT / "desktop-dark-spectrogram.png")
    painted = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v > 60)"
    assert page.locator("#voices").evaluate(painted)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 20, 23)"
    page.reload()
    assert page.get_attribute("html", "data-theme") == "dark"  # settings are kept
