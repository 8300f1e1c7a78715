"""What is measured: a model by name, or one of an exact shape with random weights; does it fit."""

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from moshi_mlx.codec.rust import rust_available, talk_bytes
from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.config.model_files import MIMI_CONFIG_KEY, weight_paths
from moshi_mlx.config.reading import parse_config, read_config
from moshi_mlx.config.safe_names import file_inside, safe_name
from moshi_mlx.errors import MoshiError, UsageError, printable
from moshi_mlx.hub import NANO, mimi_file, own_parts, resolve
from moshi_mlx.lm.layers.kv_ring import check_kv_bits
from moshi_mlx.loading.model_folder import LoadOptions
from moshi_mlx.memory import limit_memory
from moshi_mlx.mimi import MimiConfig
from moshi_mlx.mimi.loading import config_from, is_kyutai
from moshi_mlx.moshi import Moshi, load
from moshi_mlx.stt import Transcriber, load_stt
from moshi_mlx.text.tokenizer import TextTokenizer
from moshi_mlx.tts import Speaker, load_tts
from moshi_mlx.weights.adaptation import adaptation_from, adapter_name
from moshi_mlx.weights.loaded_bytes import loaded_bytes
from moshi_mlx.weights.loading import working_dtype
from moshi_mlx.weights.recipes import name_of

from ..doctor import checks, preflight
from ..machine import verdict
from ..machine.facts import Facts
from ..machine.random_model import (
    activations_on,
    random_lm,
    random_mimi,
    recipe_of,
    shape_config,
)
from .kinds import Converses, Listens, Measured, Speaks
from .memory import MimiFile, peak_bytes, peak_bytes_of_files

DEFAULT_SHAPE, DEFAULT_RECIPE = "moshi-7b", "q4"
STT_DELAY_S, TTS_DELAY_STEPS, WORDS_AHEAD = 0.5, 16, 2  # Kyutai's; of no weight here


@dataclass(frozen=True)
class Subject:
    """One model to be measured. `build` loads it or makes it up (and may raise MoshiError)."""

    model: str
    recipe: str
    random: bool
    build: Callable[[], Measured]
    # of the device at most, as MLX counts, with each codec that it may come to
    expected_bytes: Mapping[str, int] = field(default_factory=dict)


def from_random(shape: str, recipes: list[str], facts: Facts, kv_bits: int = 16) -> list[Subject]:
    """A subject per recipe; those that don't fit in memory are left out, with a line on stderr.

    Raises MoshiError for shapes and recipes that there aren't, for kv_bits that don't fit the
    shape, and when none fits in memory: before anything is allocated.
    """
    config = speech_config(shape)
    check_kv_bits(kv_bits, config.transformer.head_dim, config.transformer.context or 0)
    expected, gpu = {}, facts.mlx.backend != "cpu"
    dtype = activations_on(gpu)
    for recipe in recipes:
        recipe_of(recipe)
        expected[recipe] = peak_bytes(config, recipe, dtype, mimi_config(shape), kv_bits)
    # Beside it: Python, and what MLX keeps of freed buffers.
    needs = {recipe: found + verdict.RUNTIME_BYTES for recipe, found in expected.items()}
    refused = {recipe: why for recipe in needs if (why := too_large(recipe, needs[recipe], facts))}
    if len(refused) == len(needs):
        raise MoshiError(next(iter(refused.values())))
    for why in refused.values():
        print(f"left out: {why}", file=sys.stderr)
    name = (
        shape if "/" not in shape else printable(Path(shape).name)
    )  # no path of a person in a report
    return [
        Subject(
            name,
            recipe,
            True,
            lambda recipe=recipe: random_model(config, recipe, shape, gpu, kv_bits),
            {"mlx": expected[recipe]},
        )
        for recipe in needs
        if recipe not in refused
    ]


def from_model(args: argparse.Namespace, name: str, facts: Facts) -> Subject:
    """A real model, downloaded if need be: that is not part of its load time.

    Raises MoshiError when it can't fit, before any download where its name tells that, and when it
    can't be had.
    """
    found = preflight.describe(name, facts)
    if found is not None:
        for line in preflight.room(replace(found, kv_bits=args.kv_bits), facts):
            raise MoshiError(line)
    folder = resolve(name, args.revision, args.offline, own_parts(args.mimi, args.tokenizer))
    config = parse_config(read_config(folder), str(folder / "config.json"))
    check_kind(config, args)
    shown = printable(folder.name if Path(name).is_dir() else name)
    if args.lora is not None:
        shown = f"{shown} with {adapter_name(args.lora)}"
    recipe = name_of(folder)
    expected = expected_of_files(folder, args, facts.mlx.backend != "cpu")
    beside = {"mlx": 0, "rust": talk_bytes(0)}
    need = max(found + beside[codec] for codec, found in expected.items())
    if why := too_large(recipe or shown, need + verdict.RUNTIME_BYTES, facts):
        raise MoshiError(why)
    return Subject(
        shown,
        recipe,
        False,
        lambda: loaded_model(folder, config, args),
        expected,
    )


def check_kind(config: LmConfig, args: argparse.Namespace) -> None:
    """Raises UsageError for a model without sound, and for what only one that converses takes."""
    if not config.n_q:
        raise UsageError(f"{args.model} neither hears nor speaks: `moshi text` is for it")
    if config.dep_q and config.user_q:
        return
    what = "speaks" if config.dep_q else "listens"
    if args.codec == "rust":
        raise UsageError(f"{args.model} only {what}: its codec runs in MLX, leave --codec out")
    if part := next((part for part in ("mimi", "tokenizer") if getattr(args, part)), None):
        raise UsageError(f"{args.model} only {what}, with its own {part}: leave --{part} out")


def loaded_model(folder: Path, config: LmConfig, args: argparse.Namespace) -> Measured:
    """By its kind. Raises MoshiError, as the loaders do."""
    options: LoadOptions = {"offline": args.offline, "kv_bits": args.kv_bits, "lora": args.lora}
    if not config.dep_q:
        return Listens(load_stt(folder, **options))
    if not config.user_q:
        return Speaks(load_tts(folder, **options))
    moshi = load(folder, args.codec, mimi=args.mimi, tokenizer=args.tokenizer, **options)
    return Converses(moshi)


def expected_of_files(folder: Path, args: argparse.Namespace, gpu: bool) -> dict[str, int]:
    """What a model that is on this machine will hold at most, by the codec that it comes to.

    gpu: weights stay as stored. Raises ConfigError, WeightsError, DownloadError (of an adapter).
    """
    raw = read_config(folder)
    config = parse_config(raw, str(folder / "config.json"))
    adaptation = adaptation_from(args.lora, "auto", raw, folder, args.offline)
    paths, dtype = weight_paths(folder, raw), working_dtype(None, gpu)
    lm = loaded_bytes(paths, config, dtype, adaptation, gpu)
    sound, named = mimi_file(folder, raw, args.mimi, args.offline)
    sizes = config_from(named, sound)
    codecs = codecs_of(args.codec, sizes) if config.dep_q and config.user_q else ("mlx",)
    mimi = MimiFile(sizes, sound.stat().st_size, codecs)
    return peak_bytes_of_files(lm, config, mimi, args.kv_bits)


def codecs_of(asked: str, sizes: MimiConfig, rust: bool | None = None) -> tuple[str, ...]:
    """What `load_mimi(backend=asked)` may come to. rust: whether rustymimi is here; None: asked."""
    if asked != "auto":
        return (asked,)
    rust = rust_available() if rust is None else rust
    return ("mlx", "rust") if rust and is_kyutai(sizes) else ("mlx",)


def speech_config(shape: str) -> LmConfig:
    """The shape of a model that hears or speaks. Raises ConfigError, UsageError for another."""
    config = shape_config(str(NANO / "config.json") if shape == "nano" else shape)
    if not config.n_q:
        raise UsageError(f"{shape} neither hears nor speaks: give a shape that does")
    return config


def too_large(recipe: str, need_bytes: int, facts: Facts) -> str | None:
    """Why a model of this size can't run here, None when it can (or nobody knows)."""
    usable = checks.usable_memory_bytes(facts)
    if usable is None or need_bytes <= usable:
        return None
    return (
        f"{recipe} needs {need_bytes / 1e9:.1f} GB of memory and this machine can give "
        f"{usable / 1e9:.1f} GB: choose fewer bits or a smaller model"
    )


def random_model(
    config: LmConfig, recipe: str, shape: str, gpu: bool, kv_bits: int = 16
) -> Measured:
    """Language model and codec with random weights, Kyutai's sizes unless the shape has its own.

    gpu: it is to run as on one. The tokenizer is nano's: which words come out doesn't matter.
    """
    limit_memory()  # as where a model is loaded
    lm = random_lm(config, recipe, activations_on(gpu), kv_bits=kv_bits)
    mimi = random_mimi(mimi_config(shape), config.mimi_codebooks, compiled=gpu)
    words = TextTokenizer(NANO / "tokenizer.model")
    if not config.dep_q:
        return Listens(Transcriber(lm, mimi, words, STT_DELAY_S, 0.0))
    if not config.user_q:
        return Speaks(Speaker(lm, mimi, words, TTS_DELAY_STEPS, WORDS_AHEAD, {}))
    return Converses(Moshi(lm, mimi, words, NANO))


def mimi_config(shape: str) -> MimiConfig:
    """The codec's sizes: what the shape's `config.json` points to, else Kyutai's."""
    folder = NANO if shape == "nano" else Path(shape).expanduser()
    folder = folder if folder.is_dir() else folder.parent
    if not (folder / "config.json").is_file():
        return MimiConfig()
    named = read_config(folder).get(MIMI_CONFIG_KEY)  # no codec need lie there: only its sizes
    if named in (None, ""):
        return MimiConfig()
    name = safe_name(named, MIMI_CONFIG_KEY, str(folder / "config.json"))
    return MimiConfig.from_file(file_inside(folder, name))
