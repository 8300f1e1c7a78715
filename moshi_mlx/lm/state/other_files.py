"""What a file is that was taken for a prompt or a saved talk: by its first bytes, or its header."""

from collections.abc import Iterable
from pathlib import Path

from ...errors import MoshiError

# kind -> what it is, and who takes it
OTHERS = {
    "prompt": ("a prompt", "give it to prompt_from"),
    "talk": ("a conversation of the language model alone", "give it to lm.resume"),
    "session": ("a talk with its sound", "give it to moshi.resume"),
    "adapter": ("an adapter (LoRA)", "load a model with it: lora=FILE"),
    "voice": ("a voice", "give it as voice=FILE"),
    "weights": ("a file of a model's weights", "load its folder"),
    "sound": ("a sound file", "choose another file"),
    "folder": ("a folder", "give a file"),
    "empty": ("an empty file", "choose another file"),
    "other": ("no prompt or snapshot", "choose another file"),
}
SOUNDS = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"ID3", b"FORM", b".snd", b"caff", b"\xff\xfb")


class OtherFileError(MoshiError):
    """`kind`: a key of OTHERS; `what`: in words."""

    def __init__(self, path: Path, kind: str) -> None:
        self.kind = kind if kind in OTHERS else "other"
        self.what, instead = OTHERS[self.kind]
        super().__init__(f"{path} is {self.what}; {instead}")


def check_beginning(path: Path) -> None:
    """Raises OtherFileError for what is seen at once, MoshiError where there is nothing, or
    nothing that can be read."""
    if path.is_dir():
        raise OtherFileError(path, "folder")
    if not path.is_file():
        raise MoshiError(f"there is no file {path}; check its name")
    try:
        with path.open("rb") as file:
            begins = file.read(4)
    except OSError as error:
        raise MoshiError(f"{path} can't be read ({error.strerror})") from None
    if not begins:
        raise OtherFileError(path, "empty")
    if begins.startswith(SOUNDS):
        raise OtherFileError(path, "sound")


def kind_of(tensors: Iterable[str]) -> str:
    """Of a safetensors file that says nothing of itself, by the names in it."""
    names = set(tensors)
    if any(".lora_A." in name or ".lora_B." in name for name in names):
        return "adapter"
    if names and names <= {"speaker_wavs", "embeddings", "cache"}:
        return "voice"
    return "weights" if any(name.endswith(".weight") for name in names) else "other"
