"""The API reference: a page for every public name of the library, made of its docstrings by pdoc.

python -m tools.api_reference FOLDER
"""

import importlib
import sys
from pathlib import Path

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
    """Writes `index.html` and a page for each module."""
    import pdoc

    for name in MODULES:  # those that come when they are asked for, too
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            getattr(module, public)
    pdoc.render.configure(docformat="markdown", show_source=False, search=True)
    names = "|".join(
        module.removeprefix("moshi_mlx.").replace(".", r"\.") for module in MODULES[1:]
    )
    pdoc.pdoc("moshi_mlx", rf"!moshi_mlx\.(?!({names})$)", output_directory=folder)
    print(folder / "index.html")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
