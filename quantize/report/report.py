"""What quantization cost: sizes, every tensor's error, with recordings what is said differently.

A report is plain data: `to_json` and `from_json` are each other's inverse.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from moshi_mlx.config.json_file import read_json_object
from moshi_mlx.config.lm_config import LmConfig
from moshi_mlx.config.reading import read_config
from moshi_mlx.hub import resolve

from ..calibrated.material import check_material
from ..checkpoint.checkpoint import Checkpoint, open_checkpoint
from ..checkpoint.target import tool_version
from ..errors import QuantizeError
from .repetition import Repetition
from .talk_error import FreeRun, Progress, TalkError, TokenStream, compare_talk
from .weight_error import LayerError, layer_errors

FILE = "quantize_report.json"  # in the target folder, for `moshi quantize push`


@dataclass(frozen=True)
class Report:
    """`made`: what the quantized model's config.json says about its making, {} if nothing."""

    original: str
    quantized: str
    made: dict[str, Any]
    original_bytes: int
    layers: list[LayerError]
    talk: TalkError | None
    tool: str

    @property
    def quantized_bytes(self) -> int:
        return sum(layer.num_bytes for layer in self.layers)

    @property
    def num_weights(self) -> int:
        return sum(layer.num_weights for layer in self.layers)

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.quantized_bytes / self.num_weights

    @property
    def mean_error(self) -> float:
        """Relative error of the tensors, each counted by its weights."""
        return sum(x.relative_error * x.num_weights for x in self.layers) / self.num_weights

    def worst(self, count: int) -> list[LayerError]:
        return sorted(self.layers, key=lambda layer: -layer.relative_error)[:count]

    @property
    def recipe(self) -> str:
        return str(self.made.get("recipe", {}).get("name", "unknown recipe"))


def make_report(
    original: str,
    quantized: str,
    audio: Path | None = None,
    *,
    free_frames: int = 500,
    offline: bool | None = None,
    lora: str | None = None,
    progress: Callable[[int], object] = lambda num_weights: None,
    talk_progress: Progress = lambda frames, of: None,
) -> Report:
    """Compare two models, folders or repositories; `lora`: an adapter of the original.

    Raises MoshiError, naming what is wrong.
    """
    checkpoint = open_checkpoint(original, None, offline, lora=lora)
    folder = resolve(quantized, None, offline)
    if audio is not None and not isinstance(checkpoint.config, LmConfig):
        raise QuantizeError("a text model can't listen: leave out --audio")
    if audio is not None and isinstance(checkpoint.config, LmConfig):
        check_material(audio, checkpoint.config)  # before minutes of work
    report = report_of(checkpoint, folder, progress)
    if audio is None or not isinstance(checkpoint.config, LmConfig):
        return report
    talk = compare_talk(
        original, quantized, audio, checkpoint.config, free_frames, offline, talk_progress, lora
    )
    return replace(report, talk=talk)


def report_of(
    checkpoint: Checkpoint,
    folder: Path,
    progress: Callable[[int], object] = lambda num_weights: None,
    name: str | None = None,
) -> Report:
    """The part about weights; `name`: what to call the quantized one, if not as its folder."""
    made = read_config(folder).get("quantization")
    return Report(
        original=checkpoint.label,
        quantized=name or folder.resolve().name,
        made=made if isinstance(made, dict) else {},
        original_bytes=sum(t.values.nbytes for t in checkpoint.source.tensors.values()),
        layers=layer_errors(checkpoint, folder, progress),
        talk=None,
        tool=f"moshi quantize {tool_version()}",
    )


def to_json(report: Report) -> dict[str, Any]:
    """Plain data; sums come along for readers of the file."""
    sums = ("quantized_bytes", "num_weights", "bits_per_weight", "mean_error")
    return asdict(report) | {name: getattr(report, name) for name in sums}


def from_json(path: Path) -> Report:
    """Raises QuantizeError for anything else than a report's file."""
    advice = "make one with `moshi quantize report A B --json FILE`"
    raw = read_json_object(path, QuantizeError, advice)
    try:
        fields = {name: raw[name] for name in Report.__dataclass_fields__}
        fields["layers"] = [LayerError(**layer) for layer in raw["layers"]]
        fields["talk"] = None if raw["talk"] is None else _talk(raw["talk"])
        return Report(**fields)
    except (ValueError, KeyError, TypeError) as error:
        raise QuantizeError(f"{path} can't be read as a report ({error}); {advice}") from error


def _talk(raw: dict[str, Any]) -> TalkError:
    streams = [
        TokenStream(**s | {"entropy_nats": tuple(s["entropy_nats"])}) for s in raw["streams"]
    ]
    first, second = (
        Repetition(**r | {"distinct": tuple(r["distinct"])}) for r in raw["free_run"]["repetition"]
    )
    run = FreeRun(**raw["free_run"] | {"repetition": (first, second)})
    return TalkError(**raw | {"streams": streams, "free_run": run})
