"""A sound card out of PulseAudio: null sinks as loudspeaker and microphone, one daemon a test.

What a program plays through PortAudio can be recorded, and a file can be spoken into its fake
microphone, in real time. `norewinds=1` is needed: without it PortAudio's duplex stream stops
calling back after a few blocks.
"""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

TOOLS = ("pulseaudio", "pactl", "paplay", "parec")
SCRIPT = """.fail
load-module module-native-protocol-unix socket={run}/native auth-anonymous=1
load-module module-null-sink sink_name=spk rate=24000 channels=1 norewinds=1
load-module module-null-sink sink_name=mic rate=24000 channels=1 norewinds=1
load-module module-remap-source master=mic.monitor source_name=fakemic
set-default-sink spk
set-default-source {source}
"""


def why_not() -> str | None:
    """Why these tests can't run here, or None."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not installed"
    plugin = list(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so"))
    if not plugin:
        return "ALSA's pulse plugin (libasound2-plugins) not installed"
    try:
        import sounddevice  # noqa: F401
    except Exception as error:
        return f"PortAudio doesn't load: {error}"
    return None


needs_pulse = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


class Pulse:
    """A daemon of its own. `env` is what a program needs to use it."""

    def __init__(self, loopback: bool = False) -> None:
        """`loopback`: the microphone hears exactly what the loudspeaker plays."""
        self.folder = Path(tempfile.mkdtemp(prefix="pulse"))  # short: a socket's path has a limit
        self._source = "spk.monitor" if loopback else "fakemic"
        run = self.folder / "run"
        for path in (run, self.folder / "cfg"):
            path.mkdir(mode=0o700)
        self.env = os.environ | {
            "PULSE_SERVER": f"unix:{run}/native",
            "HOME": str(self.folder / "cfg"),
            "XDG_CONFIG_HOME": str(self.folder / "cfg"),
            "PULSE_RUNTIME_PATH": str(run),
            "PULSE_STATE_PATH": str(self.folder / "cfg"),
        }
        config = self.folder / "cfg" / ".asoundrc"
        config.write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
        self._helpers: list[subprocess.Popen] = []
        self.start()

    def start(self) -> None:
        script = self.folder / "fake.pa"
        script.write_text(SCRIPT.format(run=self.folder / "run", source=self._source))
        command = ["pulseaudio", "-n", "-F", str(script), "--daemonize=no", "--use-pid-file=no"]
        command += ["--exit-idle-time=-1", "--realtime=no", "--high-priority=no"]
        log = open(self.folder / "log", "ab")  # noqa: SIM115 (the daemon's)
        self.daemon = subprocess.Popen(
            [*command, "--log-target=stderr"], env=self.env, stdout=log, stderr=log
        )
        log.close()
        deadline = time.monotonic() + 60
        while subprocess.run(["pactl", "info"], env=self.env, capture_output=True).returncode:
            assert self.daemon.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "PulseAudio doesn't come up"
            time.sleep(0.05)

    def kill(self) -> None:
        """As when a headset is unplugged."""
        self.daemon.kill()
        self.daemon.wait()
        (self.folder / "run" / "native").unlink(missing_ok=True)

    def speak(self, wav: Path, wait: bool = True) -> subprocess.Popen:
        """Play a file into the microphone."""
        helper = subprocess.Popen(["paplay", "-d", "mic", str(wav)], env=self.env)
        self._helpers.append(helper)
        if wait:
            assert helper.wait(60) == 0
        return helper

    def listen(self, wav: Path) -> subprocess.Popen:
        """Record what the loudspeaker plays, until the helper is terminated."""
        command = ["parec", "-d", "spk.monitor", "--file-format=wav", "--rate=24000"]
        helper = subprocess.Popen([*command, "--channels=1", str(wav)], env=self.env)
        self._helpers.append(helper)
        return helper

    def close(self) -> None:
        for helper in self._helpers:
            if helper.poll() is None:
                helper.terminate()
                helper.wait()
        if self.daemon.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
