"""The house: few files at each door, one class name one meaning, names that programs know."""

import ast
import importlib
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

from tests.support.public_names import PUBLIC

ROOT = Path(__file__).parents[2]
PARTS = ("app", "moshi_mlx", "quantize")
AT_THE_DOOR = {"app": 3, "moshi_mlx": 8, "quantize": 4, "tests": 2}


def classes() -> dict[str, list[str]]:
    """Name -> the files that define a class, or a type under a name, of it."""
    found = defaultdict(list)
    for part in PARTS:
        for path in sorted((ROOT / part).rglob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                for name in names_of(node):
                    found[name].append(str(path.relative_to(ROOT)))
    return found


def names_of(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.BinOp):
        targets = [t.id for t in node.targets if isinstance(t, ast.Name)]
        return [name for name in targets if name[0].isupper() and not name.isupper()]
    return []


def imported(path: Path) -> set[str]:
    """Modules that the statements at the top of a file take names from."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.module or "" for node in body if isinstance(node, ast.ImportFrom)}


def test_no_test_file_imports_another() -> None:
    """What two of them need lies in tests/support."""
    files = (ROOT / "tests").rglob("test_*.py")
    from_tests = {(p.name, m) for p in files for m in imported(p) if m.startswith("tests.")}
    assert {(p, m) for p, m in from_tests if not m.startswith("tests.support")} == set()


def test_one_class_name_has_one_meaning() -> None:
    several = {name: at for name, at in classes().items() if len(at) > 1}
    assert several == {}


@pytest.mark.parametrize(("folder", "most"), AT_THE_DOOR.items())
def test_few_files_lie_directly_in_a_part(folder: str, most: int) -> None:
    files = [p.name for p in (ROOT / folder).iterdir() if p.is_file() and p.suffix != ".pyc"]
    assert len(files) <= most, files


def test_a_room_holds_few_files() -> None:
    """`app/commands/` has one for each command that is typed; benchmarks and tools are scripts."""
    rooms = {p.parent for part in (*PARTS, "tests") for p in (ROOT / part).rglob("*.py")}
    rooms.discard(ROOT / "app" / "commands")
    counts = {str(room.relative_to(ROOT)): len(list(room.glob("*.py"))) for room in rooms}
    assert {room: n for room, n in counts.items() if n > 16} == {}


def test_every_folder_of_modules_is_a_package() -> None:
    bare = {p.parent for part in PARTS for p in (ROOT / part).rglob("*.py")}
    assert [str(folder) for folder in bare if not (folder / "__init__.py").exists()] == []


def test_the_wheel_has_every_package() -> None:
    """The siblings of the library are folders in it once installed, which setuptools can't find."""
    modules = [path for part in PARTS for path in (ROOT / part).rglob("*.py")]
    found = {path.parent.relative_to(ROOT) for path in modules}
    names = {".".join(folder.parts) for folder in found}
    inside = {name if name.startswith("moshi_mlx") else f"moshi_mlx.{name}" for name in names}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(project["tool"]["setuptools"]["packages"]) == inside


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_answer(module: str) -> None:
    found = importlib.import_module(module)
    assert [name for name in PUBLIC[module].split() if not hasattr(found, name)] == []


def test_importing_the_library_brings_in_no_mlx_and_no_numpy() -> None:
    code = "import sys, moshi_mlx; print(*sorted({n.split('.')[0] for n in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        **{"capture_output": True, "text": True, "check": True, "cwd": ROOT},
    )
    assert not {"mlx", "numpy", "sentencepiece", "huggingface_hub"} & set(done.stdout.split())
