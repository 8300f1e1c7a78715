"""One file of a repository into Hugging Face's own cache; an interrupted download goes on."""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..config.safe_names import safe_name
from ..errors import DownloadError
from .failures import NOT_THE_HUB, NoAnswerError
from .flow import LEAST_BYTES, Flow

ETAG = re.compile(r"[0-9A-Za-z_-]{1,128}")  # it becomes a file's name
SILENT_S = 10.0  # of a connection, until it is made anew
TRIES = 6  # one after the other, of which none brings LEAST_BYTES
HASHED_BYTES = 1 << 24  # at once


def download_file(
    repository: str, name: str, commit: str, cache_dir: Path | None, flow: Flow | None = None
) -> Path:
    """One file into Hugging Face's cache, going on where an earlier try stopped.

    flow: hears of every byte, and may say that nobody waits any more.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub import try_to_load_from_cache as cached

    found = cached(repository, name, cache_dir, commit)
    if isinstance(found, str):
        return Path(found)
    safe_name(name, "a file", repository)
    url = hf_hub_url(repository, name, revision=commit, endpoint=endpoint())
    metadata = get_hf_file_metadata(url, timeout=SILENT_S, endpoint=endpoint())
    etag, size = metadata.etag or "", metadata.size
    if not ETAG.fullmatch(etag) or size is None or size < 0 or metadata.commit_hash != commit:
        raise NoAnswerError(NOT_THE_HUB)
    folder = repository_folder(repository, cache_dir)
    blob = folder / "blobs" / etag
    if not blob.exists():
        _fetch(url, blob, size, name, flow or Flow())
    return _linked(folder / "snapshots" / commit / name, blob)


def _linked(pointer: Path, blob: Path) -> Path:
    """The file's place in the snapshot, as huggingface_hub makes and finds it."""
    pointer.parent.mkdir(parents=True, exist_ok=True)
    pointer.unlink(missing_ok=True)  # a link that leads nowhere
    try:
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    except FileExistsError:
        pass  # another process was first
    except OSError:  # a disk without links
        blob.replace(pointer)
    return pointer


def _fetch(url: str, blob: Path, size: int, name: str, flow: Flow) -> None:
    """url -> blob by way of `blob.part`, which an interruption leaves behind on purpose."""
    import fcntl

    blob.parent.mkdir(parents=True, exist_ok=True)
    part = blob.with_name(blob.name + ".part")
    with open(part, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DownloadError(f"{name} is being downloaded by another process: wait") from error
        if file.tell() > size:
            file.truncate(0)
            file.seek(0)
        _receive_all(url, file, size, name, flow)
        file.flush()
        damaged = file.tell() != size
        if len(blob.name) == 64:  # large files: the etag is the sum
            damaged |= _sha256(part, flow) != blob.name
        if damaged:
            part.unlink()
            raise DownloadError(f"{name} arrived damaged and was removed: start again")
        part.replace(blob)


def _receive_all(url: str, file: BinaryIO, size: int, name: str, flow: Flow) -> None:
    """What is missing, with a new connection where one breaks off."""
    from huggingface_hub import errors
    from huggingface_hub.utils import tqdm

    failed = 0
    look = {"unit": "B", "unit_scale": True, "desc": name[-40:], "disable": None}
    with tqdm(total=size, initial=file.tell(), **look) as bar:
        while file.tell() < size:
            before = flow.num_bytes
            try:
                for num_bytes in _pieces(url, file, flow):
                    bar.update(num_bytes)
                reason: Exception = NoAnswerError("the hub ends a file too early")
            except errors.HfHubHTTPError:
                raise  # an answer
            except errors.HTTPError as error:
                reason = error
            failed = 0 if flow.num_bytes - before >= LEAST_BYTES else failed + 1
            if failed >= TRIES:
                raise reason
            if file.tell() < size:
                time.sleep(1)


def _pieces(url: str, file: BinaryIO, flow: Flow) -> Iterator[int]:
    """One connection's bytes into `file`, as they come: how many more lie in it."""
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    at = file.tell()
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={at}-"} if at else {}
    with get_session().stream("GET", url, headers=headers, timeout=SILENT_S) as response:
        hf_raise_for_status(response)
        if at and response.status_code == 200:  # all of it, from its beginning
            file.truncate(0)
            file.seek(0)
            yield -at
        for piece in response.iter_bytes():
            file.write(piece)
            flow.add(len(piece))
            yield len(piece)


def _sha256(path: Path, flow: Flow) -> str:
    """It takes a while; nobody gives up meanwhile."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(HASHED_BYTES):
            found.update(data)
            flow.add(len(data))
    return found.hexdigest()


def repository_folder(repository: str, cache_dir: Path | None = None) -> Path:
    """Where Hugging Face's cache keeps a repository, whether it is there or not."""
    from huggingface_hub import constants

    root = Path(cache_dir or constants.HF_HUB_CACHE)
    return root / ("models--" + repository.replace("/", "--"))


def cached_file(name: str, cache_dir: Path | None = None) -> Path | None:
    """A file of this name in any repository of Kyutai's in the cache, None where there is none."""
    root = repository_folder("kyutai/x", cache_dir).parent
    found = root.glob(f"models--kyutai--*/snapshots/*/{name}")
    return next((path for path in sorted(found) if path.is_file()), None)


def endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None
