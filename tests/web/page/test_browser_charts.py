"""The pages of bench, quantize report and trace on a phone: their charts' text can be read."""

import pytest

from app.provenance.examine import Marks, Stretch
from app.provenance.timeline import page
from app.provenance.verdict import MarkVerdict
from tests.support.processes import browser
from tests.support.processes.browser import OUT

LEAST_TEXT_PX = 12
TEXT_PX = """[...document.querySelectorAll("svg text")]
    .map(e => parseFloat(getComputedStyle(e).fontSize) * e.getScreenCTM().a)"""

pytestmark = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())


@pytest.mark.parametrize("width", [360, 820, 1440])
def test_text_of_a_chart_is_twelve_pixels_high(chromium, tmp_path, width):
    windows = [Stretch(0, 10.0 * n, 10.0, 9.0, 1e-9, "public key", 7, 1.0) for n in range(6)]
    verdict = MarkVerdict(tmp_path / "talk.wav", Marks(60.0, 24_000, 1, "", windows))
    html = tmp_path / "page.html"
    html.write_text(page([verdict]), encoding="utf-8")
    shown = chromium.new_page(viewport={"width": width, "height": 740})
    shown.goto(html.as_uri())
    sizes = shown.evaluate(TEXT_PX)
    assert len(sizes) > 5 and min(sizes) >= LEAST_TEXT_PX
    assert (
        shown.evaluate("document.documentElement.scrollWidth") <= width
    )  # the chart scrolls alone
    OUT.mkdir(parents=True, exist_ok=True)
    shown.screenshot(path=OUT / f"chart-{width}.png")
    shown.close()
