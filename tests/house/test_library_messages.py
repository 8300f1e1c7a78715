"""The library speaks in its own terms: an option is the command's, which adds it."""

import ast
import re
from pathlib import Path

LIBRARY = Path(__file__).parents[2] / "moshi_mlx"
OPTION = re.compile(r"(?<![\w-])--[a-z]")
COMMAND_LINE = re.compile(r"\b(moshi|hf|uv|python|g\+\+|pip) \S")  # one to be typed as it is
STYLE = LIBRARY / "report" / "html_page.py"  # --names of CSS


def texts(path: Path) -> list[str]:
    """Every text of a file but its docstrings; of an f-string, what doesn't change."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documents = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    inside = {id(part) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for part in n.values}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(str(getattr(part, "value", "")) for part in node.values))
        elif isinstance(node, ast.Constant) and id(node) not in documents | inside:
            found.append(str(node.value))
    return found


def test_no_message_of_the_library_names_an_option() -> None:
    said = [
        f"{path.name}: {text}"
        for path in sorted(LIBRARY.rglob("*.py"))
        if path != STYLE
        for text in texts(path)
        if (option := OPTION.search(text)) and not COMMAND_LINE.search(text[: option.start()])
    ]
    assert said == []
