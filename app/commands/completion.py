"""Print a script that completes commands, options and files in a shell.

moshi completion bash >> ~/.bash_completion
moshi completion zsh > "${fpath[1]}/_moshi"
moshi completion fish > ~/.config/fish/completions/moshi.fish
"""

import argparse
from pathlib import Path

from ..options.model import KYUTAIS_VOICES
from .registry import COMMANDS, module_of

FOLDERS = ("DIR",)
# NVIDIA's, of PersonaPlex
PERSONA_VOICES = [f"NAT{sex}{n}" for sex in "FM" for n in range(4)]
PERSONA_VOICES += [f"VAR{sex}{n}" for sex in "FM" for n in range(5)]
BASH_FOLDERS = "_shtab_moshi_quantize_pos_0_COMPGEN=_shtab_compgen_dirs"
ZSH_COMMANDS = "_describe 'moshi quantize commands' _commands"
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
FILES = ("FILE", "TOML", "WAV", "PATH")


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
    if shell == "zsh":
        return script.replace(ZSH_COMMANDS, f"{ZSH_COMMANDS}\n  _files -/")
    return f"{script}\n{BASH_FOLDERS}" if shell == "bash" else script


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
        if metavar in FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.type is Path or metavar.endswith(FILES) or action.dest in ("files", "model"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
