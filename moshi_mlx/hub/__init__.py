"""Where a model's files are: a folder, `nano` in the package, or a Hugging Face repository."""

from .repository import (
    LICENCE_FILE,
    LICENCE_UNKNOWN,
    NANO,
    REPOSITORY,
    Download,
    plan,
    repository_folder,
    resolve,
)

__all__ = [
    "LICENCE_FILE",
    "LICENCE_UNKNOWN",
    "NANO",
    "REPOSITORY",
    "Download",
    "plan",
    "repository_folder",
    "resolve",
]
