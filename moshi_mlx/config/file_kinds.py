"""What a file is that isn't what it should be, told by its first bytes, and what to do about it."""

# first bytes -> what it is: what to do
KINDS: tuple[tuple[bytes, str], ...] = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the file itself: run `git lfs pull`, or fetch it again",
    ),
    (
        b"PK\x03\x04",
        "a PyTorch or zip archive (.bin, .pt): convert it to safetensors, or fetch it as one",
    ),
    (
        b"\x80\x02",
        "a Python pickle (.bin, .pt), which could run any code: fetch the model as safetensors",
    ),
    (b"GGUF", "a GGUF file: fetch the model as safetensors"),
    (b"<!", "a web page: fetch it again"),
    (b"<html", "a web page: fetch it again"),
)


def mistaken_for(head: bytes) -> str | None:
    """`a web page: fetch it again`, say; None for a beginning that tells nothing."""
    head = head.lstrip()
    return next((said for start, said in KINDS if head.startswith(start)), None)
