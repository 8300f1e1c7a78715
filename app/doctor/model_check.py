"""A model that is on this machine, read to its last value: what is damaged, by name."""

from collections.abc import Callable
from pathlib import Path

from moshi_mlx.config.model_files import part_in, weight_paths
from moshi_mlx.config.reading import parse_config, read_config
from moshi_mlx.errors import MoshiError
from moshi_mlx.helium.config import parse_helium_config
from moshi_mlx.helium.weights import packed
from moshi_mlx.hub import mimi_file, resolve, tokenizer_file
from moshi_mlx.text.tokenizer import load_tokenizer
from moshi_mlx.weights.finite import damaged
from moshi_mlx.weights.loading import without_absent_heads
from moshi_mlx.weights.safetensors import check_tensors, read_all, to_mlx_layout
from moshi_mlx.weights.tensor_names import expected

from .checks import OK, PROBLEM, Finding

SHOWN = 20  # damaged tensors; more say no more
TITLE = "model"
FETCH = "it is damaged: remove it (`moshi models rm`) and fetch it again"


def check_model(
    name: str,
    revision: str | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> list[Finding]:
    """The doctor's lines about one model, which is never downloaded.

    `progress(done, total)` in bytes.
    """
    try:
        folder = resolve(name, revision, offline=True)
        paths, words = files_of(folder)
    except MoshiError as error:
        return [_problem(str(error))]
    total, done, lines = sum(path.stat().st_size for path in paths), 0, []

    def told(num_bytes: int) -> None:
        nonlocal done
        done += num_bytes
        progress(done, total)

    try:
        for found in damaged(paths, told):
            values = "value that is" if found.count == 1 else "values that are"
            text = f"{found.path.name}: {found.name} has {found.count} {values} not finite"
            lines.append(_problem(text, FETCH))
    except (MoshiError, OSError) as error:
        lines.append(_problem(str(error)))
    if len(lines) > SHOWN:
        lines[SHOWN:] = [_problem(f"and {len(lines) - SHOWN} more", FETCH)]
    text = f"{total / 1e9:.2f} GB in {len(paths)} files, every value finite; {words}"
    return lines or [Finding(OK, TITLE, text, personal=True)]


def files_of(folder: Path) -> tuple[list[Path], str]:
    """(files with weights, what kind of model it is), each tensor accounted for. Raises MoshiError.

    Nothing but headers and the tokenizer is read.
    """
    raw = read_config(folder)
    weights, source = weight_paths(folder, raw), str(folder / "config.json")
    tensors = read_all(weights)
    if "hidden_size" in raw or raw.get("n_q") == 0:
        packed(tensors, str(folder), parse_helium_config(raw, source))
        if (path := part_in(folder, raw, "tokenizer")) is not None:
            load_tokenizer(path)
        return weights, "a text model"
    config = without_absent_heads(parse_config(raw, source), tensors)
    check_tensors(to_mlx_layout(tensors, config, str(folder)), expected(config), str(folder))
    load_tokenizer(tokenizer_file(folder, raw))
    return [*weights, mimi_file(folder, raw)[0]], "a speech model with Mimi and tokenizer"


def _problem(text: str, advice: str = "") -> Finding:
    return Finding(PROBLEM, TITLE, text, advice, personal=True)
