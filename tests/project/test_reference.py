"""The API reference: every public name has a docstring, and pdoc makes its pages."""

import ast
import importlib
import inspect
import re
from importlib.util import find_spec
from types import ModuleType

import pytest

from tests.support.public_names import PUBLIC
from tools.api_reference import MODULES, main


def names_in(module: ModuleType) -> list[str]:
    if hasattr(module, "__all__"):
        return list(module.__all__)
    tree = ast.parse(inspect.getsource(module))
    defined = [n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    return [node.name for node in defined if not node.name.startswith("_")]


def undocumented(name: str, thing: object) -> list[str]:
    """Names without a docstring: the thing itself, and a class's own public methods."""
    if not (inspect.isclass(thing) or inspect.isroutine(thing) or inspect.ismodule(thing)):
        return []  # a number or a table: its comment says what it is
    found = [] if thing.__doc__ else [name]
    if not inspect.isclass(thing) or not thing.__module__.startswith("moshi_mlx"):
        return found
    for own, member in vars(thing).items():
        if own.startswith("_") or not (inspect.isroutine(member) or isinstance(member, property)):
            continue
        if not inspect.getdoc(getattr(thing, own)):
            found.append(f"{name}.{own}")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_documented(module: str) -> None:
    found = importlib.import_module(module)
    assert found.__doc__
    missing = [one for name in names_in(found) for one in undocumented(name, getattr(found, name))]
    assert missing == []


def test_a_name_without_a_docstring_is_found() -> None:
    class Bare:
        __module__ = "moshi_mlx.bare"

        def method(self) -> None: ...

    assert undocumented("Bare", Bare) == ["Bare", "Bare.method"]


def test_the_reference_has_every_module_that_programs_import() -> None:
    assert {name for name in PUBLIC if name.startswith("moshi_mlx")} <= set(MODULES)


@pytest.mark.skipif(find_spec("pdoc") is None, reason="pdoc isn't installed: make setup")
def test_the_pages_are_made(tmp_path, capsys) -> None:
    main(tmp_path / "api")
    assert str(tmp_path / "api" / "index.html") in capsys.readouterr().out
    for module in MODULES:
        page = (tmp_path / "api" / f"{module.replace('.', '/')}.html").read_text()
        found = importlib.import_module(module)
        for name in names_in(found):
            page_of_its_own = inspect.ismodule(getattr(found, name))
            assert page_of_its_own or re.search(rf'id="{re.escape(name)}"', page), name
