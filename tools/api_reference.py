"""The API reference: a page for every public name of the library, made of its docstrings by pdoc.

python -m tools.api_reference FOLDER
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType

# What programs import: the rest of the library is behind these.
MODULES = (
    "moshi_mlx",
    "moshi_mlx.audio",
    "moshi_mlx.codec",
    "moshi_mlx.config",
    "moshi_mlx.errors",
    "moshi_mlx.generator",
    "moshi_mlx.helium",
    "moshi_mlx.hub",
    "moshi_mlx.memory",
    "moshi_mlx.mimi",
    "moshi_mlx.moshi",
    "moshi_mlx.provenance",
    "moshi_mlx.stt",
    "moshi_mlx.translation",
    "moshi_mlx.tts",
)


def main(folder: Path) -> None:
    """Writes `index.html` and a page for each module, as `pdoc.pdoc` does with all submodules."""
    import pdoc

    pdoc.render.configure(docformat="markdown", show_source=False, search=True)
    pages = {name: pdoc.doc.Module(loaded(name)) for name in MODULES}
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in pages.items():
        path = folder / f"{name.replace('.', '/')}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pdoc.render.html_module(page, pages), encoding="utf-8")
    (folder / "index.html").write_text(pdoc.render.html_index(pages), encoding="utf-8")
    (folder / "search.js").write_text(pdoc.render.search_index(pages), encoding="utf-8")
    print(folder / "index.html")


def loaded(name: str) -> ModuleType:
    """A module with all of its public names, those that come when they are asked for, too."""
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", ()):
        getattr(module, public)
    return module


if __name__ == "__main__":
    main(Path(sys.argv[1]))
