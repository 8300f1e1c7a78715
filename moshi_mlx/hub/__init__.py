"""Where a model's files are: a folder, `nano` in the package, or a Hugging Face repository."""

from .inside import commit_of
from .parts import mimi_file, own_parts, tokenizer_file
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
    "commit_of",
    "mimi_file",
    "own_parts",
    "plan",
    "repository_folder",
    "resolve",
    "tokenizer_file",
]
