"""What a quantized model says differently, on recordings: teacher-forced, and running free.

One model is in memory at a time; the original's logits wait on the disk. KL in nats.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import mlx.core as mx
import numpy as np

import moshi_mlx
from moshi_mlx.config.lm_config import NO_INPUT, LmConfig
from moshi_mlx.lm.model import Lm
from moshi_mlx.weights.loading import load_lm, working_dtype

from ..calibrated.material import Sequence as Conversation
from ..calibrated.material import read_material
from ..mixed.divergence import kl_divergence, log_probabilities
from .repetition import Repetition, repetition

POSITIONS = 256  # compared at once: bounds memory


class Progress(Protocol):
    def __call__(self, frames: int, of: int) -> object: ...


@dataclass(frozen=True)
class TokenStream:
    """The text or one of the model's own codebooks, over `positions` predictions of both models.

    entropy_nats: mean entropy of the predictions, of the original and of the other.
    """

    name: str
    positions: int
    kl_nats: float
    top1_agreement: float
    entropy_nats: tuple[float, float]


@dataclass(frozen=True)
class FreeRun:
    """Both models greedy on the same user's codes; shares of equal tokens; texts compared."""

    frames: int
    equal_text: float
    equal_audio: float
    first_difference: int | None  # frame
    repetition: tuple[Repetition, Repetition]


@dataclass(frozen=True)
class TalkError:
    conversations: int
    frames: int
    streams: list[TokenStream]
    free_run: FreeRun


def compare_talk(
    original: str,
    other: str,
    audio: Path,
    config: LmConfig,
    free_frames: int,
    offline: bool | None,
    progress: Progress = lambda frames, of: None,
    lora: str | None = None,
) -> TalkError:
    """Two models on the material of a folder. Raises QuantizeError, AudioError, WeightsError.

    `progress`: told how many frames more a model has gone through, and of how many in all; `lora`:
    an adapter of the original.
    """
    moshi: list[moshi_mlx.Moshi] = []

    def talker() -> moshi_mlx.Moshi:
        moshi.append(moshi_mlx.load(original, offline=offline, lora=lora))
        return moshi[0]

    material = read_material(audio, config, talker)
    total = 2 * (sum(c.frames for c in material) + free_frames)
    done = partial(progress, of=total)
    with tempfile.TemporaryDirectory(prefix="moshi-report-") as name:
        folder, dtype = Path(name), working_dtype(None)
        lm = moshi[0].lm if moshi else load_lm(original, dtype, offline=offline, lora=lora)
        heard = users_codes(material, config, free_frames)
        for number, conversation in enumerate(material):
            for k, logits in enumerate(stream_logits(lm, conversation.codes)):
                np.save(folder / f"{number}-{k}.npy", logits)
            done(conversation.frames)
        first = greedy_run(lm, heard, done)
        moshi.clear()
        del lm
        lm = load_lm(other, dtype, offline=offline)
        totals = Totals(1 + config.dep_q)
        for number, conversation in enumerate(material):
            for k, logits in enumerate(stream_logits(lm, conversation.codes)):
                totals.add(k, np.load(folder / f"{number}-{k}.npy", mmap_mode="r"), logits)
            done(conversation.frames)
        free = compare_runs(first, greedy_run(lm, heard, done), config)
    return TalkError(len(material), sum(c.frames for c in material), totals.streams(), free)


def stream_logits(lm: Lm, codes: np.ndarray) -> list[np.ndarray]:
    """Teacher-forced float32 logits [predictions, V] of the text and of each own codebook."""
    text, audio = lm.forward(codes[None])
    streams = [text[0]] + ([] if audio is None else [audio[0, k] for k in range(audio.shape[1])])
    return [array[np.isfinite(array[:, 0])] for array in map(np.array, streams)]


class Totals:
    """Sums over all predictions of every stream."""

    def __init__(self, streams: int) -> None:
        self._sums = np.zeros((streams, 5))  # positions, KL, equal top-1, entropies

    def add(self, stream: int, reference: np.ndarray, other: np.ndarray) -> None:
        for start in range(0, len(reference), POSITIONS):
            a, b = (mx.array(x[start : start + POSITIONS]) for x in (reference, other))
            equal = (a.argmax(axis=-1) == b.argmax(axis=-1)).sum()
            found = (kl_divergence(a, b).sum(), equal, entropy(a).sum(), entropy(b).sum())
            self._sums[stream] += (a.shape[0], *(float(x) for x in found))

    def streams(self) -> list[TokenStream]:
        found = []
        for k, (positions, *sums) in enumerate(self._sums):
            kl, equal, *entropies = (float(x) / max(positions, 1) for x in sums)
            name = f"codebook {k}" if k else "text"
            found.append(TokenStream(name, int(positions), kl, equal, (entropies[0], entropies[1])))
        return found


def entropy(logits: mx.array) -> mx.array:
    """Logits [..., V] -> entropy in nats, [...]."""
    log_p = log_probabilities(logits)
    return -(mx.exp(log_p) * log_p).sum(axis=-1)


def users_codes(material: Sequence[Conversation], config: LmConfig, frames: int) -> np.ndarray:
    """The user's side of all conversations in turn, [user_q, frames], from the start if short."""
    user = np.concatenate([c.codes[1 + config.dep_q :] for c in material], axis=1)
    return np.take(user, np.arange(frames), axis=1, mode="wrap")


def greedy_run(
    lm: Lm, heard: np.ndarray, done: Callable[[int], object] = lambda frames: None
) -> np.ndarray:
    """User's codes [user_q, frames] -> text and own tokens [frames, 1 + dep_q]."""
    generator = lm.generator(seed=0, text_temperature=0.0, audio_temperature=0.0)
    silence = np.full(lm.config.user_q, NO_INPUT, np.int32)
    generator.step(silence)  # the model ignores the first frame
    said = []
    for codes in heard.T:
        step = generator.step(codes)
        said.append([step.text_token, *step.sampled])
        done(1)
    return np.array(said)


def compare_runs(first: np.ndarray, second: np.ndarray, config: LmConfig) -> FreeRun:
    equal = first == second
    different = np.flatnonzero(~equal.all(axis=1))
    silent = (config.text_padding_id, config.text_end_padding_id)
    texts = [[int(t) for t in run[:, 0] if t not in silent] for run in (first, second)]
    return FreeRun(
        len(first),
        float(equal[:, 0].mean()),
        float(equal[:, 1:].mean()) if equal.shape[1] > 1 else 1.0,
        int(different[0]) if len(different) else None,
        (repetition(texts[0]), repetition(texts[1])),
    )
