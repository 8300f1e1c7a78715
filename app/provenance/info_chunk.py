"""A wav file's LIST INFO chunk: the program and a comment, which most converters keep."""

import struct


def info_chunk(software: str, comment: str) -> bytes:
    """A whole chunk, of even length (Multimedia Programming Interface and Data Specifications 1.0,
    1991, chapter 2: ISFT and ICMT, null-terminated)."""
    body = b"INFO"
    for name, text in ((b"ISFT", software), (b"ICMT", comment)):
        value = text.encode("ascii", "replace") + b"\0"
        body += name + struct.pack("<I", len(value)) + value + b"\0" * (len(value) % 2)
    return b"LIST" + struct.pack("<I", len(body)) + body
