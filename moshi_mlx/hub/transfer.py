"""One file of a repository into Hugging Face's own cache; an interrupted download goes on."""

import hashlib
import os
import re
from pathlib import Path

from ..errors import DownloadError

ETAG = re.compile(r"[\w-]+")


def download_file(repository: str, name: str, commit: str, cache_dir: Path | None) -> Path:
    """One file into Hugging Face's cache, going on where an earlier try stopped."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub import try_to_load_from_cache as cached

    found = cached(repository, name, cache_dir, commit)
    if isinstance(found, str):
        return Path(found)
    url = hf_hub_url(repository, name, revision=commit, endpoint=endpoint())
    metadata = get_hf_file_metadata(url, endpoint=endpoint())
    if metadata.etag and metadata.size and ETAG.fullmatch(metadata.etag):
        blob = repository_folder(repository, cache_dir) / "blobs" / metadata.etag
        if not blob.exists():
            _stream(url, blob, metadata.size, name)
    return Path(  # finds the blob and only links to it
        hf_hub_download(repository, name, revision=commit, cache_dir=cache_dir, endpoint=endpoint())
    )


def _stream(url: str, blob: Path, size: int, name: str) -> None:
    """url -> blob by way of `blob.part`, which an interruption leaves behind on purpose."""
    import fcntl

    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

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
        http_get(
            url,
            file,
            resume_size=file.tell(),
            headers=build_hf_headers(),
            expected_size=size,
            displayed_filename=name,
        )
        file.flush()
        if len(blob.name) == 64 and _sha256(part) != blob.name:  # large files: the etag is the sum
            part.unlink()
            raise DownloadError(f"{name} arrived damaged and was removed: start again")
        part.replace(blob)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
