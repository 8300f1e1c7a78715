"""The pictures in the documents: they are there, and show a talk that keeps up."""

import html
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FRAME_MS = 80


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_picture_is_there(page: Path) -> None:
    named = re.findall(r"\]\(((?:docs/)?images/[^)]+)\)", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (page.parent / name).is_file()] == []


def test_the_talk_on_the_first_page_keeps_up() -> None:
    svg = (ROOT / "docs" / "images" / "chat.svg").read_text(encoding="utf-8")
    text = html.unescape(re.sub(r"<[^>]*>", "", svg)).replace("\u00a0", " ")
    found = re.search(r"frame (\d+) p95 (\d+) of 80 ms", text)
    assert found is not None and int(found[2]) < FRAME_MS
    assert re.search(r"dropped 0\b", text)
