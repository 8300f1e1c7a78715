"""Batches for the LM: conversations from the shards of `lm_encode.py`, packed end to end."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

PAD, EPAD = 3, 0
NO_INPUT = -1
SHARES = {
    "9.": 0.18,
    "10.": 0.42,
}  # the wide voices' and the further engines' shards are fewer and drawn more often
KEYS = ("user", "own", "text", "first", "phones", "word", "intent")


@dataclass
class Pack:
    """int64, B rows of T frames."""

    codes: torch.Tensor  # [B, 17, T]: text, own codes, user codes
    first: torch.Tensor  # [B, T], 1 on the first word of an answer
    phones: torch.Tensor  # [B, T, 2]
    word: torch.Tensor  # [B, T], -1: none ends here
    intent: torch.Tensor  # [B, T], -1: no answer here


class LmData:
    """All shards in memory; `scan` takes in those that were written since."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, np.random.default_rng(seed)
        self.seen: set[str] = set()
        self.pools: dict[str, list[dict]] = {"": []} | {seed: [] for seed in SHARES}
        self.scan()

    def scan(self) -> None:
        for path in sorted(self.folder.glob("*.npz")):
            if path.name in self.seen:
                continue
            self.seen.add(path.name)
            with np.load(path) as data:
                arrays = {k: data[k] for k in KEYS}
                offsets = data["offsets"]
            for a, b in itertools.pairwise(offsets):
                talk = {k: v[:, a:b] if k in ("user", "own") else v[a:b] for k, v in arrays.items()}
                seed = path.name.split(".")[0] + "."
                self.pools[seed if seed in SHARES else ""].append(talk)

    @property
    def counts(self) -> str:
        return " + ".join(str(len(pool)) for pool in self.pools.values())

    def pool(self) -> list[dict]:
        """One of the pools that hold something, by its share."""
        roll = self.rng.random()
        for seed, share in SHARES.items():
            if roll < share and self.pools[seed]:
                return self.pools[seed]
            roll -= share
        return self.pools[""] or max(self.pools.values(), key=len)

    def row(self, frames: int) -> dict:
        """Conversations one after the other, cut at `frames`; the first starts at frame 0."""
        picked, count = [], 0
        while count < frames:
            pool = self.pool()
            picked.append(pool[int(self.rng.integers(len(pool)))])
            count += len(picked[-1]["text"])
        join = lambda k: np.concatenate([t[k] for t in picked], 1 if k in ("user", "own") else 0)  # noqa: E731
        return {
            k: join(k)[..., :frames] if k in ("user", "own") else join(k)[:frames] for k in KEYS
        }

    def pack(self, rows: int, frames: int) -> Pack:
        drawn = [self.row(frames) for _ in range(rows)]
        stack = {
            k: torch.from_numpy(np.stack([r[k] for r in drawn]).astype(np.int64)) for k in KEYS
        }
        codes = torch.cat([stack["text"][:, None], stack["own"], stack["user"]], 1)
        return Pack(codes, stack["first"], stack["phones"], stack["word"], stack["intent"])


def blurred(inputs: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Inputs [B, 17, T] with some of the user's and a few of the own codes left out or wrong.

    A new voice gives codes that no training voice gave; whoever is used to missing ones copes.
    """
    batch, books, frames = inputs.shape
    rate = torch.rand(batch, 1, 1, generator=rng) * 0.3 - 0.08
    rates = rate.clamp(min=0).expand(batch, books, 1).clone()
    rates[:, 0] = 0
    rates[:, 1:9] = 0.02
    rates[:, 9] *= 0.4
    roll = torch.rand(batch, books, frames, generator=rng)
    wrong = torch.randint(0, 256, inputs.shape, generator=rng)
    out = torch.where(roll < rates * 0.3, wrong, inputs)
    return torch.where((roll >= rates * 0.3) & (roll < rates), NO_INPUT, out)
