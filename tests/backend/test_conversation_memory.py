"""A conversation's memory exists before its first frame; models may be loaded on another thread."""

import threading
from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from app.bench import split
from app.machine.random_model import random_lm
from benchmarks.graph import COPY, as_on_metal, kernels
from moshi_mlx.config.reading import parse_config
from moshi_mlx.moshi import Moshi
from tests.support.fakes.cpu_codec import CpuCodec, moshi_with
from tests.support.models.bench_shapes import SMALL

FRAME = np.zeros(1920, np.float32)
CODECS: dict[str, Callable[[], Moshi]] = {
    "mlx": lambda: moshi_mlx.load("nano", codec="mlx"),
    "cpu": lambda: moshi_with(CpuCodec()),
}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("kv_bits", [16, 8])
def test_active_memory_does_not_grow_in_the_first_frame(codec: str, kv_bits: int) -> None:
    moshi = CODECS[codec]()
    moshi.warm_up()
    before = mx.get_active_memory()
    with moshi.session(seed=0, kv_bits=kv_bits) as session:
        session.warm_up()
        ready = mx.get_active_memory()
        session.step(FRAME)
        session.step(FRAME)
        assert mx.get_active_memory() - ready < 2**20
    assert ready - before >= moshi.lm.new_buffers(kv_bits).nbytes()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("warm", [True, False])
def test_loaded_on_one_thread_it_talks_on_another(codec: str, warm: bool) -> None:
    """MLX's streams and graphs are those of a thread; weights and buffers are not."""
    moshi = CODECS[codec]()
    if warm:
        moshi.warm_up()
    session = moshi.session(seed=0)  # opened here, too
    heard: list[int] = []

    def talk() -> None:
        session.warm_up()
        heard.extend(session.step(FRAME).text_token for _ in range(3))

    thread = threading.Thread(target=talk)
    thread.start()
    thread.join()
    session.close()
    with moshi.session(seed=0) as here:
        assert heard == [here.step(FRAME).text_token for _ in range(3)]


def test_a_thread_warms_up_for_itself() -> None:
    generator = random_lm(parse_config(SMALL, "small"), "fp32").generator(seed=0)
    generator.warm_up()
    function = generator.lm.functions.of(generator._frame.draws)
    elsewhere: list[set] = []
    thread = threading.Thread(target=lambda: elsewhere.append(set(function.warm)))
    thread.start()
    thread.join()
    assert function.warm and elsewhere == [set()]


def test_warming_up_holds_one_pair_of_rings() -> None:
    """And leaves them empty: what it wrote isn't in the conversation."""
    lm = random_lm(parse_config(SMALL | {"context": 3000, "num_layers": 4}, "small"), "fp32")
    generator = lm.generator(seed=0)
    rings = generator.buffers.nbytes()
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    generator.warm_up()
    assert mx.get_peak_memory() - before < 0.5 * rings
    assert mx.get_active_memory() - before < 0.1 * rings
    assert not any(bool(mx.any(array).item()) for array in generator.buffers.arrays())


@pytest.mark.parametrize("look", ["split", "sweep"])
def test_the_benchs_closer_looks_hold_one_pair_of_rings(look: str) -> None:
    lm = random_lm(parse_config(SMALL | {"context": 3000, "num_layers": 4}, "small"), "fp32")
    rings = lm.new_buffers().nbytes()
    lm.generator(seed=0).warm_up()
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    if look == "split":
        split.split(lm, frames=2, history_frames=100)
    else:
        split.sweep(lm, split.histories(3000), frames=2)
    assert mx.get_peak_memory() - before < 1.5 * rings


@pytest.mark.parametrize("recipe", ["fp32", "q4"])
def test_no_buffer_of_a_frame_is_copied(recipe: str) -> None:
    with as_on_metal():
        lm = random_lm(parse_config(SMALL, "small"), recipe, "float32")
        generator = lm.generator(seed=0, text_temperature=0.71)
        codes = np.zeros(lm.config.user_q, np.int32)
        generator.step(codes)
        found = kernels([*generator.submit(codes).arrays(), *generator.buffers.arrays()])
    assert COPY not in found and "SliceUpdate" not in found
