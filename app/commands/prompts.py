"""Prompts that models have heard and this machine keeps: list them, or clear them all.

moshi prompts          what is kept, the last used first
moshi prompts clear    remove them; they are made again in a second or two when they are needed
"""

import argparse
import json
import time
from typing import TYPE_CHECKING

from moshi_mlx.clock import FRAME_SECONDS
from moshi_mlx.errors import printable

from ..options.model import add_json_option

if TYPE_CHECKING:
    from moshi_mlx.lm.state.prompt_cache import CachedPrompt


def configure(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", metavar="[ACTION]")
    listing = actions.add_parser("list", help="what is kept (the same as without a word)")
    actions.add_parser("clear", help="remove all of them")
    for words in (parser, listing):
        add_json_option(words)


def run(args: argparse.Namespace) -> int:
    from moshi_mlx.lm.state.prompt_cache import PromptCache

    cache = PromptCache()
    if args.action == "clear":
        count = cache.clear()
        print(f"{count} removed from {cache.folder}")
        return 0
    entries = cache.entries()
    if args.json:
        print(json.dumps([row_of(entry) for entry in entries], ensure_ascii=False))
        return 0
    for entry in entries:
        print(line_of(entry))
    total = sum(entry.num_bytes for entry in entries) / 1e6
    limit = cache.limit_bytes / 1e6
    print(f"{len(entries)} prompts, {total:.1f} MB of {limit:.0f}, {cache.folder}")
    return 0


def row_of(entry: "CachedPrompt") -> dict[str, object]:
    seconds = None if entry.frames is None else entry.frames * FRAME_SECONDS
    row = {"title": entry.title, "seconds": seconds, "bytes": entry.num_bytes}
    return row | {"used": round(entry.used), "file": str(entry.path)}


def line_of(entry: "CachedPrompt") -> str:
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
    seconds = "" if entry.frames is None else f"{entry.frames * FRAME_SECONDS:.1f} s"
    title = printable(entry.title or "(tokens)")
    title = title if len(title) <= 60 else f"{title[:59]}…"
    return f"{used}  {seconds:>7}  {entry.num_bytes / 1e6:6.1f} MB  {title}"
