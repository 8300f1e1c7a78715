"""What is kept of a talk on the page: the talk itself, to go on with; the words that you say."""

import json

import pytest

import moshi_mlx
from app.events import Settings
from app.talk.kept_talk import AskedModel, note_of
from tests.support.fakes.ticking_words import WORD, ticking_words
from tests.support.processes import browser
from tests.support.processes.browser import OUT, PATIENCE_MS
from tests.support.processes.web_process import moshi_web

pytestmark = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())


def talking(page) -> None:
    page.wait_for_selector("body[data-state=talking]", timeout=PATIENCE_MS)


def idle(page) -> None:
    page.wait_for_selector("body[data-state=idle]", timeout=PATIENCE_MS)


def said(page, words: str) -> None:
    page.locator("#transcript .turn", has_text=words).first.wait_for(timeout=PATIENCE_MS)


def chosen(page) -> str:
    return page.locator("#resume option:checked").text_content()


@pytest.mark.timeout(400)
def test_key_s_saves_the_talk_and_the_page_goes_on_with_it(server, talks, new_page) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    page, asked = new_page(browser.DESKTOP), []
    page.on("websocket", lambda socket: asked.append(socket.url))
    page.goto(server.url)
    assert page.locator("#save").is_hidden() and page.locator("#talks").is_hidden()
    page.keyboard.press("t")
    talking(page)
    said(page, "You are talking with a machine")
    page.keyboard.press("s")
    said(page, "The talk is saved up to here")
    page.screenshot(path=OUT / "desktop-saved.png")
    page.set_viewport_size(browser.PHONE)
    page.screenshot(path=OUT / "phone-saved.png")
    page.get_by_role("button", name="Save the talk").click()
    page.keyboard.press("t")  # who hangs up at once has it all the same
    idle(page)
    assert page.locator("#save").is_hidden()
    files = list(talks.iterdir())
    assert len(files) == 2 and {file.stat().st_mode & 0o777 for file in files} == {0o600}
    page.reload()
    page.locator("#resume option").nth(2).wait_for(state="attached", timeout=PATIENCE_MS)
    assert chosen(page) == "A new one"
    page.screenshot(path=OUT / "phone-saved-talks.png")
    page.select_option("#resume", index=1)
    name = page.input_value("#resume")
    assert name in {file.name for file in files}
    page.keyboard.press("Escape")
    page.locator("#talk").click()
    talking(page)
    said(page, "This goes on with a saved talk")
    assert f"resume={name}" in asked[-1] and "temperature" not in asked[-1]
    page.keyboard.press("t")
    idle(page)
    assert chosen(page) == "A new one"
    for file in files:
        file.unlink()
    page.reload()  # those that are gone aren't offered
    page.wait_for_selector("#model", state="visible", timeout=PATIENCE_MS)
    page.wait_for_timeout(500)
    assert page.locator("#talks").is_hidden()


@pytest.fixture(scope="module")
def resuming(tmp_path_factory):
    """A server that goes on with a talk of a minute ago, and writes down what its visitors say."""
    folder = tmp_path_factory.mktemp("resuming")
    with moshi_mlx.load("nano").session(seed=3) as session:
        session.snapshot().save(folder / "x", note_of(AskedModel("nano"), Settings(seed=3)))
    path = (folder / "x").rename(folder / "2026-11-30_14-03-46_talk1.talk.safetensors")
    words = ["--your-words", str(ticking_words(folder / "stt"))]
    with moshi_web("--resume", str(path), "--save-to", str(folder / "talks"), *words) as server:
        yield server


@pytest.mark.timeout(400)
def test_a_talk_that_goes_on_your_own_words_and_a_server_that_is_lost(resuming, new_page) -> None:
    page, asked = new_page(browser.DESKTOP), []
    page.on("websocket", lambda socket: asked.append(socket.url))
    page.goto(resuming.url)
    page.wait_for_selector("#talks", state="visible", timeout=PATIENCE_MS)
    assert chosen(page) == "2026-11-30_14-03-46, 0:00"
    page.keyboard.press("t")
    talking(page)
    said(page, "This goes on with a saved talk")
    assert page.locator("#seed").text_content() == "3"
    your_words(page)
    page.keyboard.press("t")
    talking(page)
    assert "resume" in asked[0] and "resume" not in asked[1]  # chosen once
    resuming.process.kill()
    page.wait_for_selector("#alert:not([hidden])", timeout=PATIENCE_MS)
    assert "lost" in page.inner_text("#alert-text")
    page.screenshot(path=OUT / "desktop-lost.png")


def your_words(page) -> None:
    """Of a talk, to its end: on the page under your own heading, and in a file."""
    said(page, "What you say is written down")
    words = page.locator(".turn.you.said p", has_text=f"{WORD} {WORD} {WORD}")
    words.first.wait_for(timeout=PATIENCE_MS)
    page.screenshot(path=OUT / "desktop-your-words.png")
    heading = page.locator(".turn.you.said .name").first
    assert heading.text_content() == "You"
    page.keyboard.press("t")
    idle(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Your words").click()
    lines = download.value.path().read_text().splitlines()
    assert len(lines) >= 3 and {json.loads(line)["text"] for line in lines} == {WORD}


@pytest.mark.timeout(400)
def test_words_that_come_when_the_visitor_has_hung_up(server, new_page) -> None:
    page = new_page(browser.PHONE)

    def answer(socket) -> None:
        def heard(message) -> None:
            if message == b'\x04{"type":"hang-up"}':
                word = {"type": "your-word", "text": "goodbye", "at_s": 0.1}
                socket.send(b"\x04" + json.dumps(word).encode())
                socket.close(code=1000)

        socket.on_message(heard)
        facts = {"type": "started", "your_words": True, "recording": "x", "sampling": {}}
        socket.send(b"\x04" + json.dumps(facts).encode())

    page.route_web_socket("**/api/chat*", answer)
    page.goto(server.url)
    for state in (talking, idle):
        page.locator("#talk").click()
        state(page)
    said(page, "goodbye")
    page.screenshot(path=OUT / "phone-last-words.png")
    assert page.locator("#get-you").is_visible()
    assert page.locator("#get-you").get_attribute("href") == "/api/recordings/x/you.jsonl"
