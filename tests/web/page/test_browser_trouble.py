"""The page where there can be no talk: what it says, and that it can be read without eyes."""

import urllib.parse

import pytest

from tests.support.processes import browser
from tests.support.processes.browser import OUT, PATIENCE_MS
from tests.support.processes.web_process import moshi_web

pytestmark = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())
NAME = "moshi.test"  # not localhost: http gives no microphone there


@pytest.fixture(scope="module")
def server():
    with moshi_web("--host", "0.0.0.0") as running:
        yield running


@pytest.fixture(scope="module")
def chromium():
    flags = ["--deny-permission-prompts", f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]
    with browser.chromium("--use-fake-device-for-media-stream", *flags) as running:
        yield running


def address(server, name: str) -> str:
    parts = urllib.parse.urlsplit(server.url)
    return parts._replace(netloc=f"{name}:{parts.port}").geturl()


def alert(page) -> str:
    page.wait_for_selector("#alert:not([hidden])", timeout=PATIENCE_MS)
    return page.get_by_role("alert").inner_text()


@pytest.mark.timeout(400)
def test_a_refused_microphone(server, chromium):
    OUT.mkdir(parents=True, exist_ok=True)
    page = chromium.new_page(viewport=browser.PHONE, color_scheme="dark")
    page.goto(address(server, "localhost"))
    assert "token" not in page.url  # it has moved into a cookie
    page.get_by_role("button", name="Talk", exact=True).click()
    assert "not allowed" in alert(page)
    page.screenshot(path=OUT / "phone-dark-refused.png")
    assert page.locator("body").get_attribute("data-state") == "idle"
    page.get_by_role("button", name="Close this message").click()
    assert page.get_by_role("alert").is_hidden()
    page.close()


@pytest.mark.timeout(400)
def test_a_page_without_https_says_so(server, chromium):
    page = chromium.new_page(viewport=browser.PHONE)
    page.goto(address(server, NAME))
    assert "Ask whoever runs Moshi for its https address" in alert(page)
    page.screenshot(path=OUT / "phone-no-https.png")
    assert page.get_by_role("button", name="Talk", exact=True).is_disabled()
    page.close()


@pytest.mark.timeout(400)
def test_everything_that_can_be_pressed_has_a_name(server, chromium):
    page = chromium.new_page(viewport=browser.DESKTOP)
    page.goto(address(server, "localhost"))
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
def test_sound_that_the_system_takes_away_is_told_and_taken_back(server, chromium):
    """iOS does so for a call; here the page's context is stopped from outside."""
    context = chromium.new_context(viewport=browser.PHONE, permissions=["microphone"])
    page = context.new_page()
    page.add_init_script(CONTEXTS)
    page.goto(address(server, "localhost"))
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
    page.goto(address(server, "localhost").partition("?")[0])
    context.clear_cookies()
    page.reload()
    assert "not complete" in alert(page)
    context.close()


REFUSE = """window.WebSocket = class {
    constructor() { setTimeout(() => this.onclose({ code: 1006, reason: "" }), 50); }
    send() {}
    close() {}
};"""  # what Safari does with a certificate that its user only clicked away


@pytest.mark.timeout(400)
def test_a_refused_socket_is_explained_with_what_to_do(chromium, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with moshi_web("--tls", "self") as server:
        context = chromium.new_context(
            ignore_https_errors=True, viewport=browser.PHONE, permissions=["microphone"]
        )
        page = context.new_page()
        page.goto(server.url)
        talk = page.get_by_role("button", name="Talk", exact=True)
        talk.click()
        page.wait_for_selector("body[data-state=talking]", timeout=PATIENCE_MS)
        page.add_init_script(REFUSE)
        page.reload()
        talk.click()
        page.wait_for_selector("#trust:not([hidden])", timeout=PATIENCE_MS)
        said = page.locator("#trust").inner_text()
        assert "Certificate Trust Settings" in said and page.locator("#alert").is_hidden()
        link = page.get_by_role("link", name="Get this machine's certificate")
        assert link.get_attribute("href") == "/moshi-ca.crt"
        OUT.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=OUT / "phone-trust.png", full_page=True)
        with page.expect_navigation():
            page.get_by_role("button", name="Load this page again").click()
