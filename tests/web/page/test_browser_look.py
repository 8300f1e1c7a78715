"""The page can be read and touched: sizes and contrast as a browser computes them."""

from collections.abc import Iterator

import pytest

from moshi_mlx.hub import NANO
from tests.support.processes import browser
from tests.support.processes.browser import OUT, PATIENCE_MS

SMALL_PHONE = {"width": 360, "height": 740}
LEAST_TOUCH_PX = 44  # WCAG 2.2, 2.5.5
LEAST_TEXT_PX = 12
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3

pytestmark = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())

# Whatever can be pressed and is seen; a link within a sentence may be as small as its words.
TOO_SMALL = """least => [...document.querySelectorAll(
        "button, summary, select, textarea, input, label.check, .choose, a")]
    .filter(e => e.checkVisibility() && !["checkbox", "file"].includes(e.type))
    .filter(e => !e.closest("li, p"))
    .map(e => [e.id || e.className || e.tagName, e.getBoundingClientRect()])
    .filter(([_, box]) => box.width < least - 0.5 || box.height < least - 0.5)
    .map(([name, box]) => `${name}: ${box.width} x ${box.height}`)"""

WITH_TEXT = """[...document.querySelectorAll("body *")].filter(e => e.checkVisibility() &&
    !e.disabled && !e.closest("button:disabled, .visually-hidden, select, svg") &&
    [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))"""

TEXT_TOO_SMALL = f"""least => {WITH_TEXT}
    .map(e => [e.textContent.trim(), parseFloat(getComputedStyle(e).fontSize)])
    .filter(([_, size]) => size < least - 0.01).map(([text, size]) => `${{text}}: ${{size}} px`)"""

HARD_TO_READ = (
    """least => {
    const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
        .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
    const numbers = colour => colour.match(/[0-9.]+/g).map(Number);
    const behind = e => {
        const back = numbers(getComputedStyle(e).backgroundColor);
        return (back.length < 4 || back[3] > 0.99) ? back : behind(e.parentElement);
    };
    const contrast = e => {
        const [a, b] = [luminance(numbers(getComputedStyle(e).color)), luminance(behind(e))];
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    };
    return """
    + WITH_TEXT
    + """.map(e => [e.textContent.trim(), contrast(e)])
        .filter(([_, ratio]) => ratio < least)
        .map(([text, ratio]) => `${text}: ${ratio.toFixed(2)}`);
}"""
)
CHIP_IS_WHOLE = "(c => c.scrollWidth <= c.clientWidth)(document.getElementById('model'))"


def stages(page, url: str) -> Iterator[str]:
    """The page's faces one after the other: before, during and after a talk, and the settings."""
    page.goto(url)
    page.wait_for_selector("#model:not([hidden])", timeout=PATIENCE_MS)
    yield "before"
    page.click("#talk")
    page.wait_for_selector("body[data-state=talking]", timeout=PATIENCE_MS)
    page.locator(".turn").first.wait_for(timeout=PATIENCE_MS)
    yield "talking"
    page.click("#talk")
    page.wait_for_selector("#downloads:not([hidden])", timeout=PATIENCE_MS)
    page.click("details.figures summary")
    yield "after"
    page.click("#open-origin")
    yield "origin"
    page.set_input_files("#origin-choose", NANO / "samples" / "four_plus_three.wav")
    page.wait_for_selector("#origin-answer .verdict", timeout=PATIENCE_MS)
    yield "looked at"
    page.set_input_files("#origin-choose", NANO / "config.json")
    page.wait_for_selector("#origin-answer .problem", timeout=PATIENCE_MS)
    yield "no sound"
    page.keyboard.press("Escape")
    page.click("#open-settings")
    page.evaluate("document.getElementById('who').hidden = false")  # as with a model that takes it
    yield "settings"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_a_phone_shows_text_that_can_be_read_and_buttons_that_can_be_hit(server, chromium, colours):
    OUT.mkdir(parents=True, exist_ok=True)
    page = chromium.new_page(viewport=SMALL_PHONE, color_scheme=colours, reduced_motion="reduce")
    found = []
    for stage in stages(page, server.url):
        page.screenshot(path=OUT / f"small-phone-{colours}-{stage}.png")
        for what, least in (
            (TOO_SMALL, LEAST_TOUCH_PX),
            (TEXT_TOO_SMALL, LEAST_TEXT_PX),
            (HARD_TO_READ, LEAST_CONTRAST),
        ):
            found += [f"{stage}: {each}" for each in page.evaluate(what, least)]
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= SMALL_PHONE["width"], stage  # nothing is cut off at the side
        assert page.evaluate(CHIP_IS_WHOLE), stage
    page.close()
    assert found == []
