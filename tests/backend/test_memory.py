"""MLX's memory limits: set on Metal with these values, never touched elsewhere."""

import mlx.core as mx
import pytest

import moshi_mlx
from app.bench.subject import random_model, speech_config
from moshi_mlx import memory
from moshi_mlx.memory import CACHE_LIMIT_BYTES, Limits, limit_memory, limits_for, metal_info

GIB = 2**30
WORKING_SET = 12 * GIB
M2_16GB = {
    "device_name": "Apple M2",
    "memory_size": 16 * GIB,
    "max_recommended_working_set_size": WORKING_SET,
}
DEFAULTS = Limits(0, WORKING_SET * 3 // 2)  # MLX's own on such a Mac


class FakeMlx:
    """The two setters, with what they hold and every call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, held: Limits = DEFAULTS) -> None:
        self.held = {"wired": held.wired, "cache": held.cache}
        self.calls: list[tuple[str, int]] = []
        for name in self.held:
            monkeypatch.setattr(
                mx, f"set_{name}_limit", lambda value, name=name: self.set(name, value)
            )

    def set(self, name: str, value: int) -> int | None:
        self.calls.append((name, value))
        before, self.held[name] = self.held[name], value
        return before


def on_metal(monkeypatch: pytest.MonkeyPatch, **changes) -> None:
    facts = {k: v for k, v in {**M2_16GB, **changes}.items() if v is not None}
    monkeypatch.setattr(memory, "metal_info", lambda: facts)


@pytest.mark.parametrize("load", [moshi_mlx.load, moshi_mlx.load_lm])
def test_on_metal_loading_sets_both_limits(load, monkeypatch) -> None:
    fake = FakeMlx(monkeypatch)
    on_metal(monkeypatch)
    load("nano")
    assert fake.calls == [("wired", WORKING_SET), ("cache", CACHE_LIMIT_BYTES)]
    assert CACHE_LIMIT_BYTES <= GIB  # one user saw 13 GB


def test_made_up_weights_are_measured_with_the_same_limits(monkeypatch) -> None:
    fake = FakeMlx(monkeypatch)
    on_metal(monkeypatch)
    random_model(speech_config("nano"), "fp32", "nano", gpu=False)
    assert fake.held == {"wired": WORKING_SET, "cache": CACHE_LIMIT_BYTES}


@pytest.mark.parametrize("load", [moshi_mlx.load, moshi_mlx.load_lm])
def test_who_opts_out_is_left_alone(load, monkeypatch) -> None:
    fake = FakeMlx(monkeypatch)
    on_metal(monkeypatch)
    load("nano", memory_limits=False)
    assert fake.calls == []


@pytest.mark.parametrize(
    ("gpu", "metal"),
    [
        (False, False),  # Linux
        (False, True),  # a Mac whose user chose the CPU
        (True, False),  # CUDA
    ],
)
def test_other_backends_are_never_touched(gpu: bool, metal: bool, monkeypatch) -> None:
    fake = FakeMlx(monkeypatch)
    assert metal_info(gpu, lambda: metal, lambda: pytest.fail("asked")) is None
    if not mx.metal.is_available():
        assert limit_memory() is None
    memory.restore(None)
    assert fake.calls == []


def test_metal_is_recognized_by_mlx(monkeypatch) -> None:
    fake = FakeMlx(monkeypatch)
    found = metal_info(True, lambda: True, lambda: M2_16GB)
    assert limit_memory(found) == DEFAULTS
    assert fake.held == {"wired": WORKING_SET, "cache": CACHE_LIMIT_BYTES}


def test_this_machine_without_metal_loads_untouched(monkeypatch) -> None:
    if mx.metal.is_available():
        pytest.skip("this machine has Metal")
    fake = FakeMlx(monkeypatch)
    moshi_mlx.load_lm("nano")
    assert fake.calls == []


def test_what_a_program_has_set_itself_stays(monkeypatch) -> None:
    own = Limits(3 * GIB, 2 * GIB)
    fake = FakeMlx(monkeypatch, own)
    on_metal(monkeypatch)
    assert limit_memory() == own
    assert fake.held == {"wired": own.wired, "cache": own.cache}


def test_limits_can_be_undone_and_are_set_once(monkeypatch) -> None:
    fake = FakeMlx(monkeypatch)
    on_metal(monkeypatch)
    before = limit_memory()
    ours = dict(fake.held)
    limit_memory()  # a second model
    assert fake.held == ours
    memory.restore(before)
    assert fake.held == {"wired": DEFAULTS.wired, "cache": DEFAULTS.cache}


@pytest.mark.parametrize("working_set", [None, 0, "12 GB"])
def test_without_a_known_working_set_nothing_is_wired(working_set, monkeypatch) -> None:
    fake = FakeMlx(monkeypatch, Limits(0, 64 * GIB))
    on_metal(monkeypatch, max_recommended_working_set_size=working_set)
    limit_memory()
    assert fake.calls[0] == ("cache", CACHE_LIMIT_BYTES)
    assert fake.held == {"wired": 0, "cache": CACHE_LIMIT_BYTES}


@pytest.mark.parametrize(("memory_gib", "working_set_gib"), [(8, 5), (16, 12), (128, 107), (8, 8)])
def test_the_wired_limit_leaves_the_system_room(memory_gib: int, working_set_gib: int) -> None:
    """Above the working set `set_wired_limit` fails; all memory must never be wired."""
    found = limits_for(
        {
            "memory_size": memory_gib * GIB,
            "max_recommended_working_set_size": working_set_gib * GIB,
        }
    )
    assert found.wired is not None
    assert 0 < found.wired <= working_set_gib * GIB and found.wired < memory_gib * GIB
