"""What a file is that isn't what it should be, told by its first bytes, and what to do about it."""

from pathlib import Path

HEAD_BYTES = 64  # enough to tell
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
PICKLE = "a Python pickle (.bin, .pt), which could run any code: fetch the model as safetensors"
# first bytes, in small letters -> what it is: what to do
KINDS: tuple[tuple[bytes, str], ...] = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the file itself: run `git lfs pull`, or fetch it again",
    ),
    (
        b"pk\x03\x04",
        "a PyTorch or zip archive (.bin, .pt): convert it to safetensors, or fetch it as one",
    ),
    *((b"\x80" + bytes([protocol]), PICKLE) for protocol in range(2, 6)),
    (b"gguf", "a GGUF file: fetch the model as safetensors"),
    *((start, "a web page: fetch it again") for start in (b"<!", b"<html", b"<?xml")),
    (
        b"/annex/objects/",
        "a git-annex pointer, not the file itself: run `git annex get`, or fetch it again",
    ),
    *((start, "packed: unpack it first") for start in (b"\x1f\x8b", b"7z\xbc\xaf", b"rar!")),
    *((start, "UTF-16 text: save it as UTF-8") for start in (b"\xff\xfe", b"\xfe\xff")),
)


def kind_of_file(path: Path) -> str | None:
    """As `mistaken_for`, of a file that is there; None for one that can't be read, too."""
    try:
        with path.open("rb") as file:
            return mistaken_for(file.read(HEAD_BYTES))
    except OSError:
        return None


def mistaken_for(head: bytes) -> str | None:
    """`a web page: fetch it again`, say; None for a beginning that tells nothing."""
    head = head.removeprefix(BYTE_ORDER_MARK).lstrip().lower()
    return next((said for start, said in KINDS if head.startswith(start)), None)
