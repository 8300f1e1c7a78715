"""Continue a text with Helium, the language model inside Moshi, word by word."""

import argparse
import sys
import time
from collections.abc import Iterator

from moshi_mlx.errors import MoshiError, UsageError

from ..options.model import SEED, TEMPERATURE, TOP_K, add_source_options
from ..options.numbers import Number

DEFAULT_MODEL = "kyutai/helium-1-2b"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", nargs="?", help='the text to continue ("-": from stdin)')
    parser.add_argument("--prompt", metavar="TEXT", help="the same, as an option")
    parser.add_argument(
        "--max-tokens",
        type=Number(1, whole=True),
        default=200,
        help="how many pieces of text (default: %(default)s)",
    )
    add_source_options(
        parser, "a folder or a Hugging Face repository (default: %(default)s)", DEFAULT_MODEL
    )
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--temperature", type=TEMPERATURE, default=0.8, help="0 is greedy (default: %(default)s)"
    )
    group.add_argument(
        "--top-p",
        type=float,
        default=0.95,
        help="choose among the likeliest that sum up to this (default: %(default)s)",
    )
    group.add_argument(
        "--top-k",
        type=TOP_K,
        default=0,
        help="choose among the k likeliest; 0: all (default: %(default)s)",
    )
    group.add_argument("--seed", type=SEED, help="the same seed gives the same text")


def run(args: argparse.Namespace) -> int:
    prompt = read_prompt(args)
    check_sampling(args)
    from moshi_mlx.config.model_files import part_path
    from moshi_mlx.config.reading import read_config
    from moshi_mlx.helium.model import load_helium
    from moshi_mlx.hub import resolve
    from moshi_mlx.text.tokenizer import load_tokenizer
    from moshi_mlx.weights.loading import working_dtype

    folder = resolve(args.model, args.revision, args.offline, files=("weights", "tokenizer"))
    model = load_helium(folder, working_dtype(None))
    raw = read_config(folder) if (folder / "config.json").exists() else {}
    tokenizer = load_tokenizer(part_path(folder, raw, "tokenizer"))
    silent = (model.config.bos_token_id, *model.config.eos_token_ids)
    words, ids = tokenizer.stream(silent), tokenizer.encode(prompt)
    print(prompt, end="", flush=True)
    started, count = time.perf_counter(), 0
    for token in continuation(model, ids, args):
        count += 1
        print(words.push(token), end="", flush=True)
    print()
    speed = count / (time.perf_counter() - started)
    print(f"{count} tokens, {speed:.1f} a second", file=sys.stderr)
    return 0


def read_prompt(args: argparse.Namespace) -> str:
    if args.text is not None and args.prompt is not None:
        raise UsageError("give the text once, as an argument or as --prompt")
    given = args.prompt if args.text is None else args.text
    if given is None:
        raise UsageError('give a text to continue: moshi text "Once upon a"')
    prompt = sys.stdin.read().strip() if given == "-" else given
    if not prompt.strip():
        raise UsageError('the prompt is empty; give a text to continue: moshi text "Once upon a"')
    return prompt


def check_sampling(args: argparse.Namespace) -> None:
    """Before the model is loaded. Raises MoshiError."""
    if not 0 < args.top_p <= 1:
        raise UsageError("--top-p must lie above 0 and be at most 1 (all tokens)")


def continuation(model, ids: list[int], args: argparse.Namespace) -> Iterator[int]:
    """Sampled tokens after the prompt's `ids`, until the model ends its text."""
    import mlx.core as mx
    from mlx_lm.generate import generate_step
    from mlx_lm.sample_utils import make_sampler

    config = model.config
    if args.seed is not None:
        mx.random.seed(args.seed)
    prompt = mx.array([config.bos_token_id, *ids])
    if int(prompt.max()) >= config.vocab_size:
        raise MoshiError(
            f"the tokenizer knows more tokens than the model's {config.vocab_size}; "
            "they are not of one model: fetch both again"
        )
    top_k = min(args.top_k, config.vocab_size - 1)
    sampler = make_sampler(args.temperature, args.top_p, top_k=top_k)
    for token, _ in generate_step(prompt, model, max_tokens=args.max_tokens, sampler=sampler):
        if int(token) in config.eos_token_ids:
            return
        yield int(token)
