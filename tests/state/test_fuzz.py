"""Talks, prompts and sessions in files made by chance: they go on or are one line, at once."""

import json
import struct
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.talk.kept_talk import kept_talk
from moshi_mlx.clock import FRAME_SAMPLES
from moshi_mlx.moshi import Moshi
from tests.support.chance import FEW, MANY, changed, edited, junk, one_line_at_once, read, values
from tests.support.models.tiny_moshi import tiny_moshi

FACTS = "moshi-local"
SILENCE = np.zeros(FRAME_SAMPLES, np.float32)


@cache
def moshi() -> Moshi:
    return tiny_moshi(Path(mkdtemp()))


@cache
def honest(kind: str) -> bytes:
    """A file of each kind as it is written."""
    path = Path(mkdtemp()) / kind
    lm = moshi().lm
    if kind == "prompt":
        tokens = np.full((4, 1 + lm.config.n_q), -1)
        tokens[:, 0] = lm.config.text_padding_id
        lm.prompt(tokens).save(path)
    else:
        with moshi().session(seed=1) as session:
            for _ in range(3):
                session.step(SILENCE)
            state = session.snapshot()
        (state.lm if kind == "talk" else state).save(path)
    return path.read_bytes()


def parts(kind: str) -> tuple[dict, bytes]:
    """Header and tensors of the honest file."""
    data = honest(kind)
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header: dict, tensors: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tensors


def with_facts(kind: str) -> st.SearchStrategy[bytes]:
    """Other facts over the honest tensors."""
    header, tensors = parts(kind)
    facts = json.loads(header["__metadata__"][FACTS])
    told = changed(facts) | st.builds(lambda note: {**facts, "note": json.dumps(note)}, values)

    def build(facts: dict) -> bytes:
        return joined({**header, "__metadata__": {FACTS: json.dumps(facts)}}, tensors)

    return told.map(build)


def with_header(kind: str) -> st.SearchStrategy[bytes]:
    """Tensors of other names, types, shapes and places, and some that are missing."""
    header, tensors = parts(kind)
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    names, dtypes = sorted(entries), ["F32", "I32", "U8", "BF16", "F16", "I64"]
    shapes = st.lists(st.integers(0, 8), max_size=6)
    other = st.builds(
        lambda name, dtype, shape: (name, {**entries[name], "dtype": dtype, "shape": shape}),
        *(st.sampled_from(names), st.sampled_from(dtypes), shapes),
    )
    swapped = st.builds(
        lambda one, two: (one, entries[two]), st.sampled_from(names), st.sampled_from(names)
    )
    edits = st.lists(other | swapped, max_size=3)
    return edits.map(lambda found: joined({**header, **dict(found)}, tensors))


def with_tensors(kind: str) -> st.SearchStrategy[bytes]:
    """Other numbers under an honest header: tokens out of range, NaN, infinity."""
    header, tensors = parts(kind)
    put = st.tuples(
        st.integers(0, len(tensors) - 1),
        st.binary(min_size=1, max_size=64)
        | st.sampled_from([b"\xff" * 16, b"\x00\x00\xc0\x7f" * 4, b"\xff\xff\xff\x7f" * 4]),
    )

    def build(puts: list[tuple[int, bytes]]) -> bytes:
        changed = bytearray(tensors)
        for at, new in puts:
            changed[at : at + len(new)] = new[: len(tensors) - at]
        return joined(header, bytes(changed))

    return st.lists(put, max_size=4).map(build)


def files(kind: str) -> st.SearchStrategy[bytes]:
    return (
        with_facts(kind)
        | with_header(kind)
        | with_tensors(kind)
        | edited(honest(kind))
        | st.integers(0, len(honest(kind))).map(lambda cut: honest(kind)[:cut])
        | junk
    )


def go_on(kind: str, path: Path) -> None:
    """Whoever takes such a file, and two frames of the talk."""
    lm, silent = moshi().lm, np.zeros(moshi().config.user_q, np.int32)
    if kind == "session":
        with moshi().resume(path) as session:
            for _ in range(2):
                session.step(SILENCE)
        return
    talk = lm.resume(path) if kind == "talk" else lm.generator(seed=0, prompt=lm.prompt_from(path))
    for _ in range(2):
        talk.step(silent)


def check(kind: str, data: bytes) -> None:
    with one_line_at_once() as folder:
        path = folder / "x"
        path.write_bytes(data)
        read(folder, lambda: go_on(kind, path))
        if kind == "session":
            read(folder, lambda: kept_talk(path))


KINDS = ("talk", "prompt", "session")
SOME = settings(FEW, max_examples=200)


@pytest.mark.parametrize("kind", KINDS)
def test_an_honest_file_goes_on(kind, tmp_path):
    (tmp_path / "x").write_bytes(honest(kind))
    go_on(kind, tmp_path / "x")


@pytest.mark.parametrize("kind", KINDS)
def test_two_hundred_by_chance(kind):
    SOME(given(files(kind))(lambda data: check(kind, data)))()


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_twenty_thousand_by_chance(kind):
    MANY(given(files(kind))(lambda data: check(kind, data)))()
