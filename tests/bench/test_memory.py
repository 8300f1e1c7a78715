"""The check whether a model fits, against what a run holds at most by MLX's own counter."""

import argparse
import gc
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import mlx.core as mx
import pytest

from app.bench.kinds import Converses
from app.bench.measure import Options, Run, measure
from app.bench.memory import peak_bytes
from app.bench.runner import Plan
from app.bench.screen import memory
from app.bench.subject import (
    Subject,
    codecs_of,
    expected_of_files,
    from_random,
    mimi_config,
    speech_config,
)
from app.commands import bench
from app.machine.random_model import random_lm
from benchmarks.random_adapter import random_adapter
from moshi_mlx.codec.rust import rust_available, talk_bytes
from moshi_mlx.config.reading import load_config
from moshi_mlx.errors import MoshiError
from moshi_mlx.hub import NANO
from moshi_mlx.mimi import MimiConfig
from moshi_mlx.mimi.config import KYUTAI
from moshi_mlx.moshi import load
from moshi_mlx.weights.loading import save_lm
from tests.support.fakes.cpu_codec import SIXTEEN
from tests.support.fakes.doctor_machines import LINUX, M4_MAX
from tests.support.models.bench_shapes import small_shape
from tests.support.models.mimi_goldens import full_size_file
from tests.support.process_memory import resident_bytes
from tests.support.processes.bench_process import ROOT

# Without a tenth of its rings, the codes of 8 bit or the larger table it would be 4 % less or more:
# the check's 3 % find each. More than what making its weights takes (`random_model.PATTERN`) hides.
WIDE = {"dim": 256, "num_layers": 4, "num_heads": 4, "context": 6000}
ADAPTED = {"dim": 512, "num_layers": 4, "num_heads": 8, "text_card": 4000}

FolderOf = Callable[[str, int], Path]  # of a model of a recipe and a context

# Its times tell nobody anything: as few frames as come to every look.
ALL_LOOKS = Options(Plan(2), context_sweep=True, trace=True, lm_frames=1)
SHORT = Options(Plan(2, at_pace=True), lm_frames=1)  # without a second run at a talk's pace


def measured(subject: Subject, options: Options) -> float:
    """Peak of a run / what was foretold."""
    return ratio(run_of(subject, options))


def ratio(run: Run) -> float:
    assert run.expected_bytes is not None
    return run.memory.peak_bytes / run.expected_bytes


def run_of(subject: Subject, options: Options) -> Run:
    """A run; nothing of it stays."""
    company = mx.ones((10_000_000,))  # what other tests left: no part of the run
    gc.collect()
    mx.eval(company)
    before = mx.get_active_memory()
    run = measure(subject, options, 10.0, lambda *_: None)
    assert run.recording.failure is None
    gc.collect()
    assert abs(mx.get_active_memory() - before) < 2**20
    del company
    return run


def arguments(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    bench.configure(parser)
    return parser.parse_args(argv)


def subject_of(*argv: str) -> Subject:
    (subject,) = bench.subjects_from(arguments(*argv), LINUX)
    return subject


@pytest.mark.parametrize(
    ("recipe", "kv_bits", "text_card"), [("fp32", 16, 8000), ("q4", 8, 24_000), ("q8", 16, 24_000)]
)
def test_a_wide_model(recipe: str, kv_bits: int, text_card: int, tmp_path: Path) -> None:
    shape = str(small_shape(tmp_path, **WIDE, text_card=text_card))
    (subject,) = from_random(shape, [recipe], LINUX, kv_bits)
    assert measured(subject, ALL_LOOKS) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("options", [[], ["--kv-bits", "8"]])
def test_the_real_nano(options: list[str]) -> None:
    """Its weights are read from files, which are there until its own are made."""
    subject = subject_of("--model", "nano", *options)
    assert measured(subject, SHORT) == pytest.approx(1, abs=0.03)


@pytest.fixture(scope="module")
def adapted_folder(tmp_path_factory) -> FolderOf:
    """Models, each made once, with an adapter in a folder of its own."""

    @cache
    def made(recipe: str, context: int) -> Path:
        place = tmp_path_factory.mktemp("adapted")
        folder = model_folder(place, recipe, **ADAPTED, context=context)
        (folder / "adapter").mkdir()
        random_adapter(load_config(folder), 64, folder / "adapter" / "one.safetensors")
        return folder

    return made


@pytest.mark.parametrize(
    ("recipe", "context", "gpu", "more_bytes"),
    [
        ("fp32", 3000, False, 0),  # merged before rings are there: nothing more
        ("bf16", 100, False, 1.3e6),  # half of what is held later is read
        ("bf16", 100, True, 14e6),
        ("q4", 100, False, 10e6),
    ],
)
def test_with_an_adapter(
    recipe: str, context: int, gpu: bool, more_bytes: float, adapted_folder: FolderOf
) -> None:
    """Merged, or beside weights that are quantized; the short context's peak is that of loading.

    A GPU keeps weights as they are stored: so does this CPU where it's told to.
    """
    folder = adapted_folder(recipe, context)
    adapter = folder / "adapter" / "one.safetensors"
    given = ["--model", str(folder), "--codec", "mlx"]
    dtype = "bfloat16" if gpu else None
    expected = expected_of_files(folder, arguments(*given, "--lora", str(adapter)), gpu)
    alone = expected_of_files(folder, arguments(*given), gpu)
    assert expected["mlx"] - alone["mlx"] == pytest.approx(more_bytes, rel=0.3)

    def build() -> Converses:
        return Converses(load(folder, "mlx", dtype, offline=True, lora=adapter))

    run = run_of(Subject("adapted", recipe, False, build, expected), SHORT)
    assert ratio(run) == pytest.approx(1, abs=0.03)


@pytest.fixture(scope="module")
def kyutai_sized(tmp_path_factory) -> Iterator[Path]:
    """A small model whose Mimi has Kyutai's sizes: rustymimi can take it."""
    folder = tmp_path_factory.mktemp("kyutai")
    wide = ADAPTED | SIXTEEN | {"card": 2048, "context": 3000}
    with full_size_file() as mimi:
        yield model_folder(folder, "q4", mimi, **wide)


@pytest.mark.skipif(not rust_available(), reason="rustymimi has no wheel for this Python")
@pytest.mark.parametrize("codec", [pytest.param("mlx", marks=pytest.mark.long), "rust", "auto"])
def test_with_a_codec_of_kyutais_sizes(codec: str, kyutai_sized: Path) -> None:
    """`auto` tries MLX's before it takes the faster one, and either peak is told."""
    subject = subject_of("--model", str(kyutai_sized), "--codec", codec)
    assert set(subject.expected_bytes) == ({"mlx", "rust"} if codec == "auto" else {codec})
    run = run_of(subject, SHORT)
    assert ratio(run) == pytest.approx(1, abs=0.03)
    if run.codec == "mlx":
        assert run.beside_bytes == 0 and "rustymimi" not in memory(run)
    else:
        assert run.beside_bytes == talk_bytes(12) and "; rustymimi 0.72 GB beside it" in memory(run)


@pytest.mark.skipif(not rust_available(), reason="rustymimi has no wheel for this Python")
@pytest.mark.skipif(resident_bytes() is None, reason="counted on Linux alone")
def test_what_rustymimi_holds_beside_mlx(kyutai_sized: Path) -> None:
    """Within a tenth: the system's count has more in it than this codec."""
    code = (
        "import sys, mlx.core as mx\n"
        "from moshi_mlx.codec.rust import RustCodec\n"
        "from tests.support.process_memory import resident_bytes\n"
        "before = resident_bytes()\n"
        "stream = RustCodec(sys.argv[1], 8).stream()\n"
        "print(resident_bytes() - before, mx.get_active_memory())\n"
    )
    command = [sys.executable, "-c", code, str(kyutai_sized / "mimi.safetensors")]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    held, of_mlx = map(int, child.stdout.split())
    assert held == pytest.approx(talk_bytes(0), rel=0.1) and of_mlx == 0


def test_which_codecs_a_model_may_come_to() -> None:
    nano = MimiConfig.from_file(NANO / "mimi_config.json")
    assert codecs_of("auto", KYUTAI, rust=True) == ("mlx", "rust")
    assert codecs_of("auto", KYUTAI, rust=False) == codecs_of("auto", nano, rust=True) == ("mlx",)
    assert codecs_of("rust", KYUTAI) == ("rust",) and codecs_of("mlx", KYUTAI) == ("mlx",)


def test_a_model_is_refused_by_what_it_will_hold(kyutai_sized: Path) -> None:
    """An adapter and rustymimi count too; the 700 MB for all else are no part of this."""
    alone = subject_of("--model", str(kyutai_sized), "--codec", "rust").expected_bytes["rust"]
    need = alone + talk_bytes(0) + 700_000_000
    args = arguments("--model", str(kyutai_sized), "--codec", "rust")
    for usable, fits in ((need, True), (need - 10**6, False)):
        mac = replace(M4_MAX, mlx=replace(M4_MAX.mlx, working_set_bytes=usable))
        if fits:
            assert bench.subjects_from(args, mac)
            continue
        with pytest.raises(MoshiError, match=r"q4 needs 1\.\d GB of memory") as caught:
            bench.subjects_from(args, mac)
        assert "\n" not in str(caught.value)


def model_folder(folder: Path, recipe: str, mimi: Path | None = None, **shape: object) -> Path:
    """What `--model` takes: random weights with nano's tokenizer, and its Mimi or another."""
    config = small_shape(folder, **shape)
    if mimi is not None:
        shutil.copyfile(mimi.with_name("mimi_config.json"), folder / "mimi_config.json")
        (folder / "mimi.safetensors").hardlink_to(mimi)
    else:
        shutil.copyfile(NANO / "mimi.safetensors", folder / "mimi.safetensors")
    shutil.copyfile(NANO / "tokenizer.model", folder / "tokenizer.model")
    names = {"moshi_name": "model.safetensors", "mimi_name": "mimi.safetensors"}
    names |= {"tokenizer_name": "tokenizer.model"}
    config.write_text(json.dumps(json.loads(config.read_text()) | names))
    save_lm(random_lm(load_config(folder), recipe, "float32"), folder / "model.safetensors")
    return folder


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
