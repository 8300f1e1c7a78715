"""The streaming safetensors writer against mx.load and against the safetensors package's rules."""

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.errors import WeightsError
from quantize.checkpoint.source import Mapped
from quantize.checkpoint.writer import Slot, header_of, writing

SLOTS = {"a.weight": Slot("BF16", (3, 5)), "b": Slot("U32", (4,)), "c": Slot("F32", (2, 1))}
VALUES = {
    "a.weight": np.arange(15, dtype=np.uint16).reshape(3, 5),
    "b": np.arange(4, dtype=np.uint32),
    "c": np.ones((2, 1), np.float32),
}


def write(path, names=tuple(SLOTS), metadata=None):
    with writing(path, SLOTS, metadata or {"tool": "test"}) as writer:
        begun = list(writer.left)
        for name in begun:
            if name not in names:
                raise KeyboardInterrupt
            writer.write(name, VALUES[name])
    return begun


def test_mlx_reads_what_was_written(tmp_path):
    write(tmp_path / "x.safetensors")
    arrays, metadata = mx.load(str(tmp_path / "x.safetensors"), return_metadata=True)
    assert metadata == {"tool": "test"}
    assert arrays["a.weight"].dtype == mx.bfloat16
    assert np.array_equal(np.array(arrays["a.weight"].view(mx.uint16)), VALUES["a.weight"])
    assert np.array_equal(np.array(arrays["b"]), VALUES["b"])


def test_data_begins_on_eight_bytes():
    assert len(header_of(SLOTS, {"odd": "x"})) % 8 == 0


def test_an_interrupted_file_is_continued_after_its_last_whole_tensor(tmp_path):
    path = tmp_path / "x.safetensors"
    write(path)
    whole = path.read_bytes()
    for cut in (len(whole) - 1, len(whole) - 9, len(whole) - 8 - 16 - 3, len(whole) - 8 - 16 - 30):
        path.write_bytes(whole[:cut])
        assert write(path)[-1] == "c"
        assert path.read_bytes() == whole
    path.write_bytes(whole[: len(whole) - 9])  # a and a part of b
    assert write(path) == ["b", "c"]
    with pytest.raises(KeyboardInterrupt):
        path.unlink()
        write(path, names=("a.weight",))
    assert write(path) == ["b", "c"]
    assert path.read_bytes() == whole


def test_another_runs_file_is_begun_anew(tmp_path):
    path = tmp_path / "x.safetensors"
    write(path)
    assert write(path, metadata={"tool": "another"}) == list(SLOTS)


def test_a_tensor_out_of_order_is_refused(tmp_path):
    with (
        pytest.raises(ValueError, match="belongs"),
        writing(tmp_path / "x", SLOTS, {}) as writer,
    ):
        writer.write("b", VALUES["b"])
    with pytest.raises(ValueError, match="never written"), writing(tmp_path / "x", SLOTS, {}):
        pass


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_every_value_that_is_not_finite_is_noticed_and_no_other(dtype):
    """All bit patterns of 16 bits (of fp32: the upper half), against numpy's own judgement."""
    bits = np.arange(2**16, dtype=np.uint32)
    if dtype == "F16":
        stored = bits.astype(np.uint16).view(np.float16)
        finite = np.isfinite(stored)
    else:
        wide = (bits << 16).view(np.float32)
        finite = np.isfinite(wide)
        stored = wide if dtype == "F32" else bits.astype(np.uint16)
    tensor = Mapped("x", dtype, stored.shape, stored)
    tensor.check_finite(stored[finite])
    for number in np.flatnonzero(~finite):
        with pytest.raises(WeightsError, match="x of the source is damaged"):
            tensor.check_finite(stored[number : number + 1])
