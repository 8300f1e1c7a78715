"""huggingface_hub's failures as DownloadErrors of one line each."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import DownloadError


def is_no_network(error: Exception) -> bool:
    """No answer, or a server that is down: what the cache holds may still do."""
    from huggingface_hub import errors

    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code >= 500
    return isinstance(error, (errors.HTTPError, ConnectionError, TimeoutError))


@contextmanager
def mendable(repository: str, revision: str | None) -> Iterator[None]:
    """huggingface_hub's failures as one line each."""
    from huggingface_hub import errors

    at = f" at revision {revision}" if revision else ""
    try:
        yield
    except errors.GatedRepoError as error:
        raise DownloadError(
            f"{repository} asks you to accept its terms: open https://huggingface.co/{repository}, "
            "accept, then run `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise DownloadError(f"{repository} has no revision {revision}: check --revision") from error
    except errors.RepositoryNotFoundError as error:
        raise DownloadError(
            f"there is no repository {repository} (or it is private: run `hf auth login`)"
        ) from error
    except errors.EntryNotFoundError as error:
        raise DownloadError(f"{repository}{at} lacks a file that it lists: try again") from error
    except (errors.HTTPError, OSError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise DownloadError(
                f"the disk is full while downloading {repository}: make room and start again, "
                "it goes on where it stopped"
            ) from error
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DownloadError(
            f"{repository} couldn't be downloaded ({line}): check the network and start again, "
            "it goes on where it stopped"
        ) from error
