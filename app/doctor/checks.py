"""The doctor's lines: facts in, "ok", "warning" or "problem" out, each with what to do."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from moshi_mlx.config.presets import raw_preset
from moshi_mlx.config.reading import parse_config
from moshi_mlx.weights.recipes import ADVISED

from ..audio.devices.device import Device
from ..machine import verdict
from ..machine.facts import Facts
from ..machine.power import brakes

OK, WARNING, PROBLEM = "ok", "warning", "problem"
OLDEST_MACOS = (14, 0)
RESIDENT_MACOS = (15, 0)  # residency sets: before, MLX's wired limit does nothing
SWAP_WARNING_BYTES = 2 * 2**30
CPU_MEMORY_SHARE = 0.8  # of all memory, where Metal doesn't say what it recommends
SETTINGS_MICROPHONE = "System Settings > Privacy & Security > Microphone"


@dataclass(frozen=True)
class Finding:
    """One line of the report. `personal`: the text names a device or a program."""

    level: str
    title: str
    text: str
    advice: str = ""
    personal: bool = False


def check(facts: Facts) -> list[Finding]:
    """Every line but the speed test, in the order of the screen."""
    return [line for part in CHECKS for line in part(facts)]


def system(facts: Facts) -> list[Finding]:
    chip = (facts.chip or "unknown chip").strip()
    cores = f", {facts.gpu_cores} GPU cores" if facts.gpu_cores else ""
    memory = f", {facts.memory_gb:.0f} GB" if facts.memory_gb else ""
    text = f"{chip}{cores}{memory}, "
    if facts.system != "Darwin" and facts.mlx.backend == "cuda":
        return [Finding(OK, "machine", f"{text}{facts.system} {facts.os_version}")]
    if facts.system != "Darwin":
        advice = "Moshi runs here; the 7B in real time needs a Mac or an NVIDIA card"
        return [Finding(WARNING, "machine", f"{text}{facts.system} {facts.os_version}", advice)]
    text += f"macOS {facts.os_version}"
    if version_of(facts.os_version) < OLDEST_MACOS:
        advice = "MLX needs macOS 14 or newer: update in System Settings > General"
        return [Finding(PROBLEM, "machine", text, advice)]
    if version_of(facts.os_version) < RESIDENT_MACOS:
        advice = (
            "before macOS 15 the weights can't be kept resident: the first answer after a pause "
            "may come late; update in System Settings > General"
        )
        return [Finding(WARNING, "machine", text, advice)]
    if facts.virtual_machine:
        advice = "speed and Metal differ from the Mac itself: run it outside of the machine"
        return [Finding(WARNING, "machine", f"{text}, virtual machine", advice)]
    return [Finding(OK, "machine", text)]


def python(facts: Facts) -> list[Finding]:
    text = f"{facts.python}, {facts.machine}"
    if facts.system == "Darwin" and (facts.rosetta or facts.machine != "arm64"):
        how = "runs under Rosetta" if facts.rosetta else "is built for Intel"
        advice = (
            f"this Python {how}, and MLX needs a native one: `uv python install 3.12` in a "
            "terminal that isn't opened with Rosetta"
        )
        return [Finding(PROBLEM, "python", text, advice)]
    if not (3, 11) <= version_of(facts.python) < (3, 15):
        advice = "use Python 3.11 to 3.14: `uv python install 3.12`"
        return [Finding(PROBLEM, "python", text, advice)]
    return [Finding(OK, "python", text)]


def mlx(facts: Facts) -> list[Finding]:
    found = facts.mlx
    if found.version is None:
        return [Finding(PROBLEM, "mlx", "not installed", "install it: `pip install mlx`")]
    text = f"{found.version} on {found.backend or 'nothing'}"
    if found.device:
        text += f" ({found.device})"
    if found.backend is None:
        advice = (
            "Metal isn't visible in virtual machines and in sessions without a screen (ssh, cron): "
            "start it in a terminal on the Mac itself"
        )
        text = f"{found.version}: {found.why or 'could not start'}"
        return [Finding(PROBLEM, "mlx", text, advice)]
    if found.backend == "cpu" and facts.system == "Darwin":
        advice = "no Metal device was found, and the CPU is too slow: is this a virtual machine?"
        return [Finding(PROBLEM, "mlx", text, advice)]
    if found.backend == "cpu":
        return [Finding(WARNING, "mlx", text, "the CPU is too slow for the 7B; `nano` runs on it")]
    return [Finding(OK, "mlx", text)]


def usable_memory_bytes(facts: Facts) -> float | None:
    """What a model may fill: Metal's recommendation, else a share of all memory."""
    if facts.mlx.working_set_bytes:
        return float(facts.mlx.working_set_bytes)
    return facts.memory_bytes * CPU_MEMORY_SHARE if facts.memory_bytes else None


def memory(facts: Facts) -> list[Finding]:
    usable = usable_memory_bytes(facts)
    if usable is None:
        return [Finding(WARNING, "memory", "could not be read", "q4 needs a Mac with 16 GB")]
    config = parse_config(raw_preset("moshi-7b"))
    needs = {recipe: verdict.memory_need_bytes(config, recipe) for recipe in ADVISED[::-1]}
    fits = [
        f"{name} {_gb(size)} {'fits' if size <= usable else 'no'}" for name, size in needs.items()
    ]
    text = f"{_gb(usable)} usable: {', '.join(fits)}"
    if facts.rustymimi:
        more = verdict.RUSTYMIMI_BYTES - verdict.MIMI_BYTES
        text += f"; {_gb(more)} more after four minutes of talk with the codec rustymimi"
    if needs["q4"] > usable:
        advice = "the 7B doesn't fit in this machine; `--model nano` runs anywhere"
        return [Finding(PROBLEM, "memory", text, advice)]
    if facts.memory_free_bytes is not None and facts.memory_free_bytes < needs["q4"]:
        advice = f"only {_gb(facts.memory_free_bytes)} are free now: close other programs first"
        return [Finding(WARNING, "memory", text, advice)]
    return [Finding(OK, "memory", text)]


def pressure(facts: Facts) -> list[Finding]:
    names = ", ".join(f"{name} {_gb(size)}" for name, size in facts.big_processes)
    swap = facts.swap_used_bytes or 0
    text = f"swap {_gb(swap)}" + (f", largest: {names}" if names else "")
    if facts.memory_pressure in ("warning", "critical"):
        text = f"memory pressure {facts.memory_pressure}, {text}"
        advice = "the Mac is short of memory and would stutter: close the programs named"
        return [Finding(WARNING, "other programs", text, advice, personal=True)]
    if swap > SWAP_WARNING_BYTES:
        advice = "memory has been moved to disk: close programs, or restart before talking"
        return [Finding(WARNING, "other programs", text, advice, personal=True)]
    return [Finding(OK, "other programs", text, personal=True)]


def power(facts: Facts) -> list[Finding]:
    """What a Mac may use of its speed just now; elsewhere nobody tells."""
    found = facts.power
    if facts.system != "Darwin" or not str(found):
        return []
    slowed = brakes(found)
    if slowed:
        return [Finding(WARNING, "power", str(found), "; ".join(slowed))]
    return [Finding(OK, "power", str(found))]


def disk(facts: Facts) -> list[Finding]:
    free = facts.disk_free_bytes
    need = verdict.download_bytes(parse_config(raw_preset("moshi-7b")), "q4")
    if free is None:
        return [Finding(WARNING, "disk", "could not be read", f"the q4 download is {_gb(need)}")]
    text = f"{_gb(free)} free, the q4 download is {_gb(need)}"
    if free < need and "complete" not in facts.models.values():
        return [Finding(PROBLEM, "disk", text, "make room, or set HF_HOME to another disk")]
    return [Finding(OK, "disk", text)]


def packages(facts: Facts) -> list[Finding]:
    if facts.kyutai_package is None:
        return [Finding(OK, "packages", f"moshi-local {facts.moshi_local or 'from a checkout'}")]
    text = f"Kyutai's moshi_mlx {facts.kyutai_package} is in the same environment"
    advice = (
        "both are imported as moshi_mlx: `pip uninstall moshi_mlx`, then install moshi-local again"
    )
    return [Finding(PROBLEM, "packages", text, advice)]


def microphone(facts: Facts) -> list[Finding]:
    device = facts.audio.input
    if device is None:
        text = facts.audio.why or "no microphone"
        return [Finding(PROBLEM, "microphone", text, "connect a microphone or a headset", True)]
    text = _device(device)
    if facts.lid_closed and device.is_internal_microphone:
        advice = "the lid is closed, which disconnects it: open the lid, or connect another"
        return [Finding(PROBLEM, "microphone", text, advice, True)]
    if facts.microphone == "denied":
        advice = f"this terminal may not use it: allow it in {SETTINGS_MICROPHONE}, then restart it"
        return [Finding(PROBLEM, "microphone", text, advice, True)]
    if facts.microphone == "not asked":
        advice = "macOS is asked at the first talk, which begins once you allow it"
        return [Finding(WARNING, "microphone", text, advice, True)]
    if device.is_bluetooth_microphone:
        advice = "a Bluetooth microphone lowers the sound of both sides: the built-in one is better"
        return [Finding(WARNING, "microphone", text, advice, True)]
    return [Finding(OK, "microphone", text, personal=True)]


def speaker(facts: Facts) -> list[Finding]:
    device = facts.audio.output
    if device is None:
        text = facts.audio.why or "no output"
        return [Finding(PROBLEM, "speaker", text, "connect speakers or headphones", True)]
    if device.is_headset:
        return [Finding(OK, "speaker", f"{_device(device)}, headphones", personal=True)]
    if device.transport == "airplay":
        advice = "AirPlay plays two seconds late, too late to talk: choose another output"
        return [Finding(PROBLEM, "speaker", _device(device), advice, True)]
    text = f"{_device(device)}, echo cancellation will be on"
    return [Finding(OK, "speaker", text, personal=True)]


def network(facts: Facts) -> list[Finding]:
    here = ", ".join(f"{name} {state}" for name, state in facts.models.items())
    lines = []
    if facts.offline:
        advice = "unset it to download models"
        lines = [Finding(WARNING, "network", "HF_HUB_OFFLINE is set", advice)]
    elif facts.network is None:
        lines = [Finding(WARNING, "network", "not asked", "")]
    elif not facts.network:
        advice = "a download isn't possible now; complete models and `nano` work without"
        lines = [Finding(WARNING, "network", "Hugging Face can't be reached", advice)]
    else:
        lines = [Finding(OK, "network", "Hugging Face can be reached")]
    if "partial" in facts.models.values():
        return [
            *lines,
            Finding(WARNING, "models", here, "a partial download goes on where it stopped"),
        ]
    return [*lines, Finding(OK, "models", here or "none downloaded yet; `nano` is in the package")]


CHECKS: tuple[Callable[[Facts], list[Finding]], ...] = (
    *(system, python, mlx, memory, pressure, power, disk, packages, microphone, speaker, network),
)


def version_of(text: str) -> tuple[int, ...]:
    """ "14.2.1" -> (14, 2); () for anything else."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def worst(lines: list[Finding]) -> str:
    order: Mapping[str, int] = {OK: 0, WARNING: 1, PROBLEM: 2}
    return max((line.level for line in lines), key=order.__getitem__, default=OK)


def _device(device: Device) -> str:
    return f"{device.name}, {device.rate_hz / 1000:g} kHz"


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
