"""Content Credentials (C2PA): a signed manifest in a sound file that says how it was made.

Needs the extra `c2pa`; without it files are as good, and unsigned. The whole file is hashed, so it
is signed when it is closed: into a second file that takes its name once that is whole.
"""

import importlib.util
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from moshi_mlx.errors import MoshiError

from .origin import PROGRAM, Origin, program_version
from .signing_key import SigningKey

KINDS = {".wav": "audio/wav", ".flac": "audio/flac", ".mp3": "audio/mpeg", ".m4a": "audio/mp4"}
ROOM_BYTES = 1 << 20  # left on the disk beside the second file
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED, MIXED = "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"
OURS = "org.moshi-local.generation"
# Nothing is fetched: neither a manifest kept elsewhere nor a certificate's state.
OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
WHOLE_FILE_READABLE = 0o644


def available() -> bool:
    """Whether the extra `c2pa` is installed."""
    return importlib.util.find_spec("c2pa") is not None


def manifest(origin: Origin, kind: str) -> dict[str, Any]:
    """What the file says of itself, before it is signed."""
    agent = {"name": PROGRAM, "version": program_version()}
    source = SOURCE_TYPE + (MIXED if origin.mixed else GENERATED)
    created = {"action": "c2pa.created", "digitalSourceType": source, "softwareAgent": agent}
    return {
        "claim_generator_info": [agent],
        "title": "conversation with a machine" if origin.mixed else "generated speech",
        "format": kind,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
            {"label": OURS, "data": origin.told()},
        ],
    }


def sign(path: Path, origin: Origin, key: SigningKey) -> None:
    """Put a signed manifest into a finished wav or flac file; its samples stay as they are.

    Raises MoshiError, and then the file is what it was: no room, no writing, a format that can't be
    signed.
    """
    path = path.resolve()  # a link stays one
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise MoshiError(f"unsigned: {path.suffix or 'such'} files can't be signed")
    try:
        free = shutil.disk_usage(path.parent).free
        if free < path.stat().st_size + ROOM_BYTES:
            raise OSError(28, "no room for a second copy on the disk")
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=".", suffix=f".signing{path.suffix}"
        )
        os.close(handle)
        signed = Path(name)
        try:
            _write_signed(path, signed, manifest(origin, kind), kind, key)
            shutil.copymode(path, signed)
            signed.replace(path)
        finally:
            signed.unlink(missing_ok=True)
    except OSError as error:
        raise MoshiError(f"unsigned: {error.strerror or error}") from None


def _write_signed(
    source: Path, target: Path, told: dict[str, Any], kind: str, key: SigningKey
) -> None:
    """Raises OSError for whatever goes wrong, and when the copy isn't whole."""
    import c2pa

    settings = c2pa.Settings.from_dict(OFFLINE)
    info = c2pa.C2paSignerInfo(b"es256", key.chain, key.key, None)
    try:
        with (
            c2pa.Context(settings) as context,
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder(json.dumps(told), context) as builder,
            open(source, "rb") as plain,
            open(target, "w+b") as signed,
        ):
            builder.sign(signer, kind, plain, signed)
            signed.flush()
    except c2pa.C2paError as error:
        raise OSError(" ".join(str(error).split())[:200]) from None
    if target.stat().st_size <= source.stat().st_size:
        raise OSError("the signed file isn't whole")
