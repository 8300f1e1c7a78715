"""`Moshi`, the object that people use: one model, any number of conversations, frame by frame.

moshi = moshi_mlx.load("kyutai/moshiko-mlx-q4")
with moshi.session(seed=0) as session:
    reply = session.step(pcm)  # 80 ms of the user in, 80 ms of Moshi and a piece of text out
"""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from .clock import FRAME_SAMPLES
from .codec import Codec, CodecStream
from .config import LmConfig, parse_config, read_config
from .errors import ConfigError, MoshiError
from .generator import Forced, LmGenerator
from .lm import Lm
from .loading import lm_from_file, part_path, working_dtype
from .memory import limit_memory
from .mimi import MimiConfig, load_mimi
from .text import TextTokenizer


@dataclass(frozen=True)
class Reply:
    """One frame of Moshi's side.

    pcm: float32 [1920] at 24 kHz and codes: int32 [dep_q] (both None until the first complete
    frame); text: what this frame's token says ("" for padding, a leading space kept).
    """

    pcm: np.ndarray | None
    text: str
    text_token: int
    codes: np.ndarray | None


class Moshi:
    """A language model, a codec and a tokenizer. Weights never change; sessions hold all state."""

    def __init__(self, lm: Lm, codec: Codec, tokenizer: TextTokenizer, folder: Path) -> None:
        self.lm, self.codec, self.tokenizer, self.folder = lm, codec, tokenizer, folder
        self._silence: np.ndarray | None = None

    @property
    def config(self) -> LmConfig:
        return self.lm.config

    def session(self, seed: int | None = None, **options: Any) -> "Session":
        """A new conversation; options as in LmGenerator (text_temperature, audio_top_k, ...)."""
        return Session(self, seed, **options)

    def warm_up(self) -> None:
        """Trace every shape that a conversation will need, so that no frame pays for it."""
        self.lm.generator(seed=0).warm_up()
        with self.session(seed=0) as session:
            for _ in range(self.config.max_delay + 2):
                session.step(np.zeros(FRAME_SAMPLES, np.float32))

    def silence(self) -> np.ndarray:
        """The codes [dep_q] of a steady silent frame, for holding the model's side quiet."""
        if self._silence is None:
            frames = self.codec.encode(np.zeros(8 * FRAME_SAMPLES, np.float32))
            self._silence = frames[: self.config.dep_q, -1]
        return self._silence


class Session:
    """One conversation. Use it as a context manager, or call `close`."""

    def __init__(self, moshi: Moshi, seed: int | None = None, **options: Any) -> None:
        self.moshi = moshi
        self._generator: LmGenerator = moshi.lm.generator(seed=seed, **options)
        self._stream: CodecStream | None = moshi.codec.stream()
        config = moshi.config
        self._text = moshi.tokenizer.stream((config.text_padding_id, config.text_end_padding_id))

    @property
    def seed(self) -> int:
        """The seed of this conversation, also when it was drawn."""
        return self._generator.seed

    @property
    def frames(self) -> int:
        """Frames stepped so far."""
        return self._generator.steps

    def step(self, pcm: np.ndarray, hold_silence: bool = False) -> Reply:
        """80 ms of the user, float32 [1920] in [-1, 1] -> Moshi's Reply.

        The first frame is not encoded: the model ignores it, as in Kyutai's server, and the
        encoder starts with the second. `hold_silence` keeps Moshi quiet for this frame: its
        samples are replaced by padding and silence. Raises MoshiError for another shape.
        """
        stream = self._open()
        frame = check_frame(pcm)
        user = self.moshi.config.user_q
        if self.frames == 0 or user == 0:
            codes = np.zeros(user, np.int32)
        else:
            codes = stream.encode(frame)[:user]
        step = self._generator.step(codes, self._forced() if hold_silence else None)
        audio = None if step.codes is None else stream.decode(step.codes)
        return Reply(audio, self._text.push(step.text_token), step.text_token, step.codes)

    def _forced(self) -> Forced:
        return Forced(self.moshi.config.text_padding_id, self.moshi.silence())

    def _open(self) -> CodecStream:
        if self._stream is None:
            raise MoshiError("this session is closed; open a new one with moshi.session()")
        return self._stream

    def close(self) -> None:
        """Let go of the codec's state; the caches go with the object."""
        if self._stream is not None:
            self._stream = None

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def check_frame(pcm: np.ndarray) -> np.ndarray:
    """float32 [1920]; NaN and infinities become silence. Raises MoshiError for another shape."""
    frame = np.asarray(pcm)
    if frame.shape != (FRAME_SAMPLES,) or not np.issubdtype(frame.dtype, np.floating):
        raise MoshiError(
            f"a frame is float32 [{FRAME_SAMPLES}] (80 ms, mono, 24 kHz), "
            f"not {frame.dtype} {list(frame.shape)}"
        )
    return np.nan_to_num(frame.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def load(
    name_or_folder: str | Path,
    codec: str = "auto",
    dtype: str | None = None,
    *,
    revision: str | None = None,
    offline: bool | None = None,
    kv_bits: int = 16,
    memory_limits: bool = True,
) -> Moshi:
    """Load a folder, a Hugging Face repository, or "nano", the small model in the package.

    codec: "auto", "mlx" or "rust". dtype: "float32", "float16", "bfloat16"; None as stored on a
    GPU and float32 on MLX's CPU backend, which only emulates half precision. kv_bits: 8 keeps the
    keys and values of conversations in 8 bit. memory_limits: on Metal, set MLX's wired and cache
    limits for this process (`moshi_mlx.memory`). Raises ConfigError, WeightsError, DownloadError,
    and MoshiError for kv_bits that don't fit the model.
    """
    if memory_limits:
        limit_memory()
    from .hub import resolve

    folder = resolve(name_or_folder, revision, offline)
    raw = read_config(folder)
    config = parse_config(raw, str(folder / "config.json"))
    tokenizer = TextTokenizer(part_path(folder, raw, "tokenizer"))
    lm = lm_from_file(part_path(folder, raw, "weights"), config, working_dtype(dtype), kv_bits)
    mimi_config = None
    if raw.get("mimi_config_name"):
        mimi_config = MimiConfig.from_file(folder / raw["mimi_config_name"])
    mimi = load_mimi(part_path(folder, raw, "mimi"), mimi_config, config.mimi_codebooks, codec)
    check_codec(mimi, config, folder)
    return Moshi(lm, mimi, tokenizer, folder)


def check_codec(codec: Codec, config: LmConfig, folder: Path) -> None:
    """ConfigError for a Mimi whose clock or codes are not those of the language model."""
    if codec.frame_samples != FRAME_SAMPLES:
        raise ConfigError(
            f"{folder}: its Mimi has frames of {codec.frame_samples} samples, Moshi needs "
            f"{FRAME_SAMPLES} (24 kHz, 12.5 a second); take another mimi_name"
        )
    if codec.bins != config.card:
        raise ConfigError(
            f"{folder}: its Mimi has {codec.bins} codes, the language model {config.card} (card); "
            "they are not of one model: fetch both again"
        )
