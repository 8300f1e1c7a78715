"""A quantized model to the Hugging Face hub, with a model card made from its report."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moshi_mlx.config.reading import read_config
from moshi_mlx.errors import DownloadError, printable
from moshi_mlx.hub import REPOSITORY

from ..errors import QuantizeError
from ..report import tables
from ..report.report import FILE, Report, from_json


def quantized_folder(target: Path) -> dict[str, Any]:
    """The config.json of a folder that `moshi quantize` made. Raises QuantizeError."""
    if not (target / "config.json").is_file():
        raise QuantizeError(
            f"{target} has no config.json: give a folder that `moshi quantize` made"
        )
    config = read_config(target)
    made = config.get("quantization")
    if not isinstance(made, dict) or "recipe" not in made:
        raise QuantizeError(
            f"{target} wasn't made by `moshi quantize`: its config.json names no recipe"
        )
    if not (target / str(config.get("moshi_name"))).is_file():
        raise QuantizeError(f"{target} lacks its weights, {config.get('moshi_name')}")
    return config


def read_report(target: Path, path: Path | None) -> Report:
    """The report that lies in the target, or another. Raises QuantizeError."""
    if path is None and not (target / FILE).is_file():
        raise QuantizeError(
            f"{target} has no report: make one with `moshi quantize report ORIGINAL {target} "
            f"--json {target / FILE}`"
        )
    return from_json(path or target / FILE)


def model_card(repository: str, report: Report, licence: str | None, text_only: bool) -> str:
    """README.md of the repository: YAML front matter and Markdown."""
    command = "text" if text_only else "chat"
    source = plain(report.made.get("source", report.original))
    front = {"library_name": "moshi-local", "tags": ["mlx", "moshi", "speech", "quantized"]}
    if REPOSITORY.fullmatch(source):
        front |= {"base_model": source, "base_model_relation": "quantized"}
    if licence is not None:
        front["license"] = licence
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items()]
    revision = report.made.get("revision")
    origin = f"`{source}`" + (f" at revision `{plain(revision)}`" if revision else "")
    if isinstance(adapter := report.made.get("adapter"), dict):
        origin += f", with the adapter `{plain(adapter.get('name', ''))}` merged"
    rules = report.made.get("recipe", {}).get("rules", [])
    shown = [(f"`{plain(pattern)}`", _format(chosen)) for pattern, chosen in rules]
    parts = [
        "---\n" + "\n".join(lines) + "\n---",
        f"# {repository.partition('/')[2]}",
        f"{origin}, quantized by `{plain(report.made.get('tool', report.tool))}`, recipe "
        f"`{plain(report.recipe)}`, rounding {plain(report.made.get('rounding', 'unknown'))}.",
        f"## How to use it\n\n```\nmoshi {command} --model {repository}\n```",
        "## Recipe\n\n" + tables.markdown((("layers", "stored as"), shown)),
        f"## What it cost\n\n{tables.size_line(report)}.",
    ]
    if (talk := report.talk) is not None:
        parts += [f"It is {tables.judgement(report)}."]
        parts += [f"{tables.material_line(talk)}:", tables.markdown(tables.streams(talk))]
        parts += [f"{tables.free_line(talk)}.", tables.markdown(tables.texts(talk))]
    parts += ["The tensors that are furthest off:", tables.markdown(tables.layers(report, 10))]
    return "\n\n".join(parts) + "\n"


def plain(name: object) -> str:
    """A name from somebody's files for one line of Markdown, also between backticks."""
    return printable(str(name)).replace("`", "'")


def _format(chosen: Any) -> str:
    if not isinstance(chosen, dict):
        return "kept in bf16"
    mode = "" if chosen["mode"] == "affine" else f", {chosen['mode']}"
    return f"{chosen['bits']} bit, group {chosen['group_size']}{mode}"


def licence_of(source: str) -> str | None:
    """What the original's repository says; None where it can't be found out."""
    from huggingface_hub import HfApi, errors

    if not REPOSITORY.fullmatch(source):
        return None
    try:
        card = (
            HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
            .model_info(source, timeout=10)
            .card_data
        )
    except (errors.HTTPError, OSError):
        return None
    found = card.get("license") if card else None
    return None if found is None else str(found)


def upload(target: Path, repository: str, card: str, private: bool) -> str:
    """All files of the folder and the card, in one commit; returns the page's address.

    Raises DownloadError for a missing token and everything that the hub or the network refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    if get_token() is None:
        raise DownloadError("no token for the hub: run `hf auth login`, or set HF_TOKEN")
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
    operations = [
        CommitOperationAdd(path.name, str(path))
        for path in sorted(target.iterdir())
        if path.is_file()
        and not path.is_symlink()
        and path.name != "README.md"
        and not path.name.startswith(".")
    ]
    operations.append(CommitOperationAdd("README.md", card.encode()))
    with one_line(repository):
        url = api.create_repo(repository, private=private, exist_ok=True)
        api.create_commit(repository, operations, commit_message="Upload by moshi quantize")
    return str(url)


@contextmanager
def one_line(repository: str) -> Iterator[None]:
    """huggingface_hub's failures as DownloadErrors that say what to do."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        said = " ".join((error.server_message or str(error)).split())
        if status in (401, 403):
            raise DownloadError(
                f"the hub doesn't let this token write to {repository} ({said}): check the name, "
                "and the token with `hf auth whoami`"
            ) from error
        raise DownloadError(
            f"the hub refused {repository} ({status}: {said}): start again"
        ) from error
    except (errors.HTTPError, OSError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise DownloadError(
            f"{repository} couldn't be uploaded ({said}): check the network and start again"
        ) from error
