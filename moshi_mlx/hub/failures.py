"""What can go wrong between here and the hub, each as one line that says which it was."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from ..errors import ConfigError, DownloadError, printable
from .licences import licensed

PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy")

# Of the HTTP library, which huggingface_hub changes now and then.
PROXY_FAILURES = ("InvalidURL", "ProxyError", "UnsupportedProtocol")

# Of the same library: what a network that wants a login sends.
NO_HUBS = ("DecodingError", "TooManyRedirects")

# What huggingface_hub meets in an answer of something else.
UNEXPECTED = json.JSONDecodeError | LookupError | TypeError | AttributeError


NOT_THE_HUB = "what answers is not the hub (a login page of this network?)"
ENDPOINT = "HF_ENDPOINT"
CACHE = "Hugging Face's cache"
CACHE_ADVICE = "see who owns it, or say with HF_HOME where another is"


class NoAnswerError(Exception):
    """The hub took longer than anybody waits, or said something that no hub says."""


def reason_of(error: Exception) -> str:
    """A few words for what kept the hub from answering, before what to do about it."""
    from huggingface_hub import errors

    if isinstance(error, NoAnswerError):
        return str(error)
    if not is_address(os.environ.get(ENDPOINT) or "https://huggingface.co"):
        return f"{ENDPOINT} is no address of a hub ({printable(os.environ[ENDPOINT])})"
    if isinstance(error, OSError) and error.filename is not None:
        return of_the_cache(error)
    if isinstance(error, UnicodeEncodeError) or "header value" in str(error).lower():
        return "the token in HF_TOKEN has characters that no token has"
    if isinstance(error, errors.HfHubHTTPError):
        return _of_status(error.response.status_code)
    if isinstance(error, UNEXPECTED | ConfigError):
        return NOT_THE_HUB
    if isinstance(error, errors.FileMetadataError) or type(error).__name__ in NO_HUBS:
        return NOT_THE_HUB
    named = [name for name in PROXIES if os.environ.get(name)]
    odd = isinstance(error, ImportError | ValueError) or type(error).__name__ in PROXY_FAILURES
    if odd and named:
        return f"the proxy in {named[0]} can't be used ({one_line(error)})"
    if isinstance(error, FileNotFoundError):  # of no name: only SSL's files are read without one
        return "its certificate can't be checked: SSL_CERT_FILE or SSL_CERT_DIR names nothing"
    if "certificate" in str(error).lower():
        return f"its certificate is not trusted ({one_line(error)})"
    if isinstance(error, errors.HTTPError | OSError):
        return f"no network through the proxy in {named[0]}" if named else "no network"
    return f"what answers is not understood ({one_line(error)})"


def of_the_cache(error: OSError) -> str:
    """A file of this machine, which an error of the network never names."""
    return f"{CACHE} can't be used ({error.strerror}: {error.filename})"


def is_address(url: str) -> bool:
    """Whether a server of the web can be asked there."""
    try:
        parts = urlsplit(url)
        name = (parts.hostname or "").encode("idna")
        whole = parts.scheme in ("http", "https") and name != b"" and parts.port != 0
    except ValueError:  # UnicodeError is one
        return False
    return whole and url.isprintable() and not any(c in url for c in " \\")


def _of_status(status: int) -> str:
    if status == 401:
        return "the hub doesn't know this token (401)"
    if status == 403:
        return "the hub doesn't let this account read it (403)"
    if status == 404:
        return "the hub doesn't have it (404)"
    if status == 407:
        return "the proxy wants a login (407)"
    if status == 429:
        return "the hub has had too many requests from here (429)"
    return f"the hub is out of order ({status})"


ADVICE = {
    401: "run `hf auth login`, or unset HF_TOKEN",
    403: "ask for access on its page there, and run `hf auth login`",
    404: "check its name, or run `hf auth login` if it is private",
    407: "put name and password into the proxy's address",
    429: "try again in some minutes",
}


def advice_of(error: Exception) -> str:
    """What to do about it where there is no copy either."""
    from huggingface_hub import errors

    if isinstance(error, errors.HfHubHTTPError):
        return ADVICE.get(error.response.status_code, "try again later")
    said = reason_of(error)
    if "not the hub" in said:
        return "log in to the network in a browser, and try again"
    if said.startswith(("the proxy", "the token", ENDPOINT)):
        return "mend it, or unset it, and try again"
    if said.startswith(CACHE):
        return CACHE_ADVICE
    if "certificate" in said:
        return "check this machine's date and certificates, and try again"
    return "connect and try again"


def one_line(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return ascii(said[:160])[1:-1] if said else type(error).__name__


@contextmanager
def mendable(repository: str, revision: str | None) -> Iterator[None]:
    """Whatever the hub, the network or huggingface_hub does, as a DownloadError of one line."""
    from huggingface_hub import errors

    at = f" at revision {revision}" if revision else ""
    try:
        with licensed(repository):
            yield
    except DownloadError:
        raise
    except errors.RevisionNotFoundError as error:
        raise DownloadError(f"{repository} has no revision {revision}: check its name") from error
    except errors.RepositoryNotFoundError as error:
        raise DownloadError(
            f"there is no repository {repository} (or it is private: run `hf auth login`)"
        ) from error
    except errors.RemoteEntryNotFoundError as error:
        raise DownloadError(f"{repository}{at} lacks a file that it lists: try again") from error
    except Exception as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise DownloadError(
                f"the disk is full while downloading {repository}: make room and start again, "
                "it goes on where it stopped"
            ) from error
        raise DownloadError(
            f"{repository} couldn't be downloaded: {reason_of(error)}; start again, "
            "it goes on where it stopped"
        ) from error
