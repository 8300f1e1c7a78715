"""Run as a process of its own: prints one line of JSON about MLX, sound devices or permissions.

All can take their process down with them (MLX without a Metal device, PortAudio with a broken sound
server, a wrong call into AVFoundation), and a doctor must live on to say so.
"""

import ctypes
import ctypes.util
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Protocol, cast

from moshi_mlx.errors import MoshiError

from .process_info import low_power_and_heat


class Backends(Protocol):
    """What of MLX tells about its device."""

    metal: Any
    cuda: Any

    def device_info(self) -> Mapping[str, Any]: ...


def mlx(backends: Backends | None = None) -> dict[str, Any]:
    """backend, device name and recommended working set; runs one operation to be sure.

    backends: others than those of MLX here.
    """
    import mlx.core as mx

    mx.eval(mx.ones((2, 2)) @ mx.ones((2, 2)))
    has = cast(Backends, mx) if backends is None else backends
    cuda = "cuda" if has.cuda.is_available() else "cpu"
    info = has.device_info()
    return {
        "backend": "metal" if has.metal.is_available() else cuda,
        "device": info.get("device_name"),
        "working_set_bytes": info.get("max_recommended_working_set_size"),
    }


def audio() -> dict[str, Any]:
    """Every device PortAudio sees."""
    from ..audio.stream.portaudio import scan

    try:
        devices = [asdict(device) for device in scan()]
    except MoshiError as error:  # no library, no host API: no sound here
        return {"devices": [], "why": str(error)}
    return {"devices": devices, "why": None if devices else "no sound device"}


def microphone() -> dict[str, Any]:
    """What macOS lets this terminal do, without asking the person."""
    from ..audio.permission import frameworks

    return {"permission": frameworks().state()}


def power() -> dict[str, Any]:
    """Low Power Mode and the thermal state of a Mac."""
    objc = ctypes.CDLL(ctypes.util.find_library("objc") or "libobjc.dylib")
    ctypes.CDLL("/System/Library/Frameworks/Foundation.framework/Foundation")
    saves, thermal = low_power_and_heat(objc)
    return {"low_power_mode": saves, "thermal": thermal}


def main(question: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # PortAudio prints its troubles there, in the end and after the answer
    questions = {"mlx": mlx, "audio": audio, "microphone": microphone, "power": power}
    print(json.dumps(questions[question]()), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
