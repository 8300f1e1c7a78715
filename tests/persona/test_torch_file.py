"""`.pt` files: the tensors that torch saved, and nothing that a hostile one asks for."""

import io
import os
import pickle
import resource
import sys
import zipfile
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.errors import WeightsError
from moshi_mlx.persona.torch_file import read_torch_file

GOLDEN = Path(__file__).parents[1] / "golden" / "persona" / "personaplex"
VOICE = GOLDEN / "voice.pt"


def test_a_voice_is_read_as_torch_wrote_it():
    golden = mx.load(str(GOLDEN / "golden.safetensors"))
    voice = read_torch_file(VOICE)
    assert np.array_equal(voice["embeddings"], np.array(golden["voice.embeddings"]))
    assert np.array_equal(voice["cache"], np.array(golden["voice.cache"]))
    half = read_torch_file(GOLDEN / "voice_bf16.pt")["embeddings"]
    rounded = mx.array(voice["embeddings"]).astype(mx.bfloat16).astype(mx.float32)
    assert np.array_equal(half, np.array(rounded))


def changed(path, data=None, **files):
    """The voice with another pickle, or other entries (None: left out), at `path`."""
    with zipfile.ZipFile(VOICE) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            last = name.split("/", 1)[1]
            content = data if last == "data.pkl" and data is not None else old.read(name)
            content = files.get(last.replace("/", "_"), content)
            if content is not None:
                new.writestr(name, content)
    return path


class Calls:
    """What a pickle that runs something is made of."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "evil",
    [
        Calls(os.system, "touch here"),
        Calls(eval, "open('here', 'w')"),
        Calls(getattr, "a", "upper"),
        Calls(__import__, "os"),
    ],
)
def test_a_pickle_that_calls_something_is_refused_and_calls_nothing(tmp_path, evil, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = changed(tmp_path / "evil.pt", pickle.dumps({"embeddings": evil}, protocol=2))
    with pytest.raises(WeightsError, match="is not allowed in it"):
        read_torch_file(path)
    assert os.listdir(tmp_path) == ["evil.pt"]


@pytest.mark.parametrize(
    "files",
    [
        {"data_0": b"short"},
        {"data_0": None},
        {"data_1": b""},
        {"byteorder": b"big"},
        {"data.pkl": None},
        {"data.pkl": b""},
        {"data.pkl": pickle.dumps([1, 2], protocol=2)},
        {"data.pkl": pickle.dumps({"embeddings": 3}, protocol=2)},
        {"data_0": b"\x00" * (65 << 20)},
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, files):
    path = tmp_path / "bad.pt"
    with zipfile.ZipFile(VOICE) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            last = name.split("/", 1)[1].replace("/", "_")
            if (content := files.get(last, old.read(name))) is not None:
                new.writestr(name, content)
    with pytest.raises(WeightsError) as caught:
        read_torch_file(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no zip", VOICE.read_bytes()[:500]])
def test_what_is_no_zip_is_one_line(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(WeightsError, match="can't be read as a torch file"):
        read_torch_file(tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="No such file"):
        read_torch_file(tmp_path / "none.pt")


def pickled(size, stride, offset=0):
    """The pickle of one tensor, with other sizes: as torch writes it."""
    with zipfile.ZipFile(VOICE) as file:
        root = file.namelist()[0].split("/")[0]
        data = file.read(f"{root}/data.pkl")
    assert b"_rebuild_tensor_v2" in data
    stream = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            return ("storage", FloatStorage, "0", "cpu", 352) if thing is STORAGE else None

    Pickler(stream, protocol=2).dump({"embeddings": Tensor(size, stride, offset)})
    return (
        stream.getvalue()
        .replace(__name__.encode(), b"torch")
        .replace(b"ctorch\nrebuild", b"ctorch._utils\n_rebuild_tensor_v2")
    )


class FloatStorage:
    pass


STORAGE = object()


def rebuild(*arguments):
    raise AssertionError("only its name is used")


class Tensor:
    def __init__(self, size, stride, offset):
        self.arguments = (STORAGE, offset, size, stride)

    def __reduce__(self):
        return rebuild, self.arguments


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((400,), (1,), 0),
        ((10,), (40,), 0),
        ((10,), (1,), 350),
        ((10,), (-1,), 20),
        ((2**40,), (0,), 0),
        ((2, 2), (1,), 0),
        ((-1,), (1,), 0),
    ],
)
def test_a_tensor_that_reaches_outside_its_storage_is_refused(tmp_path, size, stride, offset):
    with pytest.raises(WeightsError):
        read_torch_file(changed(tmp_path / "bad.pt", pickled(size, stride, offset)))


def test_a_tensor_made_the_same_way_is_read(tmp_path):
    found = read_torch_file(changed(tmp_path / "good.pt", pickled((11, 32), (32, 1))))
    whole = read_torch_file(VOICE)["embeddings"]
    assert np.array_equal(found["embeddings"], whole.reshape(11, 32))


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x80\x02}r\xff\xff\xff\x7f.",  # LONG_BINPUT
        b"\x80\x02}p2000000000\n.",  # PUT
        b"\x80\x02}p-1\n.",
        b"\x80\x02}" + b"q\x00" * (1 << 19) + b".",
    ],
)
def test_a_pickle_that_asks_for_gigabytes_of_memo_is_refused_before_it_is_read(tmp_path, bomb):
    path = changed(tmp_path / "a.pt", bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match=r"its memo is larger|data\.pkl is larger"):
        read_torch_file(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < (64 << 20) // (1 if sys.platform == "darwin" else 1024)
