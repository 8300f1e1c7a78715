"""The page can be read and touched: contrast and sizes, computed from its stylesheet."""

import re
from pathlib import Path

import pytest

STYLE = (Path(__file__).parents[2] / "app" / "web" / "page" / "style.css").read_text()
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
