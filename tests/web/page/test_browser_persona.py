"""The page's fields for a model that can be told who it is, and for adapters beside one."""

import pytest

from benchmarks.random_adapter import random_adapter
from moshi_mlx.config import load_config
from moshi_mlx.hub import NANO
from tests.support.models.speaking_persona import speaking_persona
from tests.support.models.talking_folder import PERSONA, talking_folder
from tests.support.processes import browser
from tests.support.processes.web_process import moshi_web

PATIENCE_MS = 90_000.0

pytestmark = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())


def test_a_role_and_a_voice_go_with_the_next_conversation(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = speaking_persona(tmp_path / "plex")
    wav = tmp_path / "question.wav"
    browser.microphone_wav(wav, NANO / "samples" / "four_plus_three.wav", 1.0, 8.0)
    flags = browser.speaking(wav)
    with moshi_web("--model", str(folder)) as server, browser.chromium(*flags) as chromium:
        page, asked = chromium.new_page(), []
        page.on("websocket", lambda socket: asked.append(socket.url))
        page.goto(server.url)
        page.click("#open-settings")
        page.wait_for_selector("#who", state="visible", timeout=PATIENCE_MS)
        names = page.locator("#persona-voice option").all_text_contents()
        assert names == ["The server's own", "FAR", "WIDE"]
        page.fill("#persona", "You are a sailor.")
        page.select_option("#persona-voice", "WIDE")
        page.keyboard.press("Escape")
        page.click("#talk")
        page.wait_for_selector("body[data-state=talking]", timeout=PATIENCE_MS)
        assert "persona=You+are+a+sailor." in asked[0] and "voice=WIDE" in asked[0]
        page.reload()
        page.click("#open-settings")
        page.wait_for_selector("#who", state="visible", timeout=PATIENCE_MS)
        assert page.input_value("#persona") == "You are a sailor."
        assert page.input_value("#persona-voice") == "WIDE"


def test_an_adapter_is_chosen_where_the_server_has_several(tmp_path):
    folder = talking_folder(tmp_path / "base", PERSONA / "lora_q", "model.q4.safetensors")
    given = []
    for name in ("pirate", "monk"):
        path = random_adapter(load_config(folder), 4, tmp_path / f"{name}.safetensors", scale=1.0)
        given += ["--lora", f"{name}={path}"]
    wav = tmp_path / "question.wav"
    browser.microphone_wav(wav, NANO / "samples" / "four_plus_three.wav", 1.0, 8.0)
    flags = browser.speaking(wav)
    with moshi_web("--model", str(folder), *given) as server, browser.chromium(*flags) as chromium:
        page, asked = chromium.new_page(), []
        page.on("websocket", lambda socket: asked.append(socket.url))
        page.goto(server.url)
        page.click("#open-settings")
        page.wait_for_selector("#adapter", state="visible", timeout=PATIENCE_MS)
        names = page.locator("#adapter option").all_text_contents()
        assert names == ["The server's own", "pirate", "monk"]
        assert page.locator("#who").is_hidden()
        page.select_option("#adapter", "monk")
        page.keyboard.press("Escape")
        page.click("#talk")
        page.wait_for_selector("body[data-state=talking]", timeout=PATIENCE_MS)
        assert "adapter=monk" in asked[0]
        page.reload()
        page.click("#open-settings")
        page.wait_for_selector("#adapter", state="visible", timeout=PATIENCE_MS)
        assert page.input_value("#adapter") == "monk"
