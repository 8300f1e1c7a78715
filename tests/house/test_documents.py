"""The documents name files that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
TOP = ("app", "moshi_mlx", "quantize", "tests", "tools", "benchmarks", "docs", ".ci")
PATH = re.compile(rf"(?<![\w./-])(?:{'|'.join(map(re.escape, TOP))})/[\w./-]*\w/?")
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
PLACEHOLDER = re.compile(r"[A-Z]{3,}|\.\.\.")  # app/commands/NAME.py


def named_in(text: str) -> list[str]:
    """Repository paths in backticks."""
    spans = re.findall(r"`([^`\n]+)`", text)
    paths = [path for span in spans for path in PATH.findall(span)]
    return [path for path in paths if not PLACEHOLDER.search(path)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_in_a_document_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    missing = [path for path in named_in(text) if not (ROOT / path).exists()]
    links = [link for link in LINK.findall(text) if not (document.parent / link).exists()]
    assert not missing and not links


def test_a_path_that_is_not_there_is_found() -> None:
    assert named_in("see `moshi_mlx/nowhere.py` and `app/web/`") == [
        "moshi_mlx/nowhere.py",
        "app/web/",
    ]
    assert not named_in("`app/commands/NAME.py`, `tests` and `owner/app/x`")


def test_the_readme_leads_to_the_architecture_and_to_contributing() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {"docs/architecture.md", "CONTRIBUTING.md"} <= set(LINK.findall(readme))
