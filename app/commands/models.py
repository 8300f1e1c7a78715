"""The models on this machine: list them, fetch one, look at one, remove one.

moshi models                              what is here
moshi models pull kyutai/moshiko-mlx-q8   fetch one; an interrupted download goes on
moshi models show ./moshiko-q6            a folder, a repository here, or nano
moshi models rm kyutai/moshiko-mlx-q8     remove one from Hugging Face's cache
"""

import argparse
import json
import sys
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moshi_mlx.errors import DownloadError, MoshiError, UsageError, printable

from ..options.model import announce_download

if TYPE_CHECKING:
    from ..machine.cache import CachedModel

LICENCE_UNKNOWN = "not known here"
OURS = "mit"  # of nano, as of all that is in the package


def configure(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", metavar="[ACTION]")
    listing = actions.add_parser("list", help="what is here (the same as without a word)")
    pull = actions.add_parser("pull", help="fetch a model, or what is missing of it")
    pull.add_argument("name", metavar="NAME", help="a repository, such as kyutai/moshiko-mlx-q4")
    pull.add_argument("--revision", help="a commit or branch of the repository")
    show = actions.add_parser("show", help="what a model is, and whether it keeps up here")
    show.add_argument("name", metavar="NAME", help="a repository, a folder, or nano")
    remove = actions.add_parser("rm", help="remove models from Hugging Face's cache")
    remove.add_argument("names", metavar="NAME", nargs="+", help="repositories, as listed")
    remove.add_argument("--yes", action="store_true", help="don't ask")
    for words in (parser, listing, show):
        words.add_argument("--json", action="store_true", help="as JSON, for programs")


def run(args: argparse.Namespace) -> int:
    if args.json and args.action in ("pull", "rm"):
        raise UsageError(f"{args.action} has nothing to tell as JSON: leave --json out")
    if args.action == "pull":
        return pull(args.name, args.revision)
    if args.action == "show":
        return show(args.name, args.json)
    if args.action == "rm":
        return remove(args.names, args.yes)
    return listed(args.json)


def listed(as_json: bool) -> int:
    from moshi_mlx.hub import NANO, in_words, repository_folder

    from ..machine.cache import cached_models

    models = cached_models()
    if as_json:
        print(json.dumps([row_of(model) for model in models]))
        return 0
    rows = [("nano", "bf16", size_of(NANO), "in the package", OURS)]
    rows += [
        (m.name, m.recipe or "?", m.num_bytes, m.state, in_words(m.licence or LICENCE_UNKNOWN))
        for m in models
    ]
    width = max(len(name) for name, *_ in rows)
    for name, recipe, size, state, licence in rows:
        line = f"{printable(name):<{width}}  {recipe:<10} {gb(size):>9}  {state:<14}  {licence}"
        print(line.rstrip())
    where = printable(str(repository_folder("a/b").parent))
    print(f"\n{gb(sum(m.num_bytes for m in models))} in {where}")
    return 0


def pull(name: str, revision: str | None) -> int:
    from moshi_mlx.config.reading import read_config
    from moshi_mlx.hub import resolve

    if name == "nano" or Path(name).expanduser().is_dir():
        raise UsageError(f"{name} is here already: pull takes a repository, owner/name")
    announce = partial(announce_download, 16)
    folder = resolve(name, revision, announce=announce)
    if read_config(folder).get("model_type") == "personaplex":
        with suppress(DownloadError):  # it talks without voices, too
            resolve(name, revision, files=("voices",), announce=announce)
    print(folder)
    return 0


def show(name: str, as_json: bool) -> int:
    from moshi_mlx.hub import NANO, in_words
    from moshi_mlx.weights.recipes import name_of

    from ..doctor.preflight import preflight
    from ..machine.facts import gather

    folder = NANO if name == "nano" else Path(name).expanduser()
    cached = None if folder.is_dir() else here(name)
    if cached is not None and cached.state != "complete":
        raise MoshiError(f"{name} is partial: `moshi models pull {name}` fetches what is missing")
    folder = folder if cached is None else cached.folder
    forecast = preflight(name, gather((name,), network=False, audio=False))
    row: dict[str, Any] = {
        "name": name,
        "folder": str(folder),
        "recipe": name_of(folder),
        "bytes": size_of(folder) if cached is None else cached.num_bytes,
        "licence": OURS if folder == NANO else (cached and cached.licence) or None,
        **shape_of(folder),
        "keeps_up": forecast.answer,
        "notes": list(forecast.lines),
    }
    if as_json:
        print(json.dumps(row))
        return 0
    keeps_up = {"yes": "yes", "no": "no", "tight": "barely"}.get(forecast.answer or "", "unknown")
    shape = f"{row['layers']} layers of {row['dim']}, looking back {row['context']} steps"
    if (codebooks := row["codebooks"]) is not None:
        shape += f"; {codebooks['own']} own codebooks, {codebooks['users']} of the user"
    told = (
        ("recipe", f"{row['recipe'] or 'unknown'}, {gb(row['bytes'])}"),
        ("licence", in_words(row["licence"] or LICENCE_UNKNOWN)),
        ("shape", shape),
        ("keeps up", f"{keeps_up} (forecast: `moshi bench` measures)"),
        ("files", row["folder"]),
    )
    print(printable(name))
    for title, text in told:
        print(f"  {title:<9} {printable(text)}")
    for line in forecast.lines:
        print(f"  {line}")
    return 0


def shape_of(folder: Path) -> dict[str, Any]:
    """Sizes from its config.json; a text model has no codebooks. Raises ConfigError."""
    from moshi_mlx.config.reading import parse_config, read_config
    from moshi_mlx.helium.config import parse_helium_config

    raw, path = read_config(folder), str(folder / "config.json")
    if "hidden_size" in raw:  # as transformers writes it
        inner, codebooks = parse_helium_config(raw, path).transformer, None
    else:
        config = parse_config(raw, path)
        inner = config.transformer
        codebooks = {"own": config.dep_q, "users": config.user_q}
    sizes = {"layers": inner.num_layers, "dim": inner.dim, "context": inner.context}
    return {**sizes, "codebooks": codebooks}


def remove(names: list[str], sure: bool) -> int:
    from ..machine.cache import remove as remove_model

    models = [here(name) for name in dict.fromkeys(names)]  # all there, before one is removed
    size = gb(sum(model.num_bytes for model in models))
    if not sure:
        if not sys.stdin.isatty():
            raise UsageError(f"{size} would be removed: say --yes where nobody can be asked")
        what = ", ".join(model.name for model in models)
        print(f"Remove {what} ({size})? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):  # the end of input is a no
            print("Nothing was removed.")
            return 1
    for model in models:
        remove_model(model)
        print(f"{model.name}: {gb(model.num_bytes)} removed")
    return 0


def here(name: str) -> "CachedModel":
    """Raises MoshiError that says what is here."""
    from ..machine.cache import cached_models, find

    if (found := find(name)) is not None:
        return found
    known = ", ".join(model.name for model in cached_models()) or "none"
    raise MoshiError(f"no model {name!r} in the cache; there: {known}")


def row_of(model: "CachedModel") -> dict[str, Any]:
    row = asdict(model) | {"folder": str(model.folder), "licence": model.licence or None}
    return row | {"bytes": row.pop("num_bytes")}


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.2f} MB"
