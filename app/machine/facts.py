"""What this machine is: the one place that asks, so that a test can hand in any Mac instead.

`gather()` never raises and never hangs: every question has a time limit, and what can't be found
out stays None. Facts hold names of devices and programs: `doctor_json` decides what leaves them.
"""

import os
import platform
import shutil
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from ..audio.devices.device import Device
from ..audio.devices.lid import lid_closed
from . import readers
from .power import Power

NETWORK_TIMEOUT_S = 2.0
GATHER_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Mlx:
    """MLX as a child process found it. `backend` None: it could not start, for the reason `why`."""

    version: str | None
    backend: str | None  # "metal", "cuda" or "cpu"
    device: str | None = None
    working_set_bytes: int | None = None  # what Metal recommends at most
    why: str | None = None


@dataclass(frozen=True)
class Audio:
    """PortAudio's devices; `why` says why there are none."""

    devices: tuple[Device, ...] = ()
    why: str | None = None

    @property
    def input(self) -> Device | None:
        """The default microphone, else the first one."""
        inputs = [d for d in self.devices if d.inputs]
        return next((d for d in inputs if d.default_input), inputs[0] if inputs else None)

    @property
    def output(self) -> Device | None:
        outputs = [d for d in self.devices if d.outputs]
        return next((d for d in outputs if d.default_output), outputs[0] if outputs else None)


@dataclass(frozen=True)
class Facts:
    """One machine. Sizes in bytes; None: could not be found out."""

    system: str  # "Darwin" or "Linux"
    os_version: str
    machine: str  # what this Python was built for: "arm64", "x86_64"
    python: str
    rosetta: bool = False
    virtual_machine: bool = False
    chip: str | None = None  # "Apple M4 Max"
    gpu_cores: int | None = None
    memory_bytes: int | None = None
    memory_free_bytes: int | None = None  # what a new program can take without swapping
    swap_used_bytes: int | None = None
    memory_pressure: str | None = None  # "normal", "warning", "critical"
    big_processes: tuple[tuple[str, int], ...] = ()  # (name, resident bytes), largest first
    disk_free_bytes: int | None = None  # where Hugging Face's cache lies
    mlx: Mlx = field(default_factory=lambda: Mlx(None, None))
    audio: Audio = field(default_factory=Audio)
    microphone: str | None = None  # "granted", "denied", "not asked"
    lid_closed: bool = False
    power: Power = field(default_factory=Power)
    network: bool | None = None  # Hugging Face answers
    offline: bool = False  # HF_HUB_OFFLINE
    kyutai_package: str | None = None  # version of the moshi_mlx that can't be beside ours
    moshi_local: str | None = None
    rustymimi: bool = False  # installed: a talk may take it for its codec
    models: Mapping[str, str] = field(default_factory=dict)  # repository -> "complete", "partial"

    @property
    def memory_gb(self) -> float | None:
        """As sold: a 16 GB Mac is 16."""
        return None if self.memory_bytes is None else self.memory_bytes / 2**30


def gather(
    repositories: tuple[str, ...] = (),
    network: bool = True,
    audio: bool = True,
    hardware: Callable[[], dict[str, Any]] | None = None,
) -> Facts:
    """Ask the machine everything, in parallel; `repositories`: whose cache state to look up.

    `network` and `audio` False leave these questions out; `hardware`: another reader of it.
    """
    base = Facts(
        system=platform.system(),
        os_version=platform.mac_ver()[0] or platform.release(),
        machine=platform.machine(),
        python=platform.python_version(),
        offline=os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"),
        kyutai_package=_version("moshi_mlx"),
        moshi_local=_version("moshi-local"),
        rustymimi=_version("rustymimi") is not None,
    )
    questions: dict[str, Callable[[], Any]] = {
        "hardware": hardware or (readers.darwin if base.system == "Darwin" else readers.linux),
        "mlx": _mlx,
        "models": lambda: {r: s for r in repositories if (s := cache_state(r)) is not None},
        "disk_free_bytes": lambda: shutil.disk_usage(_existing(_cache_folder())).free,
    }
    if base.system == "Darwin":  # each by itself: the first load of a framework takes seconds
        questions |= {"microphone": readers.microphone, "power": readers.power_of_mac}
        questions["lid_closed"] = lid_closed
    if audio:
        questions["audio"] = _audio
    if network and not base.offline:
        questions["network"] = _network
    answers = _ask_all(questions)
    read = answers.pop("hardware", None) or {}
    known = {name: value for name, value in answers.items() if value is not None}
    return replace(base, **read, **known)


def _ask_all(questions: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """name -> answer, None for a question that failed or took too long."""
    pool = ThreadPoolExecutor(max_workers=len(questions))
    futures = {name: pool.submit(ask) for name, ask in questions.items()}
    answers = {}
    for name, future in futures.items():
        try:
            answers[name] = future.result(timeout=GATHER_TIMEOUT_S)
        except (
            Exception
        ):  # a fact that can't be had is no reason to fail: it is reported as unknown
            answers[name] = None
    pool.shutdown(wait=False, cancel_futures=True)
    return answers


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _mlx(ask: Callable[..., dict[str, Any] | None] = readers.ask_child) -> Mlx:
    """In a child: without a Metal device (virtual machine, ssh) some versions abort the process."""
    version = _version("mlx")
    if version is None:
        return Mlx(None, None, why="not installed")
    answer = ask("machine.probe", "mlx")
    if answer is None:
        return Mlx(version, None, why="it ended while starting: no Metal device is visible here")
    return Mlx(version, **answer)


def _audio() -> Audio:
    """In a child: PortAudio can hang or abort on a broken sound server."""
    answer = readers.ask_child("machine.probe", "audio")
    if answer is None:
        return Audio(why="PortAudio could not be started")
    return Audio(tuple(Device(**d) for d in answer["devices"]), answer.get("why"))


def _network() -> bool:
    host = os.environ.get("HF_ENDPOINT", "https://huggingface.co").split("//")[-1].split("/")[0]
    name, _, port = host.partition(":")
    try:
        with socket.create_connection((name, int(port or 443)), timeout=NETWORK_TIMEOUT_S):
            return True
    except OSError:
        return False


def _cache_folder() -> Path:
    home = os.environ.get("HF_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"
    )
    return Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")).expanduser()


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def cache_state(repository: str) -> str | None:
    """ "complete", "partial" or None (nothing here), as `moshi_mlx.hub` would see it offline."""
    from moshi_mlx import hub
    from moshi_mlx.errors import MoshiError

    folder = _cache_folder() / ("models--" + repository.replace("/", "--"))
    if not folder.is_dir():
        return None
    try:
        hub.resolve(repository, offline=True)
        return "complete"
    except MoshiError:
        return "partial"
