"""Files of tensors written by hosts: MLX reads them back, and a writer may be told to stop."""

import threading
from pathlib import Path

import mlx.core as mx
import pytest

from moshi_mlx.lm.state.state_file import StateWriter, host_tensors, read_state
from moshi_mlx.output.whole_file import OutputError
from moshi_mlx.tensor_files.header import read_header
from tests.support.models.lm_goldens import model

ARRAYS = {
    "a": mx.arange(6, dtype=mx.int32).reshape(2, 3),
    "b": mx.array([1.5, -2.0], mx.bfloat16),
    "c.0": mx.arange(12, dtype=mx.float32).reshape(3, 4).T,  # not in one piece
    "d": mx.zeros((2, 0, 3), mx.uint8),
}


def test_mlx_reads_what_another_thread_wrote(tmp_path: Path) -> None:
    path = tmp_path / "x"
    writer = StateWriter("prompt", host_tensors(ARRAYS), lambda: {"title": "é"}, private=True)
    thread = threading.Thread(target=writer.write, args=(path,))
    thread.start()
    thread.join()
    file = read_state(path, "prompt")
    assert file.facts["title"] == "é" and path.stat().st_mode & 0o777 == 0o600
    for name, want in ARRAYS.items():
        found = file.arrays[name]
        assert found.dtype == want.dtype and found.shape == want.shape
        assert bool(mx.array_equal(found, want).item())
    assert read_header(path).data_start % 8 == 0


@pytest.mark.parametrize("length", [640, 0x0280 + 0x10000])
def test_a_header_that_is_as_long_as_a_pickle_begins_is_none(tmp_path: Path, length: int) -> None:
    path, writer = tmp_path / "x", StateWriter("prompt", host_tensors(ARRAYS), dict)
    writer.write(path)
    have = read_header(path).data_start - 8
    title = "x" * (length - have - len(', "title": ""') - 2)  # twice escaped quotes
    StateWriter("prompt", host_tensors(ARRAYS), lambda: {"title": title}).write(path)
    for shorter in range(40):  # padding: the very length is found by trying
        facts = {"title": title[shorter:]}
        StateWriter("prompt", host_tensors(ARRAYS), lambda facts=facts: facts).write(path)
        if path.read_bytes()[:3] == length.to_bytes(3, "little"):
            break
    assert int.from_bytes(path.read_bytes()[:8], "little") == length
    assert read_state(path, "prompt").facts["title"]


def test_one_that_is_told_to_stop_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"before")
    writer = StateWriter("prompt", host_tensors(ARRAYS), dict)
    with pytest.raises(OutputError, match="there was no time for it") as told:
        writer.write(path, lambda: False)
    assert "\n" not in str(told.value)
    assert [p.name for p in tmp_path.iterdir()] == ["x"] and path.read_bytes() == b"before"


def test_a_digest_is_the_same_whichever_thread_makes_it() -> None:
    text, other = model("lm_moshi").model_digest.text, model("lm_moshi").model_digest
    other.take_hold()
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(other.text))
    thread.start()
    thread.join()
    assert found == [text] and len(text) == 64
