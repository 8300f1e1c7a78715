"""Helium, the language model inside Moshi, as a text model: `load_helium(folder or repository)`.

The model stands on mlx-lm, which takes seconds to import: its names are imported when they are
used, since every other model's config and weights are told from Helium's, too.
"""

from typing import TYPE_CHECKING, Any

from .config import HeliumConfig

if TYPE_CHECKING:
    from .model import Helium, load_helium

__all__ = ["Helium", "HeliumConfig", "load_helium"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import model

    globals()[name] = getattr(model, name)
    return globals()[name]
