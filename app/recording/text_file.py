"""A transcript's file on disk: whole lines, at once."""

from pathlib import Path


class TextFile:
    """Whole lines, written to the system at once; a write that fails leaves no half line."""

    def __init__(self, path: Path, more: bool = False) -> None:
        """more: after what is there already. Raises OSError."""
        self._file = open(path, "ab" if more else "wb", buffering=0)  # noqa: SIM115 (as the talk)
        self._bytes = self._file.tell()

    def write(self, text: str) -> None:
        data = text.encode()
        try:
            if self._file.write(data) != len(data):
                raise OSError(28, "No space left on device")
        except OSError:
            self._file.truncate(self._bytes)
            raise
        self._bytes += len(data)

    def close(self) -> None:
        self._file.close()
