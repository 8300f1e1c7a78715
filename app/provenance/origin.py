"""What is told of generated sound, in words and as data: by which model, which channel is human.

No name of a person, a device or a folder is told: a model that lies on this machine is called by
its folder's last name alone.
"""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath

from moshi_mlx.hub import commit_of

PROGRAM = "moshi-local"
HUMAN, MACHINE = "human, microphone", "machine, generated"


@dataclass(frozen=True)
class Origin:
    """Of one file. channels: HUMAN or MACHINE each; mark: "public key", "private key", "none"."""

    model: str
    channels: tuple[str, ...] = (MACHINE,)
    seed: int | None = None
    revision: str = ""
    adapter: str = ""
    mark: str = "none"

    @property
    def mixed(self) -> bool:
        """Whether a person is heard in it too."""
        return HUMAN in self.channels

    def told(self) -> dict[str, object]:
        """Of what is known, what a manifest holds."""
        facts: dict[str, object] = {"model": public_name(self.model), "seed": self.seed}
        facts |= {"revision": self.revision, "adapter": public_name(self.adapter)}
        known = {name: fact for name, fact in facts.items() if fact not in (None, "")}
        return known | {"channels": list(self.channels), "mark": self.mark}

    def note(self) -> str:
        """One line for a comment field."""
        what = "AI-generated"
        if self.mixed:
            sides = ("left", "right")[: len(self.channels)]
            side = next(s for s, c in zip(sides, self.channels, strict=False) if c == MACHINE)
            what = f"AI-generated: the {side} channel; the other is a person"
        by = f" by {public_name(self.model)}" if self.model else ""
        return f"{what}. Synthetic speech{by}, made with {PROGRAM}."


def public_name(model: str) -> str:
    """A repository's name as it is; of a path on this machine the last part. Printable ASCII."""
    path = PurePath(model)
    local = path.is_absolute() or model.startswith((".", "~")) or len(path.parts) > 2
    name = path.name if local else model
    return "".join(c if 32 <= ord(c) < 127 else "?" for c in name)[:100]


def revision_of(folder: Path) -> str:
    """The commit of a folder in the cache of Hugging Face; else ""."""
    return commit_of(folder) or ""


@cache
def program_version() -> str:
    try:
        return version(PROGRAM)
    except PackageNotFoundError:  # a checkout that was never installed
        return "0"
