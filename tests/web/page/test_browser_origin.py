"""Where a sound came from, on the page: a file dropped, or chosen by who can't drop one."""

import base64
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshi_mlx.provenance import mark
from tests.support.processes import browser
from tests.support.processes.browser import OUT, PATIENCE_MS
from tests.support.rooms import voice

pytestmark = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())
RATE = 24_000
DROP = """([name, data]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name));
    const event = kind => new DragEvent(kind, { dataTransfer: transfer, cancelable: true });
    window.dispatchEvent(event("dragover"));
    const invited = !document.getElementById("drop-here").hidden;
    return [invited, !window.dispatchEvent(event("drop"))];
}"""


@pytest.fixture(scope="module")
def talk(tmp_path_factory) -> Path:
    """Left somebody, right marked: 27 s."""
    said = mark(voice("questions"), payload=2026)
    path = tmp_path_factory.mktemp("talk") / "talk.wav"
    heard = np.resize(voice("voice_awb"), len(said))
    soundfile.write(path, np.stack([heard, said], axis=1), RATE)
    return path


def answer(page, kind: str) -> str:
    return page.locator(f"#origin-answer .{kind}").first.inner_text(timeout=PATIENCE_MS)


@pytest.mark.timeout(400)
def test_a_dropped_file_is_answered_with_a_sentence_and_a_timeline(server, chromium, talk):
    OUT.mkdir(parents=True, exist_ok=True)
    page = chromium.new_page(viewport=browser.DESKTOP, reduced_motion="reduce")
    page.goto(server.url)
    dropped = [talk.name, base64.b64encode(talk.read_bytes()).decode()]
    assert page.evaluate(DROP, dropped) == [True, True]  # invited, and the browser stays here
    assert answer(page, "verdict").startswith("Made by moshi-local: its mark is in 27 of 27 s")
    assert page.locator("#origin-answer svg").count() == 2
    assert page.locator("#origin-answer rect.found").count() == 3
    assert page.locator("#origin-answer rect").count() == 6
    page.locator("#origin-answer summary").click()
    assert "payload 2026" in page.locator("#origin-answer li").first.inner_text()
    assert "Signature: " in answer(page, "fact")
    assert page.locator("#drop-here").is_hidden()
    page.screenshot(path=OUT / "desktop-origin.png")
    page.close()


@pytest.mark.timeout(400)
def test_a_phone_chooses_a_file_and_what_is_no_sound_is_one_line(server, chromium, talk, tmp_path):
    person, bad = tmp_path / "person.flac", tmp_path / "bad.wav"
    soundfile.write(person, voice("voice_rms"), RATE)
    bad.write_bytes(b"RIFF")
    page = chromium.new_page(viewport=browser.PHONE, reduced_motion="reduce")
    page.goto(server.url)
    page.get_by_role("button", name="Check a sound file").click()
    with page.expect_file_chooser() as chooser:
        page.get_by_text("Choose a file", exact=True).click()
    chooser.value.set_files(person)
    assert answer(page, "verdict").startswith("No sign of moshi-local was found.")
    page.set_input_files("#origin-choose", bad)
    line = answer(page, "problem")
    assert line.startswith("The file can't be read as sound") and "/" not in line
    page.screenshot(path=OUT / "phone-origin.png")
    page.get_by_role("button", name="Close the check").click()
    assert page.locator("#origin").is_hidden()
    page.close()
