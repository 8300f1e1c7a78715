"""Machines of the tests: facts as `app.machine.facts.gather` would return them there."""

from dataclasses import replace

from app.audio.devices.device import Device
from app.machine.facts import Audio, Facts, Mlx

BUILT_IN = Audio(
    (
        Device("MacBook Air Microphone", 0, 1, 0, 48_000, True, transport="built-in"),
        Device("MacBook Air Speakers", 1, 0, 2, 48_000, False, True, "built-in"),
    )
)
AIRPODS = Audio(
    (
        Device("Ada Lovelace's AirPods Pro", 2, 1, 0, 24_000, True, False, "bluetooth"),
        Device("Ada Lovelace's AirPods Pro", 3, 0, 2, 48_000, False, True, "bluetooth"),
        *BUILT_IN.devices,
    )
)


def mac(name: str, memory_gb: int, gpu_cores: int | None, **changes) -> Facts:
    """A healthy Mac with this chip and memory."""
    facts = Facts(
        system="Darwin",
        os_version="15.6",
        machine="arm64",
        python="3.12.11",
        chip=f"Apple {name}",
        gpu_cores=gpu_cores,
        memory_bytes=memory_gb * 2**30,
        memory_free_bytes=memory_gb * 2**30 * 7 // 10,
        swap_used_bytes=0,
        memory_pressure="normal",
        disk_free_bytes=200 * 10**9,
        mlx=Mlx("0.31.2", "metal", f"Apple {name}", memory_gb * 2**30 * 7 // 10),
        audio=BUILT_IN,
        microphone="granted",
        network=True,
        moshi_local="0.1.0",
    )
    return replace(facts, **changes)


M1_8GB = mac("M1", 8, 7)
M2_AIR = mac("M2", 16, 10)
M1_MAX = mac("M1 Max", 32, 32)
M4_MAX = mac("M4 Max", 64, 40)
ROSETTA = mac(
    "M2", 16, 10, machine="x86_64", rosetta=True, mlx=Mlx(None, None, why="not installed")
)
NO_MICROPHONE = mac(
    "M2 Pro", 32, 19, audio=Audio((Device("LG Display", 4, 0, 2, 48_000, False, True),))
)
NO_NETWORK = mac("M2 Pro", 32, 19, network=False)
VM_WITHOUT_METAL = mac(
    *("M2 Pro (Virtual)", 8, None),
    virtual_machine=True,
    mlx=Mlx("0.31.2", None, why="it ended while starting: no Metal device is visible here"),
)
LINUX = Facts(
    system="Linux",
    os_version="6.1.0",
    machine="x86_64",
    python="3.11.7",
    chip="AMD EPYC",
    virtual_machine=True,
    memory_bytes=24 * 2**30,
    memory_free_bytes=20 * 2**30,
    swap_used_bytes=0,
    disk_free_bytes=50 * 10**9,
    mlx=Mlx("0.32.4", "cpu", "AMD EPYC"),
    audio=Audio(why="no sound device"),
    network=False,
)
CUDA = replace(LINUX, mlx=Mlx("0.32.4", "cuda", "NVIDIA L4"), network=True)
ALL = {
    "M1_8GB": M1_8GB,
    "M2_AIR": M2_AIR,
    "M1_MAX": M1_MAX,
    "M4_MAX": M4_MAX,
    "ROSETTA": ROSETTA,
    "NO_MICROPHONE": NO_MICROPHONE,
    "NO_NETWORK": NO_NETWORK,
    "VM_WITHOUT_METAL": VM_WITHOUT_METAL,
    "LINUX": LINUX,
    "CUDA": CUDA,
}
