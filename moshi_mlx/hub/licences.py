"""What a repository's licence allows, as far as its name tells; what to do where it is asked for.

Names are those of model cards (huggingface.co/docs/hub/repositories-licenses) or an author's own.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import WORD_MAX, DownloadError, clipped, printable

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

LICENCE_UNKNOWN = "licence not stated"
NON_COMMERCIAL = re.compile(r"(^|[^a-z])nc([^a-z]|$)|non-?commercial|research-only", re.IGNORECASE)


class GatedError(DownloadError):
    """A repository is for those who have accepted its licence, logged in."""


def licence_on(card: "ModelCardData | None") -> str:
    """The licence that a model card names, an author's own name for it first."""
    said = (card.get("license_name") or card.get("license")) if card else None
    names = said if isinstance(said, list) else [said]
    return ", ".join(str(name) for name in names if name) or LICENCE_UNKNOWN


def non_commercial(licence: str) -> bool:
    """Whether its name says that it forbids commercial use."""
    return NON_COMMERCIAL.search(licence) is not None


def in_words(licence: str) -> str:
    """ "cc-by-nc-4.0: not for commercial use"; it may be an author's own, and odd."""
    shown = clipped(printable(licence), WORD_MAX)
    return f"{shown}: not for commercial use" if non_commercial(licence) else shown


@contextmanager
def licensed(repository: str, licence: str = LICENCE_UNKNOWN) -> Iterator[None]:
    """What the hub keeps from those who haven't accepted a licence, as a GatedError."""
    from huggingface_hub import errors, get_token

    try:
        yield
    except errors.GatedRepoError as error:
        named = "" if licence == LICENCE_UNKNOWN else f" ({in_words(licence)})"
        advice = "run `hf auth login` (or set HF_TOKEN)"
        if get_token() is not None:
            advice = "with the account of `hf auth whoami`; some authors answer by hand, so wait"
        raise GatedError(
            f"{repository} asks you to accept its licence{named}: open "
            f"https://huggingface.co/{repository}, accept it, then {advice} and start again"
        ) from error
