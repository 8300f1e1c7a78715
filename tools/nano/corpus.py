"""Synthesizes the corpus: thousands of user sentences and Moshi's answers, with phones, words and intents.

    python corpus.py --out DIR --users 12000 --seed 1 [--part 0 --parts 2]

Writes DIR/users.{part}.npz and DIR/own.npz: `pcm` int16 (all joined), `offsets` [N + 1], and `meta`, a pickled list of
dicts (text, intent, voice, phones [P, 3] class/start/end, words).
"""

import argparse
import itertools
import pickle
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import wordings
from engines import Utterance
from phones import phone_class
from voices import OWN_RENDITIONS, Speakers


def entry(utterance: Utterance, **facts: object) -> dict:
    """Meta of one sentence."""
    phones = np.array([(phone_class(p), a, b) for p, a, b in utterance.phones], np.float32).reshape(
        -1, 3
    )
    return {"phones": phones, "words": utterance.words, **facts}


def save(path: Path, utterances: list[np.ndarray], meta: list[dict]) -> None:
    offsets = np.cumsum([0] + [len(u) for u in utterances])
    pcm = (np.concatenate(utterances) * 32767).astype(np.int16)
    np.savez(path, pcm=pcm, offsets=offsets, meta=np.frombuffer(pickle.dumps(meta), np.uint8))


def load(path: Path) -> tuple[list[np.ndarray], list[dict]]:
    """-> float32 waveforms and their meta."""
    with np.load(path) as data:
        pcm, offsets, meta = data["pcm"], data["offsets"], pickle.loads(data["meta"].tobytes())
    return [pcm[a:b] for a, b in itertools.pairwise(offsets)], meta


def own_words(text: str, utterance: Utterance) -> list[tuple[str, float]]:
    """The answer's words as written, with punctuation, at their times."""
    written = text.split()
    spoken = [(w, t) for w, t in utterance.words if re.search("[a-z0-9]", w.lower())]
    if len(written) != len(spoken):
        raise ValueError(f"{text!r}: {len(written)} words written, {len(spoken)} spoken")
    return [(w, t) for w, (_, t) in zip(written, spoken, strict=True)]


def make_own(speakers: Speakers, path: Path) -> None:
    """Every answer in every rendition."""
    pcm, meta = [], []
    for intent, text in enumerate(wordings.all_answers()):
        for rendition in range(len(OWN_RENDITIONS)):
            utterance = speakers.own(text, rendition)
            utterance.words = own_words(text, utterance)
            pcm.append(utterance.pcm)
            meta.append(entry(utterance, text=text, intent=intent, rendition=rendition))
    save(path, pcm, meta)


def make_users(speak: Callable, path: Path, count: int, rng: random.Random) -> None:
    """`count` sentences: 62 % questions we know, the rest unknown."""
    pcm, meta = [], []
    unknown = len(wordings.load_answers())
    started = time.time()
    for index in range(count):
        text, intent = (
            wordings.known_sentence(rng)
            if rng.random() < 0.62
            else (wordings.unknown_sentence(rng), unknown)
        )
        utterance, voice = speak(text, rng)
        pcm.append(utterance.pcm)
        meta.append(entry(utterance, text=text, intent=intent, voice=voice))
        if index % 500 == 0:
            print(f"{path.name} {index}/{count} {time.time() - started:.0f} s", flush=True)
    save(path, pcm, meta)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--users", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--voices", choices=("user", "wide_user", "other_user"), default="user")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    speakers = Speakers()
    if args.part == 0:
        make_own(speakers, args.out / "own.npz")
    rng = random.Random(args.seed * 1000 + args.part)
    count = args.users // args.parts
    make_users(getattr(speakers, args.voices), args.out / f"users.{args.part}.npz", count, rng)


if __name__ == "__main__":
    main()
