"""Why a microphone gives nothing but zeros: facts in, one line with what to do out. Pure."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from .device import Device

SETTINGS = "System Settings > Privacy & Security > Microphone"
ASKING = "Apple's Terminal, iTerm2 or WezTerm"  # programs that may ask for the microphone
TERMINALS = {  # TERM_PROGRAM -> as its owner calls it
    "Apple_Terminal": "Terminal",
    "iTerm.app": "iTerm2",
    "vscode": "Visual Studio Code",
    "WezTerm": "WezTerm",
    "ghostty": "Ghostty",
    "WarpTerminal": "Warp",
    "tmux": "tmux",
}


@dataclass(frozen=True)
class Circumstances:
    """What may keep a program from its microphone."""

    system: str  # sys.platform
    permission: str | None = None  # "granted", "denied", "not asked"
    lid_closed: bool = False
    ssh: bool = False
    multiplexer: str | None = None
    terminal: str | None = None


def circumstances(
    permission: str | None,
    lid_closed: bool,
    environment: Mapping[str, str] = os.environ,
    system: str = sys.platform,
) -> Circumstances:
    multiplexer = (
        "tmux" if environment.get("TMUX") else "screen" if environment.get("STY") else None
    )
    program = environment.get("TERM_PROGRAM")
    terminal = None if program is None else TERMINALS.get(program, program)
    ssh = bool(environment.get("SSH_CONNECTION"))
    return Circumstances(system, permission, lid_closed, ssh, multiplexer, terminal)


def why_silent(microphone: Device, about: Circumstances) -> str:
    """One line: the likeliest cause first."""
    line = f"the microphone ({microphone.name}) gives nothing but silence: "
    if about.system != "darwin":
        return line + "is it muted, or is another input the right one? See `moshi devices`, --input"
    if about.lid_closed and microphone.is_internal_microphone:
        return line + "the lid is closed, which disconnects it: open the lid, or choose another"
    if about.ssh:
        return line + "macOS gives none over ssh: start moshi in a terminal on the Mac itself"
    if about.permission == "denied":
        who = about.terminal or "this terminal"
        return line + f"allow {who} in {SETTINGS}, then start it again"
    if about.permission == "not asked":
        return line + cannot_ask(about)
    if about.multiplexer is not None:
        return (
            f"{line}the server of {about.multiplexer} may belong to another program than this "
            f"terminal: start moshi outside of {about.multiplexer}"
        )
    return line + "is it muted (a switch, an AirPods stem), or is another input the right one?"


def cannot_ask(about: Circumstances) -> str:
    """Of a terminal whose question never came: it will never be in the Settings either."""
    who = about.terminal or "this terminal"
    return f"{who} can't ask for it: use {ASKING}, or `moshi web` in a browser"
