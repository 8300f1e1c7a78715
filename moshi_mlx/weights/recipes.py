"""How weights are stored: MLX's formats, the recipes that give each layer one, and their names.

A recipe is data: patterns with a format each, decided by the first pattern that fits. A pattern
names a module and covers everything below it: `depformer`, `transformer.layers.0`, with layers
counted from the end too (`transformer.layers.-1`). `*` stands for one dotted part or a piece of
it, `**` for any number of parts (`**.linear_in`). What no pattern covers is kept in bf16.

Without MLX: the doctor reads this in a process that must not start it.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ..config.lm_config import LmConfig
from ..config.model_files import file_names, weight_paths
from ..config.reading import parse_config, read_config
from ..tensor_files.header import TensorEntry, read_header
from .tensor_names import expected

Shapes = Mapping[str, tuple[int, ...]]
Labels = dict[str, str]  # quantized layer -> "q4", "mxfp4", ...


@dataclass(frozen=True)
class Format:
    """`bits` a weight, one scale for every `group_size` weights of a row, as in `mx.quantize`.

    `mode` is one of MLX's ("affine", "mxfp4", "nvfp4", "mxfp8"), or the dtype of plain weights.
    """

    bits: int
    group_size: int
    mode: str = "affine"

    @property
    def quantized(self) -> bool:
        return self.mode not in FLOATS

    @property
    def bits_per_weight(self) -> float:
        """With the scales: affine has a 16-bit scale and bias a group, the others 8 bits."""
        if not self.quantized:
            return self.bits
        return self.bits + (32 if self.mode == "affine" else 8) / self.group_size

    @property
    def label(self) -> str:
        """ "q4" whatever the group, "mxfp4", "bf16"."""
        if self.mode == "affine":
            return f"q{self.bits}"
        return {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}.get(self.mode, self.mode)

    def __str__(self) -> str:
        return f"{self.bits} bit, group {self.group_size}" if self.mode == "affine" else self.label


AFFINE_BITS = (2, 3, 4, 5, 6, 8)
AFFINE_GROUPS = (128, 64, 32)
MODES: Mapping[str, Format] = {  # MLX's other formats come in one size each
    "mxfp4": Format(4, 32, "mxfp4"),
    "nvfp4": Format(4, 16, "nvfp4"),
    "mxfp8": Format(8, 32, "mxfp8"),
}
FLOATS = ("bfloat16", "float16", "float32")
BF16, FP16, FP32 = Format(16, 1, "bfloat16"), Format(16, 1, "float16"), Format(32, 1, "float32")
STORED = {"BF16": BF16, "F16": FP16, "F32": FP32}  # by safetensors' dtype
Rules = tuple[tuple[str, Format | None], ...]  # pattern -> format; None: keep as it is


@dataclass(frozen=True)
class Recipe:
    """A name and its rules; the first pattern that fits decides."""

    name: str
    rules: Rules

    @property
    def quantizes(self) -> bool:
        return any(chosen is not None and chosen.quantized for _, chosen in self.rules)

    def format_of(self, path: str, num_layers: int) -> Format | None:
        """The format for the module `path`, None for keep."""
        number = self.rule_of(path, num_layers)
        return None if number is None else self.rules[number][1]

    def rule_of(self, path: str, num_layers: int) -> int | None:
        """Which rule decides about the module `path`; None: no rule covers it."""
        names = [name.split(".") for name in {path, _counted_from_the_end(path, num_layers)}]
        for number, (pattern, _) in enumerate(self.rules):
            if any(_covers(pattern.split("."), name) for name in names):
                return number
        return None

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "rules": [[p, format_to_json(c)] for p, c in self.rules]}


def format_to_json(chosen: Format | None) -> Any:
    if chosen is None:
        return "keep"
    return {"bits": chosen.bits, "group_size": chosen.group_size, "mode": chosen.mode}


SENSITIVE = (  # small or close to the output: what mixed recipes store with more bits
    *("text_emb", "audio_embs", "text_linear", "extra_heads", "condition_provider", "depformer"),
    *("transformer.layers.0", "transformer.layers.-1"),
)


def uniform(name: str, chosen: Format) -> Recipe:
    return Recipe(name, (("*", chosen),))


def mixed(name: str, low: Format, high: Format) -> Recipe:
    return Recipe(name, (*((pattern, high) for pattern in SENSITIVE), ("*", low)))


RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        uniform("q8", Format(8, 64)),  # Kyutai's own choice, as is q4's group of 32
        uniform("q6", Format(6, 64)),
        uniform("q5", Format(5, 64)),
        uniform("q4", Format(4, 32)),
        uniform("q3", Format(3, 64)),
        mixed("mixed-4-6", Format(4, 64), Format(6, 64)),
        mixed("mixed-4-8", Format(4, 64), Format(8, 64)),
        *(uniform(name, chosen) for name, chosen in MODES.items()),
        *(uniform(chosen.label, chosen) for chosen in (BF16, FP16, FP32)),
    )
}
KYUTAI_BITS = {4: "q4", 8: "q8", 16: "bf16"}  # what Kyutai publishes of each model
ADVISED = ("bf16", "q8", "q6", "q4")  # best first: what a machine is measured against


def smaller_than(name: str, among: Sequence[str] = ADVISED) -> tuple[str, ...] | None:
    """Those of `among` that store a weight in fewer bits than the recipe `name`, in their order.

    None where `name` isn't in the table: a mix of one's own, of which nobody knows what is smaller.
    """
    if name not in RECIPES:
        return None
    most = _bits_per_weight(RECIPES[name])
    return tuple(other for other in among if _bits_per_weight(RECIPES[other]) < most)


def _bits_per_weight(recipe: Recipe) -> float:
    """Of the bulk of the weights, which the last rule covers."""
    chosen = recipe.rules[-1][1] or BF16
    return chosen.bits_per_weight


# --- which tensor is stored how -----------------------------------------------------------------


def fitting(chosen: Format, width: int) -> Format | None:
    """`chosen`, or the same bits with the largest smaller group that divides `width`; else None."""
    if width % chosen.group_size == 0:
        return chosen
    if chosen.mode == "affine":
        for group_size in AFFINE_GROUPS:
            if group_size < chosen.group_size and width % group_size == 0:
                return Format(chosen.bits, group_size)
    return None


def quantizable(shapes: Shapes) -> set[str]:
    """Names that mlx.nn.quantize would quantize: matrices of leaf modules (linear, embedding).

    An embedding with a low-rank projection or two output projections is not a leaf: it is kept.
    """
    parents = {name.rpartition(".")[0].rpartition(".")[0] for name in shapes}
    return {
        name
        for name, shape in shapes.items()
        if name.endswith(".weight") and len(shape) == 2 and name.rpartition(".")[0] not in parents
    }


def formats(config: LmConfig, recipe: Recipe) -> dict[str, Format]:
    """The format of every tensor of a file (`tensor_names.expected`) that has this recipe.

    What isn't quantized has the recipe's dtype, and beside quantized layers bf16.
    """
    shapes = expected(config)
    matrices, num_layers = quantizable(shapes), config.transformer.num_layers
    plain = BF16 if recipe.quantizes else recipe.rules[0][1] or BF16
    found = {}
    for name, shape in shapes.items():
        asked = recipe.format_of(name.rpartition(".")[0], num_layers) if name in matrices else None
        found[name] = (fitting(asked, shape[-1]) if asked else None) or plain
    return found


def _covers(pattern: Sequence[str], path: Sequence[str]) -> bool:
    """Whether the parts of a pattern name `path` or a module above it."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_covers(pattern[1:], path[start:]) for start in range(len(path)))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _covers(pattern[1:], path[1:])


def _counted_from_the_end(path: str, num_layers: int) -> str:
    """transformer.layers.31.norm1 -> transformer.layers.-1.norm1 (of 32)."""
    head = "transformer.layers."
    if not path.startswith(head):
        return path
    layer, _, rest = path[len(head) :].partition(".")
    return f"{head}{int(layer) - num_layers}.{rest}" if layer.isdigit() else path


# --- what a model's recipe is called --------------------------------------------------------------


def name_of(model: str | Path) -> str:
    """The recipe by which a model's weights lie on the disk: "q4", "mixed-4-6", "bf16".

    `model`: a folder, one weight file of it, "nano", or a repository, of which only the name is
    looked at. A folder that `moshi quantize` made says its recipe in config.json (one of your own
    has its file's name), any other is told by its layers: "q8+q4" for a mix that no recipe makes.
    "" where nothing tells. Raises ConfigError and WeightsError for a folder that is damaged.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return _of_folder(path)
    if path.suffix == ".safetensors" and path.is_file():
        return _of_folder(path.parent, path)
    if str(model) == "nano":
        from ..hub import NANO

        return _of_folder(NANO)
    return of_repository(str(model))


def of_repository(name: str) -> str:
    """By the name alone: "kyutai/moshiko-mlx-q4" and "somebody/moshi-4bit" -> "q4"."""
    known = "|".join(sorted(map(re.escape, RECIPES), key=len, reverse=True))
    words = name.rpartition("/")[2].lower()
    if found := re.search(rf"(?:^|[-_.])({known})(?:$|[-_.])", words):
        return found[1]
    bits = "".join(map(str, AFFINE_BITS))
    found = re.search(rf"(?:^|[-_.])([{bits}])-?bits?(?:$|[-_.])", words)
    return f"q{found[1]}" if found else ""


def _of_folder(folder: Path, weights: Path | None = None) -> str:
    raw = read_config(folder)
    names = file_names(raw, [path.name for path in folder.iterdir()], ("weights",))
    own = folder / names["weights"] if "weights" in names else None
    if weights in (None, own) and (said := _said(raw)):
        return said
    files = [weights] if weights and weights != own else weight_paths(folder, raw)
    tensors = {name: entry for path in files for name, entry in read_header(path).tensors.items()}
    return _recognized(_labels(tensors, raw, str(folder)), _dtype(tensors), raw)


def _said(raw: Mapping[str, Any]) -> str:
    """What `moshi quantize` wrote into config.json, or mlx-lm about a text model; else ""."""
    made = raw.get("quantization")
    if not isinstance(made, dict):
        return ""
    recipe = made.get("recipe")
    if isinstance(recipe, dict) and isinstance(name := recipe.get("name"), str):
        for known in RECIPES.values():
            if known.to_json()["rules"] == recipe.get("rules"):
                return known.name
        return f"{name} (own)" if name in RECIPES else name
    alike = not any(isinstance(value, dict) for value in made.values())
    if alike and (mode := made.get("mode", "affine")) in ("affine", *MODES):
        bits = made.get("bits")
        return mode if mode in MODES else f"q{bits}" if bits in AFFINE_BITS else ""
    return ""


def _labels(tensors: Mapping[str, TensorEntry], raw: Mapping[str, Any], path: str) -> Labels:
    """Of every quantized layer; {} for a model whose config doesn't say its widths."""
    quantized = [name.removesuffix(".scales") for name in tensors if name.endswith(".scales")]
    if not quantized or "n_q" not in raw:
        return {}
    shapes, found = expected(parse_config(raw, path)), {}
    for layer in quantized:
        weight, scales = tensors.get(f"{layer}.weight"), tensors[f"{layer}.scales"]
        shape = shapes.get(f"{layer}.weight")
        if weight is None or shape is None or not weight.shape or not scales.shape:
            continue
        chosen = format_by_shape(
            weight.shape[-1], scales.shape[-1], shape[-1], f"{layer}.biases" in tensors
        )
        if chosen is not None:
            found[layer] = chosen.label
    return found


def format_by_shape(
    packed_width: int, num_groups: int, width: int, has_biases: bool
) -> Format | None:
    """The format of a layer of `width` whose rows are packed in so many uint32; None: of none."""
    bits, left_bits = divmod(packed_width * 32, width)
    group_size, left_group = divmod(width, max(1, num_groups))
    if left_bits or left_group:
        return None
    if has_biases:
        known = bits in AFFINE_BITS and group_size in AFFINE_GROUPS
        return Format(bits, group_size) if known else None
    return next((f for f in MODES.values() if (f.bits, f.group_size) == (bits, group_size)), None)


def _recognized(labels: Labels, dtype: str, raw: Mapping[str, Any]) -> str:
    """The recipe of the table that makes these layers, else all their labels, most bits first."""
    kinds = sorted(set(labels.values()), key=_bits_of, reverse=True)
    if len(kinds) < 2:
        return kinds[0] if kinds else dtype
    num_layers = int(raw["num_layers"])
    for recipe in RECIPES.values():
        made = (recipe.format_of(layer, num_layers) or BF16 for layer in labels)
        if [chosen.label for chosen in made] == list(labels.values()):
            return recipe.name
    return "+".join(kinds)


def _bits_of(label: str) -> float:
    return _bits_per_weight(RECIPES[label]) if label in RECIPES else float(label.removeprefix("q"))


def _dtype(tensors: Mapping[str, TensorEntry]) -> str:
    """The dtype that most of the bytes have."""
    sizes: Counter[str] = Counter()
    for entry in tensors.values():
        sizes[entry.dtype] += entry.num_bytes
    stored = STORED.get(sizes.most_common(1)[0][0]) if sizes else None
    return stored.label if stored else ""
