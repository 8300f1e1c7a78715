"""Mimi as a GPU gets it, compiled, on the CPU: nothing is made anew in a frame, same results."""

import io
import threading
import time
from statistics import median

import mlx.core as mx
import numpy as np
import pytest

from app.machine.random_model import random_mimi
from benchmarks.graph import as_on_metal, kernels
from moshi_mlx.backend.device import on_gpu
from moshi_mlx.mimi import Mimi, MimiConfig
from moshi_mlx.mimi.loading import config_beside, load_mlx_mimi
from tests.support.models.mimi_goldens import ALL, TINY, frames_of, golden
from tests.support.models.mimi_shapes import narrow_config

FRAME = 1920
MADE_ANEW = {"Load", "RandomBits"}  # weights read or drawn within a frame
KERNELS = {"encode": 164, "decode": 143}  # at Kyutai's layers and filters, views left out


def from_file(compiled: bool) -> Mimi:
    return load_mlx_mimi(TINY, config_beside(TINY), ALL, mx.float32, compiled)


def made_up(compiled: bool) -> Mimi:
    return random_mimi(narrow_config(), compiled=compiled)


def frame_graphs(mimi: Mimi) -> dict[str, list[mx.array]]:
    """Direction -> the lazy outputs of one frame, of a model that never ran."""
    stream = mimi.stream()
    pcm, codes = mx.zeros(mimi.frame_samples), mx.zeros(mimi.num_codebooks, mx.int32)
    mx.eval(pcm, codes)
    encoded, decoded = stream.encode_lazy(pcm), stream.decode_lazy(codes)
    return {
        "encode": [encoded, *stream.encoder_state],
        "decode": [decoded, *stream.decoder_state],
    }


@pytest.mark.parametrize("make", [from_file, made_up])
@pytest.mark.parametrize("compiled", [True, False])
def test_no_weight_is_made_within_a_frame(make, compiled: bool) -> None:
    """A compiled function takes what it finds unevaluated into its graph, for good."""
    for direction, outputs in frame_graphs(make(compiled)).items():
        text = io.StringIO()
        mx.export_to_dot(text, *outputs)
        found = {name for name in MADE_ANEW if f'"{name}"' in text.getvalue()}
        assert not found, f"{direction}: {found}"


def test_the_kernels_of_a_frame_at_kyutais_layer_counts() -> None:
    with as_on_metal():
        graphs = frame_graphs(random_mimi(narrow_config(n_filters=64), compiled=True))
        counts = {direction: kernels(outputs) for direction, outputs in graphs.items()}
    for direction, found in counts.items():
        print(direction, sum(found.values()), found)
        assert sum(found.values()) <= KERNELS[direction]
        # One concatenation a transformer layer: keys and values stand in one slot.
        assert found["Concatenate"] <= 20


def test_compiled_it_gives_the_same_codes_and_the_same_sound() -> None:
    one, other = from_file(True).stream(), from_file(False).stream()
    for frame in frames_of(from_file(False), golden()["pcm"]):
        codes = one.encode(frame)
        np.testing.assert_array_equal(codes, other.encode(frame))
        np.testing.assert_array_equal(one.decode(codes), other.decode(codes))


def test_unless_told_it_is_compiled_on_a_gpu_alone() -> None:
    mimi = load_mlx_mimi(TINY, config_beside(TINY), ALL, mx.float32)
    plain = mimi._encode_frames == mimi.encode_step
    assert plain is not on_gpu()


@pytest.mark.parametrize("compiled", [True, False])
def test_loaded_on_one_thread_it_works_on_another(compiled: bool) -> None:
    mimi, heard = from_file(compiled), []

    def talk() -> None:
        stream = mimi.stream()
        codes = stream.encode(np.zeros(mimi.frame_samples, np.float32))
        heard.append(stream.decode(codes))

    thread = threading.Thread(target=talk)
    thread.start()
    thread.join()
    assert len(heard) == 1


@pytest.mark.parametrize("compiled", [True, False])
def test_a_streams_state_exists_before_its_first_frame(compiled: bool) -> None:
    """And stays as large: no view of a frame's activations is kept."""
    mimi = random_mimi(narrow_config(n_filters=64), compiled=compiled)
    frame = np.zeros(mimi.frame_samples, np.float32)
    warm = mimi.stream()
    warm.decode(warm.encode(frame))
    before = mx.get_active_memory()
    stream = mimi.stream()
    ready = mx.get_active_memory()
    assert ready - before >= sum(array.nbytes for array in stream.arrays)
    stream.decode(stream.encode(frame))
    assert mx.get_active_memory() - ready < 500_000  # 3.6 MB with views


@pytest.mark.long
def test_compiled_a_frame_at_kyutais_size_costs_no_more_than_uncompiled() -> None:
    streams = [random_mimi(MimiConfig(), compiled=compiled).stream() for compiled in (False, True)]
    spent: list[list[float]] = [[], []]
    for frame in np.random.default_rng(0).standard_normal((24, FRAME)).astype(np.float32) / 10:
        results = []
        for stream, times in zip(streams, spent, strict=True):
            start = time.process_time()
            codes = stream.encode(frame)
            results.append((codes, stream.decode(codes)))
            times.append(time.process_time() - start)
        for one, other in zip(*results, strict=True):
            np.testing.assert_array_equal(one, other)
    plain, compiled = (median(times[4:]) for times in spent)
    assert compiled <= 1.05 * plain
