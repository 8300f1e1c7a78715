"""The page's fields for a model that can be told who it is, and for adapters beside one."""

import pytest

from benchmarks.random_adapter import random_adapter
from moshi_mlx.config import load_config
from tests.support.models.speaking_persona import speaking_persona
from tests.support.processes import browser
from tests.support.processes.browser import DESKTOP, PATIENCE_MS
from tests.support.processes.web_process import moshi_web

pytestmark = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A server with two voices and two adapters."""
    folder = speaking_persona(tmp_path_factory.mktemp("several") / "plex")
    given = []
    for name in ("pirate", "monk"):
        path = random_adapter(load_config(folder), 4, folder / f"{name}.safetensors", scale=1.0)
        given += ["--lora", f"{name}={path}"]
    with moshi_web("--model", str(folder), *given) as running:
        yield running


def open_settings(page, shown: str) -> None:
    page.click("#open-settings")
    page.wait_for_selector(shown, state="visible", timeout=PATIENCE_MS)


def test_a_role_a_voice_and_an_adapter_go_with_the_next_conversation(several, new_page):
    page, asked = new_page(DESKTOP), []
    page.on("websocket", lambda socket: asked.append(socket.url))
    page.goto(several.url)
    open_settings(page, "#who")
    names = page.locator("#persona-voice option").all_text_contents()
    assert names == ["The server's own", "FAR", "WIDE"]
    names = page.locator("#adapter option").all_text_contents()
    assert names == ["The server's own", "pirate", "monk"]
    page.fill("#persona", "You are a sailor.")
    page.select_option("#persona-voice", "WIDE")
    page.select_option("#adapter", "monk")
    page.keyboard.press("Escape")
    page.click("#talk")
    page.wait_for_selector("body[data-state=talking]", timeout=PATIENCE_MS)
    assert "persona=You+are+a+sailor." in asked[0] and "voice=WIDE" in asked[0]
    assert "adapter=monk" in asked[0]
    page.reload()
    open_settings(page, "#who")
    assert page.input_value("#persona") == "You are a sailor."
    assert page.input_value("#persona-voice") == "WIDE"
    assert page.input_value("#adapter") == "monk"


def test_what_a_model_does_not_take_is_not_asked(server, new_page):
    page = new_page(DESKTOP)
    page.goto(server.url)
    page.wait_for_selector("#model", state="visible", timeout=PATIENCE_MS)
    open_settings(page, "#theme")
    assert page.locator("#who").is_hidden() and page.locator("#adapter").is_hidden()
