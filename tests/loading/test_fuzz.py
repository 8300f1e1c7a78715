"""Configs, headers, indexes, voices and sounds made by chance: an answer or one line, at once."""

import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import moshi_mlx
from moshi_mlx.audio.file import read_mono
from moshi_mlx.config.model_files import weight_paths
from moshi_mlx.config.reading import load_config
from moshi_mlx.config.shards import SHARD_INDEX
from moshi_mlx.helium.config import load_helium_config
from moshi_mlx.mimi import MimiConfig
from moshi_mlx.persona.torch_file import FILE_MAX_BYTES, read_torch_file
from moshi_mlx.tensor_files.header import read_header
from moshi_mlx.weights.tensor_names import expected
from tests.support.chance import (
    FEW,
    MANY,
    as_file,
    changed,
    edited,
    junk,
    one_line_at_once,
    read,
    values,
)

NANO = Path(moshi_mlx.__file__).parent / "nano"
CONFIG = json.loads((NANO / "config.json").read_text())
MIMI_CONFIG = json.loads((NANO / "mimi_config.json").read_text())
HELIUM_CONFIG = json.loads(
    (Path(__file__).parents[1] / "golden" / "helium" / "config.json").read_text()
)
QUESTION = (NANO / "samples" / "who_made_you.wav").read_bytes()[:2000]
VOICE = (Path(__file__).parents[1] / "golden" / "persona" / "personaplex" / "voice.pt").read_bytes()
with zipfile.ZipFile(io.BytesIO(VOICE)) as _zip:
    VOICE_PARTS = {name: _zip.read(name) for name in _zip.namelist()}


def check_config(data: bytes) -> None:
    with one_line_at_once() as folder:
        (folder / "config.json").write_bytes(data)
        read(folder, lambda: sum(1 for _ in expected(load_config(folder))))
        read(folder, lambda: load_helium_config(folder))


def check_mimi_config(data: bytes) -> None:
    with one_line_at_once() as folder:
        (folder / "mimi_config.json").write_bytes(data)
        read(folder, lambda: MimiConfig.from_file(folder / "mimi_config.json"))


def check_header(data: bytes) -> None:
    with one_line_at_once() as folder:
        (folder / "model.safetensors").write_bytes(data)
        read(folder, lambda: read_header(folder / "model.safetensors"))


def check_index(data: bytes) -> None:
    with one_line_at_once() as folder:
        (folder / SHARD_INDEX).write_bytes(data)
        (folder / "a.safetensors").write_bytes(b"")

        def inside() -> None:
            for path in weight_paths(folder, {}):
                assert path.resolve().is_relative_to(folder.resolve())

        read(folder, inside)


def check_sound(data: bytes) -> None:
    with one_line_at_once() as folder:
        (folder / "a.wav").write_bytes(data)
        notes: list[str] = []
        read(folder, lambda: read_mono(folder / "a.wav", notes.append, decoders={}))
        assert not any("\n" in note for note in notes)


entry = {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}
headers = st.tuples(
    as_file(st.dictionaries(st.text(max_size=5), changed(entry) | st.just(entry), max_size=3)),
    st.none() | st.none() | st.none() | st.integers(0, 2**64 - 1),
    st.binary(max_size=24),
).map(
    lambda made: struct.pack("<Q", len(made[0]) if made[1] is None else made[1]) + made[0] + made[2]
)
indexes = as_file(
    st.fixed_dictionaries(
        {"weight_map": st.dictionaries(st.text(max_size=4), values | st.just("a.safetensors"))}
    )
)
sounds = (
    st.builds(
        lambda edits, cut: bytes(
            edits.get(at, byte) for at, byte in enumerate(QUESTION[: cut or len(QUESTION)])
        ),
        st.dictionaries(st.integers(0, 60), st.integers(0, 255), max_size=8),
        st.none() | st.integers(0, len(QUESTION)),
    )
    | junk
)


def zipped(pickled: bytes, storage: bytes) -> bytes:
    """The voice with another pickle and storage: its sums are right, so that both are read."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as new:
        for name, data in VOICE_PARTS.items():
            new.writestr(name, {"data.pkl": pickled, "0": storage}.get(name.split("/")[-1], data))
    return out.getvalue()


def whole_and_honest(tensors: dict[str, np.ndarray]) -> None:
    """No more numbers than the file can hold."""
    assert sum(array.nbytes for array in tensors.values()) <= 2 * FILE_MAX_BYTES


def check_voice(data: bytes) -> None:
    with one_line_at_once() as folder:
        (folder / "a.pt").write_bytes(data)
        read(folder, lambda: whole_and_honest(read_torch_file(folder / "a.pt")))


# Pieces that a pickle is made of, so that chance finds more than the first wrong byte.
pieces = st.sampled_from(
    [b"(", b")", b"}", b"]", b"e", b"u", b"s", b"t", b"R", b"Q", b"b", b"0", b"2", b"\x85", b"\x86"]
    + [b"K\x00", b"K\x20", b"J\xff\xff\xff\x7f", b"\x8a\x08" + b"\xff" * 8, b"N", b"\x88", b"q\x00"]
    + [b"h\x00", b"X\x01\x00\x00\x00a", b"X\xff\xff\xff\x7fa", b"ctorch\nFloatStorage\n"]
    + [b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"cos\nsystem\n"]
)
pickles = (
    edited(VOICE_PARTS["voice/data.pkl"])
    | st.lists(pieces, max_size=30).map(lambda parts: b"\x80\x02" + b"".join(parts) + b".")
    | junk
)
storages = st.just(VOICE_PARTS["voice/data/0"]) | junk
voices = st.builds(zipped, pickles, storages) | edited(VOICE) | junk
CASES = {
    "config.json": (as_file(changed(CONFIG) | changed(HELIUM_CONFIG)), check_config),
    "mimi_config.json": (as_file(changed(MIMI_CONFIG)), check_mimi_config),
    "safetensors header": (headers, check_header),
    "shard index": (indexes, check_index),
    "wav": (sounds, check_sound),
    "pt voice": (voices, check_voice),
}


@pytest.mark.parametrize("case", CASES)
def test_five_hundred_by_chance(case):
    strategy, check = CASES[case]
    FEW(given(strategy)(check))()


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_twenty_thousand_by_chance(case):
    strategy, check = CASES[case]
    MANY(given(strategy)(check))()
