"""`moshi bench` of every kind of model: what is heard, spoken and translated."""

import io
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from app.bench import screen
from app.bench.document import Bench, run_json
from app.bench.floor import Bandwidth
from app.bench.html import page
from app.bench.measure import Options, Run, measure
from app.bench.runner import Plan
from app.bench.subject import from_model, from_random
from moshi_mlx.config.presets import PRESETS, raw_preset
from moshi_mlx.errors import MoshiError, UsageError
from tests.support.fakes.doctor_machines import LINUX
from tests.support.models.bench_shapes import small_shape
from tests.support.models.small_speaker import GOLDEN, with_codec

FRAMES = 4
NARROW = {
    **{"dim": 128, "num_heads": 2, "num_layers": 2, "context": 64, "text_card": 100, "card": 256},
    **{"depformer_dim": 64, "depformer_num_heads": 2, "depformer_num_layers": 1},
    **{"depformer_dim_feedforward": 288, "mimi_config_name": "mimi_config.json"},
}
STREAMS = {
    "stt-1b": {"n_q": 8, "delays": [0] * 9},
    "tts-1.6b": {
        **{"n_q": 8, "dep_q": 8, "delays": [0, 0, *[2] * 7]},
        "depformer_weights_per_step_schedule": [0, 1, 2, 3, 3, 4, 4, 4],
    },
    "tts-0.75b": {
        **{"n_q": 4, "dep_q": 4, "delays": [0, 0, 2, 2, 2]},
        "depformer_weights_per_step_schedule": [0, 1, 2, 2],
    },
    "hibiki-1b": {"n_q": 8, "dep_q": 4, "delays": [0, *[0, 2, 2, 2] * 2]},
    "hibiki-zero": {
        **{"n_q": 8, "dep_q": 4, "delays": [0, *[0, 2, 2, 2] * 2]},
        "depformer_weights_per_step_schedule": [0, 1, 2, 2],
    },
}
PARTS = {
    "stt-1b": {"encode", "lm"},
    "tts-1.6b": {"lm", "decode"},
    "tts-0.75b": {"lm", "decode"},
    "hibiki-1b": {"encode", "lm", "decode"},
    "hibiki-zero": {"encode", "lm", "decode"},
}


def narrow(folder: Path, preset: str, **changes: Any) -> str:
    """A published model's shape, narrow, beside a small codec."""
    raw: Mapping[str, Any] = {**raw_preset(preset), **NARROW, **STREAMS[preset], **changes}
    if "control" in raw.get("conditioners", {}):
        raw["conditioners"]["control"]["lut"]["dim"] = raw["dim"]
    return str(small_shape(folder, **raw))


@pytest.fixture(scope="module", params=STREAMS)
def measured(request, tmp_path_factory) -> tuple[str, Run]:
    """A run with all closer looks."""
    folder = tmp_path_factory.mktemp(request.param)
    (subject,) = from_random(narrow(folder, request.param), ["fp32"], LINUX)
    options = Options(Plan(FRAMES), context_sweep=True, trace=True, lm_frames=1)
    return request.param, measure(subject, options, 10.0, lambda *_: None)


def test_a_frame_has_the_parts_of_its_kind(measured) -> None:
    kind, run = measured
    assert len(run.recording.frames) == FRAMES and run.recording.failure is None
    assert run.paced is not None and run.paced.count == FRAMES
    timed = {stage for stage, ms in run.typical_ms.items() if ms and stage != "host"}
    assert timed == PARTS[kind]
    assert sum(run.typical_ms.values()) == pytest.approx(run.timer.sum_ms)
    assert run.split.uncut_ms > 0 and (run.split.depth_ms > 0) and len(run.context_ms) == 4
    assert len(run.trace) == FRAMES
    assert (run.response_latency_ms is None) == (not kind.startswith("hibiki"))


def test_what_it_holds_at_most_was_foretold(measured) -> None:
    _, run = measured
    assert run.memory.peak_bytes == pytest.approx(run.expected_bytes, rel=0.03)


FOLDERS = {
    "dsm_stt": {"encode", "lm"},
    "dsm_tts": {"lm", "decode"},
    "dsm_tts_cfg": {"lm", "decode"},
    "dsm_hibiki": {"encode", "lm", "decode"},
    "dsm_hibiki_zero": {"encode", "lm", "decode"},
}


def asked(folder: Path, **options: Any) -> Namespace:
    usual = {"revision": None, "offline": True, "codec": "auto", "kv_bits": 16}
    parts = {"mimi": None, "tokenizer": None, "lora": None}
    return Namespace(**{**usual, **parts, "model": str(folder), **options})


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_is_measured_as_what_it_is(kind: str, tmp_path: Path) -> None:
    """With real files: small ones of Kyutai's PyTorch."""
    folder = GOLDEN / kind if kind == "dsm_stt" else with_codec(tmp_path / kind, kind)
    subject = from_model(asked(folder), str(folder), LINUX)
    run = measure(subject, Options(Plan(4, at_pace=True), lm_frames=1), 10.0, lambda *_: None)
    assert len(run.recording.frames) == 4 and run.recording.failure is None
    assert {part for part, ms in run.typical_ms.items() if ms and part != "host"} == FOLDERS[kind]
    assert (run.subject.random, run.subject.model) == (False, folder.name)
    # of so small a model what a frame computes is the larger part
    assert run.memory.peak_bytes == pytest.approx(run.expected_bytes, abs=5e6)


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("dsm_stt", {"codec": "rust"}, "only listens: its codec runs in MLX, leave --codec out"),
        ("dsm_tts", {"tokenizer": "x"}, "only speaks, with its own tokenizer: leave --tokenizer"),
    ],
)
def test_what_a_folder_does_not_take_is_wrong_usage(kind: str, options: dict, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        from_model(asked(GOLDEN / kind, **options), str(GOLDEN / kind), LINUX)


@pytest.mark.parametrize("kind", ["tts-1.6b", "tts-0.75b"])
def test_a_wide_speech_is_foretold(kind: str, tmp_path: Path) -> None:
    """What it attends to of voices, and a second row where it is guided by one: tens of MB here,
    each of which would be missed."""
    wide = {"dim": 256, "num_heads": 4, "num_layers": 6, "context": 1000}
    (subject,) = from_random(narrow(tmp_path, kind, **wide), ["fp32"], LINUX)
    run = measure(subject, Options(Plan(2, at_pace=True), lm_frames=1), 10.0, lambda *_: None)
    assert run.memory.peak_bytes == pytest.approx(run.expected_bytes, rel=0.03)


def test_every_report_shows_it(measured) -> None:
    _, run = measured
    bench = Bench(LINUX, Plan(FRAMES), Bandwidth(10.0, "as given"), [run])
    out = io.StringIO()
    screen.show(bench, Console(file=out, width=120))
    row = next(line for line in out.getvalue().splitlines() if line.startswith("fp32"))
    assert row.split()[-1] == ("-" if run.response_latency_ms is None else "ms")
    assert run_json(run)["response_latency_ms"] == run.response_latency_ms
    assert "<h2>fp32</h2>" in page(bench)


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "helium-2b"])
def test_every_published_shape_is_a_subject(name: str) -> None:
    """Its memory is counted without a byte of it."""
    (subject,) = from_random(name, ["q4"], LINUX)
    assert subject.model == name and subject.expected_bytes["mlx"] > 0.5e9


def test_a_text_model_has_no_frame() -> None:
    with pytest.raises(MoshiError, match="neither hears nor speaks"):
        from_random("helium-2b", ["q4"], LINUX)
