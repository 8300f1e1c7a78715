"""Options that several commands share: which model, and how it samples."""

import argparse
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from moshi_mlx.config.lm_config import MAX_SEED, MAX_TEMPERATURE, MAX_TOP_K
from moshi_mlx.errors import UsageError
from moshi_mlx.weights.recipes import KYUTAI_BITS

from ..talk.kept_talk import AskedModel
from .adapters import adapters_from, add_lora_option, split_name
from .mark import marking_from
from .numbers import Number

if TYPE_CHECKING:
    from moshi_mlx import Moshi
    from moshi_mlx.hub import Download
    from moshi_mlx.loading.model_folder import LoadOptions

    from ..machine.facts import Facts
    from ..talk.engine import MakeEngine

KYUTAIS_VOICES = ("moshiko", "moshika")  # a man's and a woman's, each a model of its own
DEFAULT_VOICE, DEFAULT_BITS = "moshiko", 4
TEMPERATURE, TOP_K = Number(0, MAX_TEMPERATURE), Number(0, MAX_TOP_K, whole=True)
SEED = Number(0, MAX_SEED - 1, whole=True)
# option -> (type, help)
SAMPLING: dict[str, tuple[Number, str]] = {
    "seed": (SEED, "the same seed gives the same answer (default: a new one each time)"),
    "text_temperature": (TEMPERATURE, "how freely words are chosen; 0 is greedy"),
    "text_top_k": (TOP_K, "choose among the k likeliest words only"),
    "audio_temperature": (TEMPERATURE, "how freely the voice is chosen; 0 is greedy"),
    "audio_top_k": (TOP_K, "choose among the k likeliest codes only"),
}


def add_source_options(
    parser: argparse.ArgumentParser, help_text: str, default: str | None = None
) -> argparse._ArgumentGroup:
    """--model, --revision, --offline: where a model comes from."""
    group = parser.add_argument_group("model")
    group.add_argument("--model", default=default, help=help_text)
    group.add_argument("--revision", help="a commit or branch of the repository")
    group.add_argument("--offline", action="store_true", default=None, help="never ask the network")
    return group


def add_model_options(
    parser: argparse.ArgumentParser,
    default: str | None = None,
    without: str | None = None,
    several: bool = False,
) -> None:
    """`default`: the model, else Kyutai's by --voice and --bits. `without`: what happens without
    any of them, where that is something else. `several`: adapters to choose from."""
    kyutai = default is None
    group = add_source_options(
        parser,
        'a folder, a Hugging Face repository, or "nano", the small one in the package '
        f"(default: {without or default or kyutai_name(DEFAULT_VOICE, DEFAULT_BITS)})",
        default,
    )
    if kyutai:
        voices = " or ".join(KYUTAIS_VOICES)
        group.add_argument(
            "--voice",
            metavar="NAME|FILE",
            help=f"Kyutai's {voices} (default: {DEFAULT_VOICE}); with a --model that takes them: "
            "one of its voices, or a recording",
        )
        group.add_argument(
            "--bits",
            type=int,
            choices=tuple(KYUTAI_BITS),
            help=f"precision of Kyutai's models (default: {DEFAULT_BITS})",
        )
    else:
        parser.set_defaults(voice=None, bits=None)
    group.add_argument(
        "--kv-bits",
        type=int,
        choices=(16, 8),
        default=16,
        help="8 halves the memory of the conversation's history (default: 16)",
    )
    group.add_argument(
        "--codec",
        choices=("auto", "mlx", "rust"),
        default="auto",
        help="who runs Mimi (default: auto, the faster one here)",
    )
    add_compile_option(group)
    for part in ("mimi", "tokenizer"):
        group.add_argument(
            f"--{part}",
            metavar="FILE|MODEL",
            help=f"a {part} for a model without one: a file, or the model that has it "
            "(default: Kyutai's, if it is in the cache)",
        )
    add_lora_option(group, several)
    if not several:
        parser.set_defaults(adapter=None)


def adapter_from(args: argparse.Namespace) -> str:
    """What the adapter that the options name is called; "" for none."""
    from moshi_mlx.weights.adaptation import adapter_name

    return "" if args.lora is None else adapter_name(args.lora)


def add_compile_option(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--uncompiled",
        action="store_true",
        help="operation by operation: slower, for a GPU whose compiled step computes wrong",
    )


def follow_compile_option(args: argparse.Namespace) -> None:
    """For all that this process computes; also what the self-test found to be faster here."""
    if args.uncompiled:
        import mlx.core as mx

        mx.disable_compile()
    else:
        from ..selftest.remembered import recall
        from .gains import take_gains

        take_gains(recall())


def add_sampling_options(
    parser: argparse.ArgumentParser, names: Iterable[str] = tuple(SAMPLING)
) -> None:
    """names: of those that the model can be given."""
    group = parser.add_argument_group("sampling (defaults come with the model)")
    for name in names:
        kind, text = SAMPLING[name]
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)


def add_force_option(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """--force, the same in every command that writes files."""
    parser.add_argument("--force", action="store_true", help="replace files that exist")


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """--json, the same in every command that tells something."""
    parser.add_argument("--json", action="store_true", help="as one line of JSON, for programs")


def kyutai_name(voice: str, bits: int) -> str:
    return f"kyutai/{voice}-mlx-{KYUTAI_BITS[bits]}"


def model_from(args: argparse.Namespace) -> str:
    """The model's name or folder. Raises MoshiError when two options name one."""
    if args.model is None:
        voice = args.voice or DEFAULT_VOICE
        if voice not in KYUTAIS_VOICES:
            raise UsageError(
                f"--voice {voice}: Kyutai's are {' and '.join(KYUTAIS_VOICES)}; for another give "
                "the --model that has it, nvidia/personaplex-7b-v1 say"
            )
        return kyutai_name(voice, args.bits or DEFAULT_BITS)
    if args.voice in KYUTAIS_VOICES or args.bits:
        option = "--voice" if args.voice in KYUTAIS_VOICES else "--bits"
        raise UsageError(f"--model {args.model} already says which: leave {option} out, or --model")
    return args.model


def load_from(args: argparse.Namespace) -> "Moshi":
    """The model that the options name, downloaded first where necessary. Raises MoshiError."""
    import moshi_mlx

    follow_compile_option(args)
    name, adapters = model_from(args), adapters_from(args)
    moshi = moshi_mlx.load(
        name,
        codec=args.codec,
        revision=args.revision,
        offline=args.offline,
        kv_bits=args.kv_bits,
        mimi=args.mimi,
        tokenizer=args.tokenizer,
        lora=adapters.lora,
        adapters=adapters.named,
    )
    fetch_voices(name, args)
    return moshi


def source_from(args: argparse.Namespace) -> AskedModel:
    """How the model is asked for, in words that hold in every folder. Raises MoshiError."""
    return AskedModel(
        model=whole_path(model_from(args)),
        revision=args.revision or "",
        mimi=whole_path(args.mimi or ""),
        tokenizer=whole_path(args.tokenizer or ""),
        lora=whole_loras(args.lora),
    )


def whole_path(name: str) -> str:
    """Of a file or folder that is there; anything else is a repository, and stays."""
    path = Path(name).expanduser()
    return str(path.absolute()) if name not in ("", "nano") and path.exists() else name


def whole_loras(given: list[str] | str | None) -> tuple[str, ...]:
    """The same of what --lora names, with its names."""
    split = [split_name(one) for one in ([given] if isinstance(given, str) else given or [])]
    return tuple(f"{n}={whole_path(p)}" if n else whole_path(p) for n, p in split)


class GivenParts(TypedDict):
    """Files that were given in place of the model's own."""

    mimi: str | None
    tokenizer: str | None


def parts_from(args: argparse.Namespace) -> GivenParts:
    return {"mimi": args.mimi, "tokenizer": args.tokenizer}


def engine_from(args: argparse.Namespace, dtype: str | None = None) -> "MakeEngine":
    """What a Session takes; downloads here, loads on the session's thread. Raises MoshiError.

    dtype: as of `moshi_mlx.load`. Before a download of gigabytes, what the doctor knows about this
    model here goes to stderr.
    """
    from moshi_mlx import load
    from moshi_mlx.hub import REPOSITORY, own_parts, resolve
    from moshi_mlx.weights.recipes import name_of

    from ..talk.moshi_engine import engine_maker

    follow_compile_option(args)
    name = model_from(args)
    announce = partial(announce_download, args.kv_bits)
    parts = parts_from(args)
    folder = resolve(name, args.revision, args.offline, own_parts(**parts), announce=announce)
    adapters = adapters_from(args)
    others = [("mimi", args.mimi), ("tokenizer", args.tokenizer)]
    for part, given in [*others, *(("lora", place) for place in adapters.places)]:
        if given and REPOSITORY.fullmatch(given) and not Path(given).exists():
            resolve(given, None, args.offline, files=(part,), announce=announce)
    fetch_voices(name, args, announce)
    return engine_maker(
        lambda: load(
            folder,
            codec=args.codec,
            dtype=dtype,
            offline=args.offline,
            kv_bits=args.kv_bits,
            lora=adapters.lora,
            adapters=adapters.named,
            **parts,
        ),
        name,
        name_of(folder),
        marking_from(args),
    )


def fetch_voices(
    name: str, args: argparse.Namespace, announce: "Callable[[Download], None] | None" = None
) -> None:
    """Those of a PersonaPlex in a repository, which is here already. Raises DownloadError where
    one of them was asked for and they can't be had."""
    from moshi_mlx.config.reading import read_config
    from moshi_mlx.errors import DownloadError
    from moshi_mlx.hub import resolve

    folder = Path(name).expanduser()
    if folder.is_dir() or name == "nano":
        return
    here = resolve(name, args.revision, offline=True, files=("weights",))
    if read_config(here).get("model_type") != "personaplex":
        return
    try:
        resolve(name, args.revision, args.offline, files=("voices",), announce=announce)
    except DownloadError:
        if args.voice is not None and not Path(args.voice).expanduser().is_file():
            raise


def announce_download(kv_bits: int, download: "Download", facts: "Facts | None" = None) -> None:
    """Size and licence, and what the doctor knows about this model here, on stderr.

    `facts`: of another machine than this one.
    """
    from ..doctor.preflight import preflight

    print(download, file=sys.stderr)
    for line in preflight(download.repository, facts, kv_bits).lines:
        print(line, file=sys.stderr)


def sampling_from(args: argparse.Namespace) -> dict[str, Any]:
    """The sampling options that were given, of those that the command has."""
    given = vars(args)
    return {name: given[name] for name in SAMPLING if given.get(name) is not None}


def loading_from(args: argparse.Namespace) -> "LoadOptions":
    """What the loaders of all models are given; `LoadOptions` says more."""
    return {"revision": args.revision, "offline": args.offline, "lora": args.lora}
