"""The pictures in the documents: they are there, and show a talk that keeps up."""

import html
import re
from pathlib import Path

import pytest
from textual.binding import Binding

from app.screen.chat_screen import ChatScreen

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FRAME_MS = 80


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_picture_is_there(page: Path) -> None:
    named = re.findall(r"\]\(((?:docs/)?images/[^)]+)\)", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (page.parent / name).is_file()] == []


@pytest.fixture(scope="module")
def first_page() -> str:
    """The words on the README's picture."""
    svg = (ROOT / "docs" / "images" / "chat.svg").read_text(encoding="utf-8")
    return html.unescape(re.sub(r"<[^>]*>", "", svg)).replace("\u00a0", " ")


def test_the_talk_on_the_first_page_keeps_up(first_page: str) -> None:
    text = first_page
    found = re.search(r"frame (\d+) p95 (\d+) of 80 ms", text)
    assert found is not None and int(found[2]) < FRAME_MS
    assert re.search(r"dropped 0\b", text)


def test_the_first_page_shows_the_keys_of_today(first_page: str) -> None:
    """All but that for devices: the picture's talk has files in their place."""
    shown = [key for key in ChatScreen.BINDINGS if isinstance(key, Binding) and key.show]
    told = {key.description for key in shown} - {"devices"}
    assert len(told) > 4
    assert [word for word in told if not re.search(rf"\S {word}\b", first_page)] == []
