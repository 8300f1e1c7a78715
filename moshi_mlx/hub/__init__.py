"""Where a model's files are: a folder, `nano` in the package, or a Hugging Face repository."""

from .inside import commit_of
from .licences import LICENCE_UNKNOWN, in_words
from .parts import mimi_file, own_parts, tokenizer_file
from .repository import (
    LICENCE_FILE,
    NANO,
    REPOSITORY,
    Download,
    plan,
    repository_folder,
    resolve,
)
from .single_files import Listing, list_files

__all__ = [
    "LICENCE_FILE",
    "LICENCE_UNKNOWN",
    "NANO",
    "REPOSITORY",
    "Download",
    "Listing",
    "commit_of",
    "in_words",
    "list_files",
    "mimi_file",
    "own_parts",
    "plan",
    "repository_folder",
    "resolve",
    "tokenizer_file",
]
