"""The facts of a machine: what Macs print is read right, and no probe can take the program down."""

import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.machine import probe, readers
from app.machine.chips import CHIPS, bandwidth_gb_s, chip_name
from app.machine.facts import GATHER_TIMEOUT_S, _mlx, cache_state, gather

VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               10000.
Pages active:                            300000.
Pages inactive:                           20000.
Pages speculative:                          500.
Pages throttled:                              0.
Pages wired down:                        150000.
Pages purgeable:                           1500.
"Translation faults":                 123456789.
"""
SYSCTL = """hw.memsize: 17179869184
machdep.cpu.brand_string: Apple M2
sysctl.proc_translated: 1
kern.hv_vmm_present: 0
kern.memorystatus_vm_pressure_level: 2
vm.swapusage: total = 2048.00M  used = 1021.25M  free = 1026.75M  (encrypted)
"""
IOREG = """+-o AGXAcceleratorG14G  <class AGXAcceleratorG14G, id 0x1000004a1>
    {
      "gpu-core-count" = 10
      "MetalPluginName" = "AGXMetalG14G"
    }
"""
PS = """3145728 /Applications/Safari.app/Contents/MacOS/Safari
1048576 /Users/ada/bin/llama-server
1048576 /Users/ada/bin/llama-server
  20480 /usr/sbin/cfprefsd
"""


def instead_of_python(folder: Path, does: str) -> str:
    """A program that is started for Python and does something else."""
    script = folder / "python"
    script.write_text(f"#!/bin/sh\n{does}\n")
    script.chmod(0o755)
    return str(script)


def test_a_macs_tools_are_read():
    printed = {"sysctl": SYSCTL, "vm_stat": VM_STAT, "ioreg": IOREG, "ps": PS, "env": "26.1\n"}
    assert readers.darwin(lambda tool, *_: printed[tool.rpartition("/")[2]]) == {
        "chip": "Apple M2",
        "rosetta": True,
        "virtual_machine": False,
        "memory_bytes": 16 * 2**30,
        "memory_free_bytes": 16384 * 32000,
        "swap_used_bytes": int(1021.25 * 2**20),
        "memory_pressure": "warning",
        "gpu_cores": 10,
        "big_processes": (("Safari", 3 * 2**30), ("llama-server", 2 * 2**30)),
        "os_version": "26.1",
    }


def test_a_mac_whose_tools_are_silent_leaves_everything_unknown():
    known = {k: v for k, v in readers.darwin(lambda *_: "").items() if v}
    assert known == {}


@pytest.mark.parametrize(
    ("brand", "cores", "memory", "expected"),
    [
        ("Apple M1", 7, 8, 68.25),
        ("Apple M2 Pro (Virtual)", None, 8, 200),
        ("Apple M3 Max", 30, 36, 300),
        ("Apple M3 Max", 40, 64, 400),
        ("Apple M4 Max", 32, 36, 410),
        ("Apple M4 Max", 40, 64, 546),
        ("Apple M4 Max", None, None, 410),  # the lower one where the size is unknown
        ("Apple M5 Max", 40, 128, 614),
        ("Apple M6", 12, 16, 153),
        ("Apple M6", 12, 24, 170),
        ("Apple M9 Hyper", 99, 64, None),
        ("AMD EPYC", None, 24, None),
    ],
)
def test_bandwidth_of_a_chip(brand, cores, memory, expected):
    assert bandwidth_gb_s(brand, cores, memory) == expected


def test_the_table_goes_from_small_to_large_and_ends_with_a_row_for_any_size():
    names = list(dict.fromkeys(row.name for row in CHIPS))
    for name in names:
        rows = [row for row in CHIPS if row.name == name]
        assert [r.bandwidth_gb_s for r in rows] == sorted(r.bandwidth_gb_s for r in rows)
        assert rows[-1].max_gpu_cores is None and rows[-1].max_memory_gb is None
    generations = {name.split()[0] for name in names}
    assert {"M1", "M2", "M3", "M4", "M5"} <= generations
    assert chip_name("Apple M2 Ultra") == "M2 Ultra"


@pytest.mark.parametrize(
    "within_s", [60.0, pytest.param(GATHER_TIMEOUT_S + 3, marks=pytest.mark.long)]
)
def test_facts_of_this_machine_come_without_raising_and_in_time(within_s):
    start = time.monotonic()
    facts = gather(("nobody/nothing",))
    assert time.monotonic() - start < within_s
    assert facts.mlx.backend in ("cpu", "cuda", "metal")
    assert facts.memory_bytes and facts.disk_free_bytes
    assert facts.models == {}


class Backends:
    """MLX's modules and its device, as they are on one machine."""

    def __init__(self, metal: bool, cuda: bool, **info: object) -> None:
        self.metal = SimpleNamespace(is_available=lambda: metal)
        self.cuda = SimpleNamespace(is_available=lambda: cuda)
        self.info = info

    def device_info(self) -> dict[str, object]:
        return self.info


@pytest.mark.parametrize(
    ("backends", "backend", "working_set"),
    [
        (Backends(True, False, device_name="Apple M2", max_recommended_working_set_size=5),
         "metal", 5),
        (Backends(False, True, device_name="NVIDIA L4"), "cuda", None),
        (Backends(False, False, architecture="x86_64"), "cpu", None),
    ],
)  # fmt: skip
def test_which_backend_this_is(backends, backend, working_set):
    found = probe.mlx(backends)
    assert (found["backend"], found["working_set_bytes"]) == (backend, working_set)
    assert found["device"] == backends.info.get("device_name")


def test_a_probe_that_dies_is_an_answer_not_a_crash(tmp_path):
    """What `import mlx.core` does on some Macs without a Metal device: abort, signal 6."""
    aborts = instead_of_python(tmp_path, "kill -ABRT $$")
    ask = partial(readers.ask_child, python=aborts)
    assert ask("machine.probe", "mlx") is None
    mlx = _mlx(ask)
    assert mlx.backend is None and mlx.version and "Metal" in (mlx.why or "")


def test_a_probe_that_hangs_is_ended(tmp_path):
    hangs = instead_of_python(tmp_path, "exec sleep 60")
    assert readers.ask_child("machine.probe", "audio", timeout_s=0.3, python=hangs) is None


def test_a_reader_that_raises_leaves_its_fact_unknown():
    def broken():
        raise RuntimeError("no such tool")

    facts = gather(network=False, audio=False, hardware=broken)
    assert facts.memory_bytes is None and facts.network is None


def test_cache_state_tells_complete_from_partial(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "a1" * 20
    assert cache_state("a/whole") is None
    folder = tmp_path / "models--a--whole"
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    (snapshot / "tokenizer_spm_32k_3.model").touch()
    assert cache_state("a/whole") == "partial"
    (snapshot / "model.q4.safetensors").touch()
    (snapshot / "tokenizer-e351c8d8-checkpoint125.safetensors").touch()
    assert cache_state("a/whole") == "complete"
    assert list(tmp_path.iterdir()) == [folder]
