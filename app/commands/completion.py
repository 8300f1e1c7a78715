"""Print a script that completes commands, options and files in a shell.

zsh:   mkdir -p ~/.zfunc && moshi completion zsh > ~/.zfunc/_moshi
       and in ~/.zshrc: fpath=(~/.zfunc $fpath); autoload -Uz compinit && compinit
bash:  moshi completion bash > ~/.moshi.bash
       and in ~/.bashrc: source ~/.moshi.bash
fish:  moshi completion fish > ~/.config/fish/completions/moshi.fish
"""

import argparse
import re
from pathlib import Path

from ..options.model import KYUTAIS_VOICES
from .registry import COMMANDS, module_of

FOLDERS = ("DIR",)
# NVIDIA's, of PersonaPlex
PERSONA_VOICES = [f"NAT{sex}{n}" for sex in "FM" for n in range(4)]
PERSONA_VOICES += [f"VAR{sex}{n}" for sex in "FM" for n in range(5)]
BASH_FOLDERS = "_shtab_moshi_quantize_pos_0_COMPGEN=_shtab_compgen_dirs"
ZSH_COMMANDS = "_describe 'moshi quantize commands' _commands"
# In zsh a command or a folder comes first, then what that command takes, or a target. Without
# positional arguments in this list shtab's script adds those two, as it does elsewhere.
ZSH_OPTIONS = re.compile(r'(_shtab_moshi_quantize_options=\(\n.*?)((  ":[^\n]*\n){2})\)', re.S)
ZSH_REPORT = "        report) _arguments -C -s $_shtab_moshi_quantize_report_options ;;\n"
ZSH_TARGET = (
    "        *) _arguments -C -s ${_shtab_moshi_quantize_options[1,-3]}"
    " ':the folder to make:_files -/' ;;\n"
)
# `moshi say --voice`: what the model has that the line names, or the usual one
SAY_VOICES = "_moshi_say_voices"
BASH_SAY_VOICES = """\
_moshi_say_voices() {
  local model=%(model)s i first="" last="$1"
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [[ ${COMP_WORDS[i]} == --model ]]; then model=${COMP_WORDS[i + 1]}; fi
  done
  if [[ $1 == *,* ]]; then first="${1%%,*},"; last="${1##*,}"; fi
  compgen -P "$first" -W "$(moshi voices "$model" --offline --names 2>/dev/null)" -- "$last"
  compgen -f -- "$1"
}
"""
ZSH_SAY_VOICES = """\
_moshi_say_voices() {
  local model=%(model)s at=${words[(I)--model]}
  if (( at )); then model=${words[at + 1]}; fi
  compset -P '*,'
  compadd -- ${(f)"$(moshi voices $model --offline --names 2>/dev/null)"}
  _files
}
"""
FILES = {"FILE", "TOML", "WAV", "PATH", "PAGE", "MODEL", "A", "B"}  # as usage lines name them
FILES_BY_NAME = ("files", "model", "source")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def run(args: argparse.Namespace) -> int:
    import shtab

    print(
        with_folders(
            shtab.complete(whole_parser(), args.shell, preamble=preamble(args.shell)), args.shell
        )
    )
    return 0


def preamble(shell: str) -> str:
    """Functions that a shell's script calls."""
    from .say import DEFAULT_MODEL

    functions = {"bash": BASH_SAY_VOICES, "zsh": ZSH_SAY_VOICES}
    return functions.get(shell, "") % {"model": DEFAULT_MODEL}


def with_folders(script: str, shell: str) -> str:
    """`moshi quantize` takes a folder where its commands stand; shtab knows either one alone."""
    if shell == "bash":
        return f"{script}\n{BASH_FOLDERS}"
    if shell == "zsh":
        script = script.replace(ZSH_COMMANDS, f"{ZSH_COMMANDS}\n  _files -/")
        script = ZSH_OPTIONS.sub(r"\1)", script).replace(ZSH_REPORT, ZSH_REPORT + ZSH_TARGET)
    return script


def whole_parser() -> argparse.ArgumentParser:
    """All commands under one parser, as a completion sees them."""
    whole = argparse.ArgumentParser(
        prog="moshi", description="Talk with Moshi on your own machine."
    )
    whole.add_argument("--version", action="store_true", help="what is installed")
    commands = whole.add_subparsers()
    for name, (_, line) in COMMANDS.items():
        parser = commands.add_parser(name, help=line, description=line)
        module = module_of(name)
        getattr(module, "configure_completion", module.configure)(parser)
        mark_files(parser)
    return whole


def mark_files(parser: argparse.ArgumentParser) -> None:
    """Which arguments are paths: shtab asks each for an attribute `complete`."""
    import shtab

    is_show = parser.prog.endswith(" models show")  # a folder too; the others name repositories
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                mark_files(inner)
            continue
        if action.dest == "voice" and action.nargs is None and action.default is None:
            action.choices = [*KYUTAIS_VOICES, *PERSONA_VOICES]  # others are as good
            continue
        if action.dest in ("voice", "voices") and "say" in parser.prog.split():
            action.complete = {"bash": SAY_VOICES, "zsh": SAY_VOICES}  # type: ignore[attr-defined]
            continue
        metavar = action.metavar if isinstance(action.metavar, str) else ""
        named = set(re.split(r"\W+", metavar)) if metavar != "A,B" else set()
        if metavar in FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.type is Path or named & FILES or action.dest in FILES_BY_NAME or is_show:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
