"""What is measured: a model by name, or one of an exact shape with random weights; does it fit."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.config.model_files import MIMI_CONFIG_KEY
from moshi_mlx.config.reading import parse_config, read_config
from moshi_mlx.config.safe_names import file_inside, safe_name
from moshi_mlx.errors import MoshiError, UsageError
from moshi_mlx.hub import NANO, mimi_file, own_parts, resolve
from moshi_mlx.lm.layers.kv_ring import check_kv_bits
from moshi_mlx.memory import limit_memory
from moshi_mlx.mimi import MimiConfig
from moshi_mlx.mimi.loading import config_from, is_kyutai
from moshi_mlx.moshi import Moshi, load
from moshi_mlx.stt import Transcriber
from moshi_mlx.text.tokenizer import TextTokenizer
from moshi_mlx.tts import Speaker
from moshi_mlx.weights.adaptation import adapter_name
from moshi_mlx.weights.recipes import RECIPES, name_of

from ..doctor import checks, preflight
from ..machine import verdict
from ..machine.facts import Facts
from ..machine.random_model import random_lm, random_mimi, recipe_of, shape_config
from .kinds import Converses, Listens, Measured, Speaks
from .memory import peak_bytes, peak_bytes_of_files

DEFAULT_SHAPE, DEFAULT_RECIPE = "moshi-7b", "q4"
STT_DELAY_S, TTS_DELAY_STEPS, WORDS_AHEAD = 0.5, 16, 2  # Kyutai's; of no weight here


@dataclass(frozen=True)
class Subject:
    """One model to be measured. `build` loads it or makes it up (and may raise MoshiError)."""

    model: str
    recipe: str
    random: bool
    build: Callable[[], Measured]
    expected_bytes: int | None = None  # of the device at most, as MLX counts; None: not foretold


def from_random(shape: str, recipes: list[str], facts: Facts, kv_bits: int = 16) -> list[Subject]:
    """A subject per recipe; those that don't fit in memory are left out, with a line on stderr.

    Raises MoshiError for shapes and recipes that there aren't, for kv_bits that don't fit the
    shape, and when none fits in memory: before anything is allocated.
    """
    config = speech_config(shape)
    check_kv_bits(kv_bits, config.transformer.head_dim, config.transformer.context or 0)
    expected, dtype = {}, "float32" if facts.mlx.backend == "cpu" else "bfloat16"
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
    name = shape if "/" not in shape else Path(shape).name  # no path of a person in a report
    return [
        Subject(
            name,
            recipe,
            True,
            lambda recipe=recipe: random_model(config, recipe, shape, kv_bits),
            expected[recipe],
        )
        for recipe in needs
        if recipe not in refused
    ]


def from_model(args: argparse.Namespace, name: str, facts: Facts) -> Subject:
    """A real model, downloaded if need be: that is not part of its load time.

    Raises MoshiError when it can't fit, before any download, and when it can't be had.
    """
    found = preflight.describe(name, facts)
    if found is not None:
        for line in preflight.room(found, facts):
            raise MoshiError(line)
    folder = resolve(name, args.revision, args.offline, own_parts(args.mimi, args.tokenizer))
    shown = folder.name if Path(name).is_dir() else name
    if args.lora is not None:
        shown = f"{shown} with {adapter_name(args.lora)}"
    return Subject(
        shown,
        name_of(folder),
        False,
        lambda: Converses(
            load(
                folder,
                args.codec,
                offline=args.offline,
                kv_bits=args.kv_bits,
                mimi=args.mimi,
                tokenizer=args.tokenizer,
                lora=args.lora,
            )
        ),
        expected_of_files(folder, args, facts),
    )


def expected_of_files(folder: Path, args: argparse.Namespace, facts: Facts) -> int | None:
    """What a model that is on this machine will hold at most; None where that isn't told before:
    an adapter, weights of no known recipe, a codec that is chosen by its speed or isn't MLX's.

    Raises ConfigError, WeightsError.
    """
    raw, recipe = read_config(folder), name_of(folder)
    sound, named = mimi_file(folder, raw, args.mimi, args.offline)
    sizes = config_from(named, sound)
    of_mlx = args.codec == "mlx" or not is_kyutai(sizes)
    if args.lora is not None or recipe not in RECIPES or not of_mlx:
        return None
    dtype = "float32" if facts.mlx.backend == "cpu" else "bfloat16"
    if facts.mlx.backend == "cpu" and not RECIPES[recipe].quantizes:
        recipe = "fp32"
    config = parse_config(raw, str(folder / "config.json"))
    file_bytes = sound.stat().st_size
    return peak_bytes_of_files(config, recipe, dtype, sizes, file_bytes, args.kv_bits)


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


def random_model(config: LmConfig, recipe: str, shape: str, kv_bits: int = 16) -> Measured:
    """Language model and codec with random weights, Kyutai's sizes unless the shape has its own.

    The tokenizer is nano's: which words come out doesn't matter.
    """
    limit_memory()  # as where a model is loaded
    on_cpu = mx.default_device() == mx.Device(mx.cpu)
    lm = random_lm(config, recipe, "float32" if on_cpu else "bfloat16", kv_bits=kv_bits)
    mimi = random_mimi(mimi_config(shape), config.mimi_codebooks)
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
