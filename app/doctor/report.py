"""The doctor's report for people (one screen) and for bug reports (JSON without personal data)."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..audio.devices.device import Device
from ..machine.facts import Facts
from ..machine.verdict import Verdict, summary
from .checks import OK, PROBLEM, Finding, worst
from .speed import Speed

SCHEMA = "moshi-doctor"
SCHEMA_VERSION = 1
MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "problem": ("problem", "red")}


def show(lines: Sequence[Finding], console: Console) -> None:
    """Each line with its mark, what to do indented below it, and a last line that sums up."""
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for line in lines:
        mark, colour = MARKS[line.level]
        table.add_row(Text(mark, colour), line.title, Text(line.text))
        if line.advice and line.level != OK:
            table.add_row("", "", Text(f"-> {line.advice}", colour))
    console.print(table)
    console.print()
    console.print(Text(conclusion(lines), style=f"bold {MARKS[worst(list(lines))][1]}"))


def conclusion(lines: Sequence[Finding]) -> str:
    problems = sum(line.level == PROBLEM for line in lines)
    warnings = sum(line.level == "warning" for line in lines)
    if problems:
        return f"{_count(problems, 'problem')} to solve before Moshi can talk here."
    if warnings:
        return f"Ready, with {_count(warnings, 'warning')}."
    return "Ready: `moshi chat`."


def as_json(facts: Facts, lines: Sequence[Finding], speed: Speed | None) -> dict[str, Any]:
    """What a bug report needs and nothing that names a person: only fields listed here leave."""
    audio = facts.audio
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "worst": worst(list(lines)),
        "machine": machine(facts),
        "audio": {
            "inputs": [_device(d) for d in audio.devices if d.inputs],
            "outputs": [_device(d) for d in audio.devices if d.outputs],
            "permission": facts.microphone,
            "lid_closed": facts.lid_closed,
        },
        "big_processes_bytes": [size for _, size in facts.big_processes],
        "network": facts.network,
        "offline": facts.offline,
        "kyutai_moshi_mlx": facts.kyutai_package,
        "models": dict(facts.models),
        "speed": None if speed is None else speed.as_json(),
        "lines": [
            {
                "level": line.level,
                "title": line.title,
                "text": None if line.personal else line.text,
                "advice": line.advice or None,
            }
            for line in lines
        ],
    }


def machine(facts: Facts) -> dict[str, Any]:
    """The machine as it appears in every JSON document of `bench` and `doctor`."""
    return {
        "system": facts.system,
        "os_version": facts.os_version,
        "architecture": facts.machine,
        "rosetta": facts.rosetta,
        "virtual_machine": facts.virtual_machine,
        "chip": facts.chip,
        "gpu_cores": facts.gpu_cores,
        "memory_bytes": facts.memory_bytes,
        "power": asdict(facts.power),
        "memory_free_bytes": facts.memory_free_bytes,
        "memory_pressure": facts.memory_pressure,
        "swap_used_bytes": facts.swap_used_bytes,
        "disk_free_bytes": facts.disk_free_bytes,
        "python": facts.python,
        "mlx": facts.mlx.version,
        "backend": facts.mlx.backend,
        "device": facts.mlx.device,
        "working_set_bytes": facts.mlx.working_set_bytes,
        "moshi_local": facts.moshi_local,
    }


def speed_line(speed: Speed | None, why_not: str = "") -> Finding:
    """The five-second benchmark as a line of the screen."""
    if speed is None:
        text, advice = f"not measured: {why_not}", "measure it with `moshi bench`"
        return Finding("warning", "speed", text, advice)
    verdicts = speed.verdicts
    frames = _count(speed.frames, "frame")
    text = f"{summary(verdicts)} (predicted from {frames} of a part of the 7B)"
    return Finding(_level(verdicts), "speed", text, _advice(verdicts))


def _level(verdicts: Sequence[Verdict]) -> str:
    answers = {verdict.answer for verdict in verdicts}
    return OK if "yes" in answers else "warning" if "tight" in answers else PROBLEM


def _advice(verdicts: Sequence[Verdict]) -> str:
    if _level(verdicts) == PROBLEM:
        return "the 7B will lag on this machine; `--model nano` keeps up anywhere"
    return "measure it for minutes: `moshi bench --minutes 10`"


def _device(device: Device) -> dict[str, Any]:
    """Names of devices hold names of people ("Ada's AirPods"): only the kind leaves the machine."""
    return {
        "kind": "headphones" if device.is_headset else "other",
        "transport": device.transport,
        "source": device.source,
        "channels": device.inputs or device.outputs,
        "rate_hz": device.rate_hz,
        "default": device.default_input or device.default_output,
    }


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")
