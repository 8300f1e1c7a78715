"""The page where there can be no talk: what it says, and that it can be read without eyes."""

import urllib.parse

import pytest

from tests.support.processes import browser
from tests.support.processes.browser import ELSEWHERE, OUT, PATIENCE_MS
from tests.support.processes.web_process import moshi_web

pytestmark = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())


@pytest.fixture(scope="module")
def guarded():
    """For other devices too, so that its address holds a token; its voice has no mark."""
    with moshi_web("--host", "0.0.0.0", "--no-mark") as running:
        yield running


def address(server, name: str) -> str:
    parts = urllib.parse.urlsplit(server.url)
    return parts._replace(netloc=f"{name}:{parts.port}").geturl()


def alert(page) -> str:
    page.wait_for_selector("#alert:not([hidden])", timeout=PATIENCE_MS)
    return page.get_by_role("alert").inner_text()


@pytest.mark.timeout(400)
def test_a_refused_microphone(guarded, chromium):
    OUT.mkdir(parents=True, exist_ok=True)
    page = chromium.new_page(viewport=browser.PHONE, color_scheme="dark", permissions=[])
    page.goto(address(guarded, "localhost"))
    assert "token" not in page.url  # it has moved into a cookie
    page.get_by_role("button", name="Talk", exact=True).click()
    assert "not allowed" in alert(page)
    page.screenshot(path=OUT / "phone-dark-refused.png")
    assert page.locator("body").get_attribute("data-state") == "idle"
    page.get_by_role("button", name="Close this message").click()
    assert page.get_by_role("alert").is_hidden()
    page.close()


@pytest.mark.timeout(400)
def test_a_page_without_https_says_so(guarded, chromium):
    page = chromium.new_page(viewport=browser.PHONE)
    page.goto(address(guarded, ELSEWHERE))
    assert "Ask whoever runs Moshi for its https address" in alert(page)
    page.screenshot(path=OUT / "phone-no-https.png")
    assert page.get_by_role("button", name="Talk", exact=True).is_disabled()
    page.close()


@pytest.mark.timeout(400)
def test_everything_that_can_be_pressed_has_a_name(guarded, chromium):
    page = chromium.new_page(viewport=browser.DESKTOP)
    page.goto(address(guarded, "localhost"))
    page.get_by_role("button", name="Settings").click()
    nameless = """
        [...document.querySelectorAll("button, input, select, a, [role]:not(#alert)")]
            .filter(e => !(e.ariaLabel || e.innerText.trim() || e.labels?.length))
            .map(e => e.outerHTML)"""
    assert page.evaluate(nameless.strip()) == []
    for _ in range(40):  # the keyboard reaches the talk button, and what has the focus is seen
        page.keyboard.press("Escape")
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "talk":
            break
    assert page.evaluate("document.activeElement.id") == "talk"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.close()


CONTEXTS = """window.AudioContext = class extends window.AudioContext {
    constructor(...options) { super(...options); window.context = this; }
};"""


@pytest.mark.timeout(400)
def test_sound_that_the_system_takes_away_is_told_and_taken_back(guarded, chromium):
    """iOS does so for a call; here the page's context is stopped from outside."""
    context = chromium.new_context(viewport=browser.PHONE)
    page = context.new_page()
    page.add_init_script(CONTEXTS)
    page.goto(address(guarded, "localhost"))
    page.get_by_role("button", name="Talk", exact=True).click()
    page.wait_for_selector("body[data-state=talking]", timeout=PATIENCE_MS)
    page.evaluate("window.context.suspend()")
    assert "taken the sound away" in alert(page)
    page.locator("#transcript").click()
    page.wait_for_selector("#alert", state="hidden", timeout=PATIENCE_MS)
    assert page.evaluate("window.context.state") == "running"
    assert page.locator("body").get_attribute("data-state") == "talking"
    page.evaluate("window.context.suspend()")
    assert "taken the sound away" in alert(page)
    page.get_by_role("button", name="Hang up").click()  # what was said of the talk goes with it
    page.wait_for_selector("#alert", state="hidden", timeout=PATIENCE_MS)
    page.goto(address(guarded, "localhost").partition("?")[0])
    context.clear_cookies()
    page.reload()
    assert "not complete" in alert(page)
    context.close()


@pytest.mark.timeout(400)
def test_a_voice_without_a_mark_is_told_before_and_in_the_talk(guarded, chromium):
    page = chromium.new_page(viewport=browser.PHONE, reduced_motion="reduce")
    page.goto(address(guarded, "localhost"))
    page.get_by_text("Its voice carries no mark here").wait_for(timeout=PATIENCE_MS)
    assert "You are talking with a machine" in page.inner_text("#welcome")
    page.get_by_role("button", name="Talk", exact=True).click()
    note = page.locator(".turn.note").first.inner_text(timeout=PATIENCE_MS)
    assert note.startswith("You are talking with a machine") and "no mark" in note
    page.screenshot(path=OUT / "phone-unmarked.png")
    page.close()
