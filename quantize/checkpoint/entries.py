"""Which rows of which source tensors make each tensor of Kyutai's MLX layout.

Three layouts come in: Kyutai's MLX and PyTorch ones (by the table in
moshi_mlx/weights/tensor_names.py) and transformers' HeliumForCausalLM (q, k, v and gate, up apart;
its rotary embedding is interleaved as Kyutai's is, so the rows keep their order).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.errors import WeightsError
from moshi_mlx.helium.config import HeliumConfig
from moshi_mlx.helium.weights import layers_of
from moshi_mlx.weights.safetensors import check_names
from moshi_mlx.weights.tensor_names import Shape, dropped, expected, is_pytorch_layout, source_of

from ..errors import QuantizeError


@dataclass(frozen=True)
class Rows:
    """Rows `start` to `stop` of a source tensor."""

    source: str
    start: int
    stop: int


@dataclass(frozen=True)
class Entry:
    """A target tensor: its pieces stacked along the rows, in this shape."""

    name: str
    pieces: tuple[Rows, ...]
    shape: Shape

    @property
    def module(self) -> str:
        return self.name.rpartition(".")[0]


def is_transformers_layout(names: Iterable[str]) -> bool:
    return "model.embed_tokens.weight" in set(names)


def check_is_model(names: Iterable[str], where: str) -> None:
    """Raises QuantizeError for weights of something else (Mimi, say)."""
    if not {"out_norm.weight", "out_norm.alpha", "model.embed_tokens.weight"} & set(names):
        raise QuantizeError(
            f"{where} isn't a model this tool knows: its weights have neither Kyutai's names "
            "(out_norm) nor those of Helium in transformers (model.embed_tokens)"
        )


def entries_of(
    shapes: Mapping[str, Shape], config: LmConfig | HeliumConfig, path: str
) -> list[Entry]:
    """Every target tensor, in a fixed order; each source tensor is used or refused.

    Raises WeightsError for missing, unknown and misshapen tensors.
    """
    if isinstance(config, HeliumConfig):
        entries = _of_helium(shapes, config, path)
    else:
        wanted = expected(config)
        entries = [_entry(name, shape, shapes, config, path) for name, shape in wanted.items()]
        used = {piece.source for entry in entries for piece in entry.pieces} | dropped(config)
        check_names(set(shapes), used, path)
    return sorted(entries, key=lambda entry: _natural(entry.name))


def _entry(
    name: str, shape: Shape, shapes: Mapping[str, Shape], config: LmConfig, path: str
) -> Entry:
    """`name` from the first of its sources that is there."""
    sources = ((name, 1, 0),)
    if is_pytorch_layout(set(shapes)):
        sources = source_of(name, config).names
    for source, parts, part in sources:
        if source not in shapes:
            continue
        fused = (shape[0] * parts, *shape[1:])
        if shapes[source] == (1, 1, *shape):
            return Entry(name, (Rows(source, 0, 1),), shape)
        if shapes[source] != fused:
            raise WeightsError(
                f"{path}: {source} has shape {list(shapes[source])}, the config asks for "
                f"{list(fused)}"
            )
        return Entry(name, (Rows(source, part * shape[0], (part + 1) * shape[0]),), shape)
    raise WeightsError(f"{path} lacks {sources[0][0]}: it does not fit its config.json")


def _of_helium(shapes: Mapping[str, Shape], config: HeliumConfig, path: str) -> list[Entry]:
    """Kyutai's names, or transformers' with their parts one below the other."""
    transformers = is_transformers_layout(shapes)
    entries, used = [], set()
    for layer in layers_of(config):
        for name, shape in layer.shapes(transformers).items():
            used.add(name)
            if name not in shapes:
                raise WeightsError(f"{path} lacks {name}: fetch it again")
            if shapes[name] != shape:
                raise WeightsError(
                    f"{path}: {name} has shape {list(shapes[name])}, the config asks for "
                    f"{list(shape)}"
                )
        rows = sum(n for _, n in layer.parts)
        parts = layer.parts if transformers else ((layer.name, rows),)
        pieces = tuple(Rows(f"{name}.weight", 0, n) for name, n in parts)
        tail = () if layer.width is None else (layer.width,)
        entries.append(Entry(f"{layer.name}.weight", pieces, (rows, *tail)))
    check_names(set(shapes), used, path)
    return entries


def _natural(name: str) -> list[tuple[int, str | int]]:
    """layers.2 before layers.10."""
    return [(0, int(p)) if p.isdigit() else (1, p) for p in name.split(".")]
