"""The check whether a model fits, against what a run holds at most by MLX's own counter."""

import argparse
import gc
from pathlib import Path

import mlx.core as mx
import pytest

from app.bench.measure import Options, measure
from app.bench.memory import peak_bytes
from app.bench.runner import Plan
from app.bench.subject import Subject, expected_of_files, from_random, mimi_config, speech_config
from app.commands import bench
from moshi_mlx.hub import NANO
from moshi_mlx.mimi import MimiConfig
from tests.support.fakes.doctor_machines import LINUX
from tests.support.models.bench_shapes import small_shape

# Rings of 100 MB, tables of 8 MB: each would be missed by the check's 3 %.
WIDE = {"dim": 512, "num_layers": 4, "num_heads": 8, "context": 3000, "text_card": 8000}


def measured(subject: Subject) -> float:
    """Peak of a run with all closer looks / what was foretold; nothing of it stays."""
    company = mx.ones((10_000_000,))  # what other tests left: no part of the run
    gc.collect()
    mx.eval(company)
    before = mx.get_active_memory()
    run = measure(subject, Options(Plan(6), context_sweep=True, trace=True), 10.0, lambda *_: None)
    assert run.recording.failure is None and subject.expected_bytes is not None
    gc.collect()
    assert abs(mx.get_active_memory() - before) < 2**20
    del company
    return run.memory.peak_bytes / subject.expected_bytes


@pytest.mark.parametrize(("recipe", "kv_bits"), [("fp32", 16), ("q4", 8), ("q8", 16)])
def test_a_wide_model(recipe: str, kv_bits: int, tmp_path: Path) -> None:
    shape = str(small_shape(tmp_path, **WIDE))
    (subject,) = from_random(shape, [recipe], LINUX, kv_bits)
    assert measured(subject) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("recipe", "kv_bits"), [("q8", 16), ("fp32", 8)])
def test_nano(recipe: str, kv_bits: int) -> None:
    (subject,) = from_random("nano", [recipe], LINUX, kv_bits)
    assert measured(subject) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("options", [[], ["--kv-bits", "8"], ["--codec", "mlx"]])
def test_the_real_nano(options: list[str]) -> None:
    """Its weights are read from files, which are there until its own are made."""
    parser = argparse.ArgumentParser()
    bench.configure(parser)
    args = parser.parse_args(["--model", "nano", *options])
    (subject,) = bench.subjects_from(args, LINUX)
    assert measured(subject) == pytest.approx(1, abs=0.03)


def test_what_is_not_foretold() -> None:
    """An adapter beside the weights: nothing is promised."""
    args = argparse.Namespace(
        lora="a.safetensors", codec="mlx", mimi=None, offline=True, kv_bits=16
    )
    assert expected_of_files(NANO, args, LINUX) is None


@pytest.mark.parametrize(
    ("recipe", "kv_bits", "least"), [("q4", 16, 6.0), ("q8", 16, 9.8), ("q4", 8, 5.2)]
)
def test_the_7b_is_counted_without_a_byte_of_it(recipe: str, kv_bits: int, least: float) -> None:
    """Weights and a full context alone are so many GB (docs/performance.md)."""
    gc.collect()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    found = peak_bytes(speech_config("moshi-7b"), recipe, "bfloat16", MimiConfig(), kv_bits)
    assert least < found / 1e9 < least + 1.2
    assert mx.get_peak_memory() - before < 2**20


def test_a_codec_of_other_sizes_is_counted() -> None:
    config = speech_config("nano")
    kyutai = peak_bytes(config, "q8", "float32", MimiConfig())
    assert kyutai - peak_bytes(config, "q8", "float32", mimi_config("nano")) > 300e6
