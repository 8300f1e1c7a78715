"""Mimi: 24 kHz speech to codes at 12.5 frames a second and back, in MLX.

Numpy in, numpy out; the `_lazy` forms take and give MLX arrays, so that codec and language model
can share one evaluation. Weights never change and a stream's state is its own, so one Mimi serves
any number of streams. Whole files go through the frames' code, many frames at a time: both give
the same, and memory doesn't grow with the file.
"""

import copy
from collections.abc import Callable, Iterator

import mlx.core as mx
import numpy as np

from ..backend.compiler import can_compile
from ..backend.device import on_gpu
from ..backend.precision import exact_float32
from ..codec.interface import CodecState, checked_codes, checked_frame, checked_pcm
from ..errors import MoshiError
from .config import MimiConfig
from .convolution import Convolution, DepthwiseUpsample
from .quantizer import Quantizer
from .seanet import SeanetDecoder, SeanetEncoder
from .state import POSITION, State, StateLayout
from .tensors import Tensors
from .transformer import MimiTransformer

CHUNK_FRAMES = 16  # frames of a file that go through the model at once

StreamStep = Callable[[mx.array, State], tuple[mx.array, State]]


class Mimi:
    """The codec. Made by `load_mimi`; `num_codebooks` codebooks are encoded.

    `compiled`: whether frames run as compiled graphs; None: on a GPU. (On the CPU that costs a
    compiler and gains nothing.)
    """

    def __init__(
        self,
        config: MimiConfig,
        tensors: Tensors,
        num_codebooks: int,
        compiled: bool | None = None,
    ) -> None:
        can_compile()  # tells MLX where it can't, before anything runs
        exact_float32()
        self.config = config
        self.num_codebooks = num_codebooks
        self.frame_samples = config.frame_samples
        self.bins = config.quantizer.bins
        self.dtype = tensors.dtype
        self._encoder_layout, self._decoder_layout = StateLayout(), StateLayout()
        self._build_encoder(tensors)
        self._build_decoder(tensors)
        self._quantizer = Quantizer(config.quantizer, tensors, num_codebooks)
        tensors.finish()
        self.compiled = on_gpu() if compiled is None else compiled
        self._encode_frames: StreamStep = (
            mx.compile(self.encode_step) if self.compiled else self.encode_step
        )
        self._decode_frames: StreamStep = (
            mx.compile(self.decode_step) if self.compiled else self.decode_step
        )

    def __repr__(self) -> str:
        return f"<Mimi in MLX: {self.num_codebooks} of {self.config.quantizer.n_q} codebooks>"

    def _build_encoder(self, tensors: Tensors) -> None:
        config, layout = self.config, self._encoder_layout
        width, stride = config.seanet.dimension, config.frame_positions
        self._encoder = SeanetEncoder(config.seanet, tensors, layout)
        self._encoder_transformer = MimiTransformer(
            config.transformer, tensors, layout, "encoder_transformer"
        )
        self._downsample = None
        if stride > 1:
            self._downsample = Convolution(
                tensors,
                layout,
                "downsample.conv.conv.conv",
                (width, width),
                2 * stride,
                stride=stride,
                bias=False,
                pad_mode="replicate",
            )

    def _build_decoder(self, tensors: Tensors) -> None:
        config, layout = self.config, self._decoder_layout
        width, stride = config.seanet.dimension, config.frame_positions
        self._upsample = None
        if stride > 1:
            self._upsample = DepthwiseUpsample(
                tensors, layout, "upsample.convtr.convtr.convtr", width, stride
            )
        self._decoder_transformer = MimiTransformer(
            config.transformer, tensors, layout, "decoder_transformer"
        )
        self._decoder = SeanetDecoder(config.seanet, tensors, layout)

    def encoder_state(self) -> State:
        """The state of an encoder that has heard nothing."""
        return self._encoder_layout.zeros(self.dtype)

    def decoder_state(self) -> State:
        """The state of a decoder that has said nothing."""
        return self._decoder_layout.zeros(self.dtype)

    def encode_step(self, pcm: mx.array, state: State) -> tuple[mx.array, State]:
        """Whole frames, lazily: float [B, samples] -> int32 [B, K, frames], and the new state."""
        state = list(state)
        latent = self._encoder(pcm.astype(self.dtype), state)
        positions = latent.shape[1]
        latent = self._encoder_transformer(latent, state)
        if self._downsample is not None:
            latent = self._downsample(latent, state)
        codes = self._quantizer.encode(latent)
        state[POSITION] = state[POSITION] + positions
        return codes, state

    def decode_step(self, codes: mx.array, state: State) -> tuple[mx.array, State]:
        """Whole frames, lazily: int [B, K, frames] -> float32 [B, samples], and the new state."""
        state = list(state)
        latent = self._quantizer.decode(codes).astype(self.dtype)
        if self._upsample is not None:
            latent = self._upsample(latent, state)
        positions = latent.shape[1]
        latent = self._decoder_transformer(latent, state)
        pcm = self._decoder(latent, state)
        state[POSITION] = state[POSITION] + positions
        return pcm.astype(mx.float32), state

    def encode(self, pcm: np.ndarray) -> np.ndarray:
        """A whole recording: float [samples] -> int32 [K, frames], the last frame zero-padded.

        Raises MoshiError for anything but one channel of finite floats.
        """
        nothing = np.zeros((self.num_codebooks, 0), np.int32)
        return np.concatenate([nothing, *self.encode_parts(pcm)], axis=1)

    def encode_parts(self, pcm: np.ndarray) -> Iterator[np.ndarray]:
        """As `encode`, a part of the recording after the other: int32 [K, some frames] each."""
        pcm = checked_pcm(pcm)
        pcm = np.pad(pcm, (0, -len(pcm) % self.frame_samples))
        frames, state = len(pcm) // self.frame_samples, self.encoder_state()
        for start in range(0, frames, CHUNK_FRAMES):
            stop = min(start + CHUNK_FRAMES, frames)
            chunk = pcm[start * self.frame_samples : stop * self.frame_samples]
            codes, state = self._encode_frames(mx.array(chunk)[None], state)
            mx.eval(codes, state)
            yield np.array(codes[0])

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """All of a recording's codes: int [K, frames] -> float32 [frames * frame_samples].

        K may be less than `num_codebooks`. Raises MoshiError for other shapes or code numbers.
        """
        codes = checked_codes(codes, self.num_codebooks, self.config.quantizer.bins)
        chunks, state = [np.zeros(0, np.float32)], self.decoder_state()
        for start in range(0, codes.shape[1], CHUNK_FRAMES):
            chunk = codes[:, start : start + CHUNK_FRAMES]
            pcm, state = self._decode_frames(mx.array(chunk)[None], state)
            mx.eval(pcm, state)
            chunks.append(np.array(pcm[0]))
        return np.concatenate(chunks)

    def stream(self) -> "MimiStream":
        """A new conversation: encodes and decodes frame by frame, independent of all others."""
        return MimiStream(self)

    def resume(self, state: CodecState) -> "MimiStream":
        """A conversation that goes on where another was. Raises MoshiError for another codec's."""
        stream, found = MimiStream(self), []
        for part, empty in (("encoder", stream.encoder_state), ("decoder", stream.decoder_state)):
            arrays = [state.arrays.get(f"{part}.{i}") for i in range(len(empty))]
            own = [array for array in arrays if array is not None]
            same = [(a.shape, a.dtype) for a in own] == [(e.shape, e.dtype) for e in empty]
            if state.kind != "mlx" or not same or not 0 <= int(np.array(own[POSITION])) < 2**30:
                raise MoshiError(
                    f"this talk's sound was kept by another codec ({state.kind}) than this Mimi in "
                    "MLX; load the model with the codec of that talk"
                )
            found.append(own)
        stream.encoder_state, stream.decoder_state = found
        return stream


class MimiStream:
    """One conversation's encoder and decoder, a frame at a time, for as long as one likes."""

    def __init__(self, mimi: Mimi) -> None:
        self._mimi = mimi
        self.encoder_state = mimi.encoder_state()
        self.decoder_state = mimi.decoder_state()

    def __repr__(self) -> str:
        return f"<MimiStream of {self._mimi!r}>"

    def fork(self) -> "MimiStream":
        """Another stream that goes on from here; a state is replaced, never changed in place."""
        return copy.copy(self)

    @property
    def graph(self) -> "MimiStream":
        """See codec.CodecStream: the language model's step shares it."""
        return self

    def state(self) -> CodecState:
        """See codec.CodecStream; a state is replaced, never changed in place."""
        both = {"encoder": self.encoder_state, "decoder": self.decoder_state}
        arrays = {f"{part}.{i}": a for part, own in both.items() for i, a in enumerate(own)}
        mx.eval(list(arrays.values()))
        return CodecState("mlx", arrays)

    def encode(self, frame: np.ndarray) -> np.ndarray:
        """float [frame_samples] -> int32 [K]. NaN and infinite samples count as silence."""
        frame = checked_frame(frame, self._mimi.frame_samples)
        codes = self.encode_lazy(mx.array(frame))
        mx.eval(codes, self.encoder_state)
        return np.array(codes)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """int [K] -> float32 [frame_samples]. Raises MoshiError for codes there are none of."""
        bins = self._mimi.config.quantizer.bins
        codes = checked_codes(np.asarray(codes)[..., None], self._mimi.num_codebooks, bins)
        pcm = self.decode_lazy(mx.array(codes[:, 0]))
        mx.eval(pcm, self.decoder_state)
        return np.array(pcm)

    def follow(self, codes: np.ndarray) -> None:
        """Go on as if int [K, frames] had been decoded: many frames at a time, and no sound."""
        for start in range(0, codes.shape[1], CHUNK_FRAMES):
            chunk = mx.array(codes[None, :, start : start + CHUNK_FRAMES])
            _, self.decoder_state = self._mimi._decode_frames(chunk, self.decoder_state)
            mx.eval(self.decoder_state)

    def encode_lazy(self, frame: mx.array) -> mx.array:
        """float [frame_samples] -> int32 [K], nothing evaluated or checked."""
        codes, self.encoder_state = self._mimi._encode_frames(frame[None], self.encoder_state)
        return codes.flatten()

    def decode_lazy(self, codes: mx.array) -> mx.array:
        """int [K] -> float32 [frame_samples], nothing evaluated or checked."""
        codes = codes[None, :, None]
        pcm, self.decoder_state = self._mimi._decode_frames(codes, self.decoder_state)
        return pcm.flatten()

    @property
    def arrays(self) -> list[mx.array]:
        """All state; evaluate it with the outputs (`mx.eval(out, stream.arrays)`) every frame."""
        return self.encoder_state + self.decoder_state
