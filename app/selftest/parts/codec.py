"""Mimi against Kyutai's PyTorch code: frame by frame as in a talk, and a file at once.

Shapes: K codebooks, T frames.
"""

import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from moshi_mlx.clock import FRAME_SAMPLES
from moshi_mlx.hub import NANO
from moshi_mlx.mimi import Mimi
from moshi_mlx.mimi.loading import config_beside, load_mlx_mimi

from ..goldens import CODEC_FRAMES, PCM_STRIDE, SAMPLE, golden
from ..part import RUST, Deviation, Fallback
from ..site import Site, apart, unequal
from .rounding import OF_CODES, OF_SOUND

CODEBOOKS = 8
MakeMimi = Callable[[], Mimi]


def nano_mimi() -> Mimi:
    """As a talk loads it: compiled on a GPU."""
    path = NANO / "mimi.safetensors"
    return load_mlx_mimi(path, config_beside(path), CODEBOOKS, mx.float32)


def sample() -> np.ndarray:
    """A spoken question, float32 [T * 1920]."""
    with wave.open(str(NANO / SAMPLE)) as file:
        samples = np.frombuffer(file.readframes(CODEC_FRAMES * FRAME_SAMPLES), np.int16)
    return samples.astype(np.float32) / 32768


@dataclass(frozen=True)
class EncoderCheck:
    """Sound to codes."""

    make: MakeMimi = nano_mimi
    name: str = "Mimi encodes"
    fallback: Fallback = RUST

    def check(self, site: Site) -> Iterator[Deviation]:
        pcm, right = sample(), golden()["mimi.codes"]
        with site.under_test():
            mimi = self.make()
            stream = mimi.stream()
            frames = [stream.encode(frame) for frame in pcm.reshape(-1, FRAME_SAMPLES)]
            whole = mimi.encode(pcm)
        yield Deviation("frame by frame", unequal(np.stack(frames, axis=1), right), OF_CODES)
        yield Deviation("a file", unequal(whole, right), OF_CODES)


@dataclass(frozen=True)
class DecoderCheck:
    """Codes to sound."""

    make: MakeMimi = nano_mimi
    name: str = "Mimi decodes"
    fallback: Fallback = RUST

    def check(self, site: Site) -> Iterator[Deviation]:
        codes, right = golden()["mimi.codes"].astype(np.int32), golden()["mimi.pcm"]
        with site.under_test():
            mimi = self.make()
            stream = mimi.stream()
            frames = [stream.decode(column) for column in codes.T]
            whole = mimi.decode(codes)
        for what, pcm in (("frame by frame", np.concatenate(frames)), ("a file", whole)):
            yield Deviation(what, apart(pcm[::PCM_STRIDE], right), OF_SOUND)
