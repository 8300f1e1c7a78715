"""The page can be read and touched: contrast and sizes, computed from its stylesheet."""

import re
from pathlib import Path

import pytest

from app.events import Notice
from app.web.wording import for_visitor

PAGE = Path(__file__).parents[3] / "app" / "web" / "page"
STYLE = (PAGE / "style.css").read_text()
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3
LEAST_TOUCH_REM = 2.75  # 44 px


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, two: str) -> float:
    bright, dark = sorted((luminance(one), luminance(two)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def rule(selector: str) -> dict[str, str]:
    (body,) = re.findall(rf"^{re.escape(selector)} \{{(.*?)\}}", STYLE, re.S | re.M)
    return dict(re.findall(r"([\w-]+):\s*([^;]+);", body))


@pytest.mark.parametrize("theme", [":root", ':root[data-theme="dark"]'])
def test_the_models_chip_can_be_read(theme: str) -> None:
    colours, chip = rule(theme), rule(".chip")
    front, back = (colours[chip[name][4:-1]] for name in ("color", "background"))
    assert contrast(front, back) >= LEAST_CONTRAST


@pytest.mark.parametrize("selector", [".plain", ".small", "#trust button", "#take-over"])
def test_buttons_are_large_enough_for_a_finger(selector: str) -> None:
    assert float(rule(selector)["min-height"].removesuffix("rem")) >= LEAST_TOUCH_REM


@pytest.mark.parametrize("path", sorted(PAGE.glob("*.js")), ids=lambda path: path.name)
def test_nothing_on_the_page_is_said_to_a_terminal(path: Path) -> None:
    said = " ".join(re.findall(r'"((?:[^"\\]|\\.)*)"', path.read_text()))
    assert not re.search(r"\s--\w|\bmoshi (web|chat|doctor|quantize)|terminal", said)


@pytest.mark.parametrize("kind", ["too-slow", "persona-fades", "recording-failed", "persona"])
def test_a_visitor_is_told_what_helps_a_visitor(kind: str) -> None:
    message = for_visitor(Notice(kind, "slow; see `moshi doctor`, or moshi chat --bits 4"))
    assert message is None or "moshi " not in message
    assert for_visitor(Notice("other", "it rains")) == "it rains"
