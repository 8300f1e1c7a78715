"""Readers of single facts: the output of a system tool in, plain values out.

Each parser takes text, so that tests run on any machine with what a Mac prints.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from .power import Power, parse_pmset

TOOL_TIMEOUT_S = 3.0
CHILD_TIMEOUT_S = 4.5  # `import mlx.core` of a cold start takes over a second
PACKAGE = __name__.removesuffix(".machine.readers")  # "app" in a checkout, else "moshi_mlx.app"


def output_of(*command: str) -> str:
    """What a tool prints, "" if it isn't there, fails or takes too long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def child_command(*command: str, python: str = sys.executable) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of a module of this package, its name and its arguments."""
    module, *arguments = command
    environment = dict(os.environ)
    if PACKAGE == "app":  # a checkout that isn't installed
        root = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join([root, environment.get("PYTHONPATH", "")])
    # -P: a checkout that it is started in has a moshi_mlx too, without the program
    return [python, "-P", "-m", f"{PACKAGE}.{module}", *arguments], environment


def ask_child(
    *command: str, timeout_s: float = CHILD_TIMEOUT_S, python: str = sys.executable
) -> dict[str, Any] | None:
    """The JSON line that a module of this package prints in a process of its own.

    `command`: the module's name and its arguments. None if that process died or hung.
    """
    line, environment = child_command(*command, python=python)
    try:
        done = subprocess.run(
            line,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=environment,
        )
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    return answer if done.returncode == 0 and isinstance(answer, dict) else None


def in_parallel(output_of: Callable[..., str], *commands: tuple[str, ...]) -> list[str]:
    """What each tool prints; all of them take as long as the slowest."""
    with ThreadPoolExecutor(max_workers=len(commands)) as pool:
        return list(pool.map(lambda command: output_of(*command), commands))


def darwin(output_of: Callable[..., str] = output_of) -> dict[str, Any]:
    """Hardware facts of a Mac, from sysctl, vm_stat, ioreg, ps and sw_vers."""
    sysctl_text, ioreg, vm_stat, ps, version = in_parallel(
        output_of,
        (
            *("/usr/sbin/sysctl", "-i", "hw.memsize", "machdep.cpu.brand_string"),
            *("sysctl.proc_translated", "kern.hv_vmm_present"),
            *("kern.memorystatus_vm_pressure_level", "vm.swapusage"),
        ),
        ("/usr/sbin/ioreg", "-rc", "AGXAccelerator", "-d1"),
        ("/usr/bin/vm_stat",),
        ("/bin/ps", "-axo", "rss=,comm="),
        # Pythons built for an older macOS are told 16 where 26 runs
        ("/usr/bin/env", "SYSTEM_VERSION_COMPAT=0", "/usr/bin/sw_vers", "-productVersion"),
    )
    sysctl = parse_sysctl(sysctl_text)
    level = sysctl.get("kern.memorystatus_vm_pressure_level")
    cores = re.search(r'"gpu-core-count" = (\d+)', ioreg)
    return {
        "chip": sysctl.get("machdep.cpu.brand_string"),
        "rosetta": sysctl.get("sysctl.proc_translated") == "1",
        "virtual_machine": sysctl.get("kern.hv_vmm_present") == "1",
        "memory_bytes": _int(sysctl.get("hw.memsize")),
        "memory_free_bytes": parse_vm_stat(vm_stat),
        "swap_used_bytes": parse_swap(sysctl.get("vm.swapusage", "")),
        "memory_pressure": {"1": "normal", "2": "warning", "4": "critical"}.get(level or ""),
        "gpu_cores": int(cores[1]) if cores else None,
        "big_processes": parse_ps(ps),
    } | ({"os_version": version.strip()} if version.strip() else {})


def microphone() -> str | None:
    """What macOS lets this terminal do: "granted", "denied" or "not asked"."""
    return (ask_child("machine.probe", "microphone") or {}).get("permission")


def power() -> Power:
    """A Mac's power mode, battery and heat; nothing is known elsewhere."""
    if sys.platform != "darwin":
        return Power()
    return power_of_mac()


def power_of_mac() -> Power:
    settings, battery = in_parallel(
        output_of, ("/usr/bin/pmset", "-g"), ("/usr/bin/pmset", "-g", "batt")
    )
    asked = ask_child("machine.probe", "power") or {}
    found = parse_pmset(settings, battery)
    saves = asked.get("low_power_mode")
    return replace(
        found,
        low_power_mode=found.low_power_mode if saves is None else saves,
        thermal=asked.get("thermal"),
    )


def chip() -> str | None:
    """The processor's name, by one quick question."""
    if sys.platform == "darwin":
        return output_of("/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string").strip() or None
    return parse_cpuinfo(_read("/proc/cpuinfo"))


def parse_cpuinfo(text: str) -> str | None:
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found[1].strip() if found else None


def linux() -> dict[str, Any]:
    """Hardware facts of a Linux machine, from /proc."""
    memory = parse_meminfo(_read("/proc/meminfo"))
    total, free = memory.get("SwapTotal"), memory.get("SwapFree")
    return {
        "chip": parse_cpuinfo(_read("/proc/cpuinfo")),
        "virtual_machine": "hypervisor" in _read("/proc/cpuinfo"),
        "memory_bytes": memory.get("MemTotal"),
        "memory_free_bytes": memory.get("MemAvailable"),
        "swap_used_bytes": None if total is None or free is None else total - free,
        "big_processes": parse_ps(output_of("ps", "-eo", "rss=,comm=")),
    }


def parse_sysctl(text: str) -> dict[str, str]:
    """`name: value` lines."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs if value.strip()}


def parse_swap(text: str) -> int | None:
    """`total = 2048.00M  used = 1021.25M  free = ...` -> bytes used."""
    found = re.search(r"used = ([\d.]+)([KMG])", text)
    return int(float(found[1]) * {"K": 2**10, "M": 2**20, "G": 2**30}[found[2]]) if found else None


def parse_vm_stat(text: str) -> int | None:
    """Bytes a new program can take without swapping: free, inactive, speculative, purgeable."""
    size = re.search(r"page size of (\d+) bytes", text)
    if not size:
        return None
    names = "free|inactive|speculative|purgeable"
    pages = re.findall(rf"^Pages (?:{names}):\s+(\d+)\.", text, re.MULTILINE)
    return int(size[1]) * sum(map(int, pages))


def parse_meminfo(text: str) -> dict[str, int]:
    """/proc/meminfo in bytes."""
    return {m[1]: int(m[2]) * 1024 for m in re.finditer(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}


def parse_ps(text: str, least_bytes: int = 2**30, most: int = 3) -> tuple[tuple[str, int], ...]:
    """The largest programs but this one, (name without path, resident bytes)."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        rss, _, command = line.strip().partition(" ")
        name = command.strip().rpartition("/")[2]
        if rss.isdigit() and name:
            found[name] = found.get(name, 0) + int(rss) * 1024
    large = [(name, size) for name, size in found.items() if size >= least_bytes]
    return tuple(sorted(large, key=lambda pair: -pair[1])[:most])


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _int(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
