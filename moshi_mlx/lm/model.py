"""The language model: 80 ms of codes in, the next text token and codes out. Weights never change.

`forward` runs whole sequences teacher forced, `step` one frame of a conversation; `generator`
makes the object that holds a conversation's state.
Source: PyTorch `moshi/models/lm.py`.
A step has no time axis: [R, C]. Shapes: B batch, of a step its conversations, R rows of a step (see
`step_inputs.Layout`), T steps, K codebooks, C width, V vocabulary, S depth slices.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack, overload

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from ..backend.compiler import can_compile
from ..backend.precision import exact_float32
from ..backend.residual_norm import taken
from ..config.lm_config import NO_INPUT, LmConfig
from ..errors import MoshiError
from ..persona.prompt import SILENCE, SINE
from .batch import BatchGenerator
from .buffers import Buffers, Conditions, Sources
from .compiled_step import FrameFunctions
from .conditions import ConditionProvider
from .depth import DepthTransformer
from .generator import LmGenerator
from .layers.embedding import StackedEmbedding, TokenEmbedding
from .layers.kv_ring import Position, new_ring
from .layers.linear import Linear, linear_of
from .layers.residual import normed
from .layers.transformer import Transformer
from .model_digest import ModelDigest
from .options import BatchOptions, ConditionOptions, GeneratorOptions
from .sampling import Draws
from .state.past import LmPrompt, LmState
from .state.prompting import PromptTokens, make_prompt, persona_inputs
from .state.reading import read_prompt, read_talk
from .step_inputs import StepInputs

SEQUENCE_CHUNK = 512  # steps whose logits are computed at once: bounds memory


class Lm(nn.Module):
    """Moshi's language model as described by an LmConfig.

    `kv_bits`: 16, or 8 for a KV cache in 8 bit, in conversations and in `forward`.
    """

    forced_texts = 1

    def __init__(self, config: LmConfig, kv_bits: int = 16) -> None:
        can_compile()  # tells MLX where it can't, before anything runs
        exact_float32()
        super().__init__()
        self.config, self.kv_bits = config, kv_bits
        self.functions = FrameFunctions(self)  # its compiled steps
        self.model_digest = ModelDigest(config, lambda: dict(tree_flatten(self.parameters())))
        dim = config.transformer.dim
        self.text_emb = TokenEmbedding(config.text_card + 1, dim, demux=config.demux_second_stream)
        if config.n_q:
            self.audio_emb = StackedEmbedding(config.n_q, config.card + 1, dim)
        self.transformer = Transformer(config.transformer, taken())
        self.out_norm = nn.RMSNorm(dim, config.transformer.norm_eps)
        self.text_linear = Linear(dim, config.text_card_out)
        if config.depth:
            self.depth = DepthTransformer(config, config.depth, taken())
        self.extra_heads = [Linear(dim, config.extra_heads_dim) for _ in range(config.extra_heads)]
        if config.conditioners:
            self.condition_provider = ConditionProvider(config)

    def __repr__(self) -> str:
        t, depth = self.config.transformer, self.config.depth
        inner = f", depth {depth.transformer.num_layers} x {depth.transformer.dim}" if depth else ""
        dtype = str(self.dtype).removeprefix("mlx.core.")
        return f"<Lm {t.num_layers} layers x {t.dim}{inner}, {self.config.n_q} codebooks, {dtype}>"

    @property
    def dtype(self) -> mx.Dtype:
        """The dtype that activations and caches have."""
        return self.out_norm.weight.dtype

    def conditions(
        self,
        values: Mapping[str, Any] | None,
        guided: bool = False,
        negatives: Mapping[str, Any] | None = None,
    ) -> Conditions:
        """As `sources`, made ready for the steps of a conversation."""
        found = self.sources(values, guided, negatives)
        if found.cross is None:
            return Conditions(found.sum)
        attended = [
            layer.cross_attention.keys_values(found.cross) for layer in self.transformer.layers
        ]
        keys, of_keys = ([mx.contiguous(x) for x in part] for part in zip(*attended, strict=True))
        return Conditions(found.sum, tuple(keys), tuple(of_keys))

    def sources(
        self,
        values: Mapping[str, Any] | None,
        guided: bool = False,
        negatives: Mapping[str, Any] | None = None,
    ) -> Sources:
        """Names and values of conditions -> tensors, [1, ...], or `guided` [2, ...].

        The second are `negatives`; None: every condition dropped. Raises ConfigError for unknown
        ones, MoshiError where the two have other lengths.
        """
        if "condition_provider" not in self:
            if values or negatives:
                raise MoshiError("this model takes no conditions; leave them out")
            return Sources()
        values = values or {}
        rows = [self.condition_provider(values)]
        if guided:
            dropped = self.condition_provider.dropped(values)
            rows.append(self.condition_provider({**dropped, **(negatives or {})}))
        return Sources(
            *(
                None if part[0] is None else in_one(part).astype(self.dtype)
                for part in zip(*rows, strict=True)
            )
        )

    def new_buffers(self, kv_bits: int | None = None, rows: int = 1) -> Buffers:
        """Empty caches for so many rows of a step, in memory already; None: in the model's bits.

        Raises MoshiError for other bits, or heads that can't be quantized.
        """
        t, bits = self.config.transformer, self.kv_bits if kv_bits is None else kv_bits
        assert t.context is not None
        rings = [
            new_ring(t.num_kv_heads, t.context, t.head_dim, self.dtype, bits, rows)
            for _ in range(t.num_layers)
        ]
        buffers = Buffers(rings)
        mx.eval(buffers.arrays())
        return buffers

    def temporal_step(
        self, text: mx.array, rows: mx.array, buffers: Buffers, at: Position, given: Conditions
    ) -> mx.array:
        """Text [R], rows [K] or [R, K] -> normed output [R, C]; the rings are replaced."""
        x = self.text_emb(text)
        if self.config.n_q:
            x = x + self.audio_emb(rows)
        if given.sum is not None:
            x = x + given.sum.squeeze(1)
        attended = list(zip(given.keys, given.values, strict=True))
        x, buffers.rings = self.transformer.step(x, buffers.rings, at, attended)
        return normed(x, self.out_norm)[1]

    def step(
        self, inputs: StepInputs, buffers: Buffers, draws: Draws
    ) -> tuple[mx.array, mx.array | None]:
        """One frame: tokens [(1 + S) * B], text first, then each slice's code of all conversations.

        And the extra heads' softmax [heads * R, D]. The codes follow the forced text token where
        there is one. Everything stays lazy; `buffers` is brought up to date in place.
        """
        i, (draw_text, draw_code) = inputs, draws
        out = self.temporal_step(i.text, i.rows, buffers, i.at, i.given)
        noise = frame_noise(i.key, draws, self.config)
        logits = i.of_conversations(linear_of(out, self.text_linear), i.layout.guides_text)
        token = draw_text(logits, i.scale(0), noise[0]).astype(mx.int32)
        token = mx.where(i.forced_text == NO_INPUT, token, i.forced_text)
        tokens = [token.astype(mx.uint32)]  # as argmax gives the codes: no cast of each
        if self.config.depth:

            def choose(s: int, logits: mx.array) -> mx.array:
                return draw_code(i.of_conversations(logits), i.scale(1), noise[1 + s])

            tokens += self.depth.frame(out, token, choose)
        return mx.concatenate(tokens), self.heads(out)

    def heads(self, out: mx.array) -> mx.array | None:
        """Normed output [R, C] -> softmax of the extra heads float32 [heads * R, D], if any."""
        found = [mx.softmax(head(out), axis=-1, precise=True) for head in self.extra_heads]
        return mx.concatenate(found).astype(mx.float32) if found else None

    def forward(
        self, codes: Any, conditions: Mapping[str, Any] | None = None
    ) -> tuple[mx.array, mx.array | None]:
        """Teacher forced over whole sequences.

        codes: integers [B, 1 + n_q, T], text first, undelayed, -1 = no input. Returns text logits
        [B, T, V] and audio logits [B, S, T, card] (None without a depth transformer), float32:
        entry t predicts codes[..., t]; NaN where the delays leave no prediction.
        Raises MoshiError for codes of another shape or range.
        """
        delayed = delay(check_codes(codes, self.config), self.config)
        inputs, targets = mx.array(delayed[:, :, :-1]), mx.array(delayed[:, :, 1:])
        given = self.sources(conditions)
        x = self.transformer(self.embed(inputs, given), given.cross, self.kv_bits)
        return self.logits(self.out_norm(x), targets)

    def computes_numbers(self) -> bool:
        """Whether frames of nothing leave numbers: a NaN in any matrix or norm spreads to all
        logits that come after it, one in a head stays in its own."""
        frames = self.config.max_delay + 2
        text, audio = self.forward(np.zeros((1, 1 + self.config.n_q, frames), np.int32))
        parts = [text] if audio is None else [text, *mx.split(audio, audio.shape[1], axis=1)]
        return bool(
            mx.all(mx.stack([mx.isfinite(part).all(axis=-1).any() for part in parts])).item()
        )

    def embed(self, inputs: mx.array, given: Sources) -> mx.array:
        """Delayed tokens [B, 1 + n_q, T] -> the temporal transformer's input [B, T, C]."""
        x = self.text_emb(inputs[:, 0])
        if self.config.n_q:
            x = x + self.audio_emb(self.audio_emb.rows(inputs[:, 1:]))
        return x if given.sum is None else x + given.sum

    def logits(self, out: mx.array, targets: mx.array) -> tuple[mx.array, mx.array | None]:
        """Normed output [B, T, C] and delayed targets [B, 1 + n_q, T] -> what `forward` returns."""
        text, audio = [], []
        for start in range(0, out.shape[1], SEQUENCE_CHUNK):
            part = slice(start, start + SEQUENCE_CHUNK)
            text.append(self.text_linear(out[:, part]).astype(mx.float32))
            if self.config.depth:
                own = targets[:, 1 : 1 + self.config.dep_q, part]
                logits = self.depth(out[:, part], targets[:, 0, part], own)
                audio.append(logits.astype(mx.float32))
                mx.eval(audio[-1])
        text_logits = undelay(mx.concatenate(text, axis=1), self.config.delays[0])
        if not audio:
            return text_logits, None
        by_slice = mx.split(mx.concatenate(audio, axis=1), self.config.dep_q, axis=2)
        aligned = [
            undelay(logits.squeeze(2), self.config.delays[1 + s])
            for s, logits in enumerate(by_slice)
        ]
        return text_logits, mx.stack(aligned, axis=1)

    @overload
    def generator(
        self,
        seed: int | None = None,
        *,
        batch: None = None,
        **options: Unpack[GeneratorOptions],
    ) -> LmGenerator: ...

    @overload
    def generator(
        self,
        seed: int | Sequence[int | None] | None = None,
        *,
        batch: int,
        **options: Unpack[BatchOptions],
    ) -> BatchGenerator: ...

    def generator(
        self, seed: Any = None, *, batch: int | None = None, **options: Any
    ) -> LmGenerator | BatchGenerator:
        """A conversation on this model, or `batch` of them; options as in GeneratorOptions."""
        if batch is not None:
            return BatchGenerator(self, batch, seed, **options)
        return LmGenerator(self, seed=seed, **options)

    def resume(
        self, state: LmState | str | Path, draws: Draws | None = None, compiled: bool = True
    ) -> LmGenerator:
        """The conversation of a snapshot, or of a file with one, goes on as if never interrupted.

        draws, compiled: as in GeneratorOptions. Raises MoshiError for one of another model, adapter
        or dtype, and for a damaged file.
        """
        if not isinstance(state, LmState):
            state = read_talk(state, self)
        return LmGenerator(self, state=state, draws=draws, compiled=compiled)

    def prompt(
        self, tokens: Any, kv_bits: int | None = None, **options: Unpack[ConditionOptions]
    ) -> LmPrompt:
        """Hear known tokens in one pass of the temporal transformer; conversations begin with it.

        tokens: int [T, 1 + n_q], what the model is given at positions 0 to T - 1, text first, -1
        for no input (streams that haven't begun, position 0 among them, have the initial tokens
        whatever stands there); after them up to max_delay positions of which only some tokens are
        known already, -2 for the others. A conversation's first step is the prompt's last position,
        again: it samples what comes after, and takes of the user's codes only what the prompt left
        open. Options as those of the conversations. Raises MoshiError.
        """
        return make_prompt(self, PromptTokens(tokens), kv_bits, options)

    def prompt_from(self, path: str | Path) -> LmPrompt:
        """The prompt in a file that `LmPrompt.save` wrote. Raises MoshiError as `resume`."""
        return read_prompt(path, self)

    def persona_prompt(
        self,
        text_ids: Sequence[int] | np.ndarray,
        voice: str | Path | np.ndarray | None = None,
        silence: Sequence[int] | np.ndarray = SILENCE,
        sine: Sequence[int] | np.ndarray = SINE,
        kv_bits: int | None = None,
    ) -> LmPrompt:
        """PersonaPlex' prompt: a voice, a gap, a text, a gap.

        text_ids: of the text in its tags (`persona.prompt.tagged`), may be empty; voice: a `.pt`
        file, Mimi's codes int [dep_q, N] of a voice, or None; silence, sine: the codes that stand
        for Moshi's silence and for the user while it is heard. Raises MoshiError.
        """
        heard = persona_inputs(text_ids, voice, silence, sine, self.config)
        return make_prompt(self, heard, kv_bits, {})


def in_one(rows: Sequence[mx.array | None]) -> mx.array:
    """Conditions [1, S, C] of a conversation's rows in one array. Raises MoshiError."""
    there = [row for row in rows if row is not None]
    if len({row.shape[1] for row in there}) > 1:
        raise MoshiError("conditions and negatives must have the same number of steps; pad them")
    return mx.concatenate(there, axis=0) if len(there) > 1 else there[0]


def frame_noise(key: mx.array, draws: Draws, config: LmConfig) -> list[mx.array]:
    """Gumbel noise for the text token and each slice, drawn at once; [B, V] each.

    key: uint32 [2], or [B, 2]: then each conversation has the noise that it would have alone.
    """
    sizes = [0 if draws[0].greedy else config.text_card_out]
    sizes += [0 if draws[1].greedy else config.card] * config.dep_q
    if not any(sizes):
        return [mx.array(0.0)] * len(sizes)
    total = sum(sizes)
    if key.ndim == 1:
        noise = mx.random.gumbel((1, total), key=key)
    else:
        noise = mx.vmap(lambda one: mx.random.gumbel((total,), key=one))(key)
    ends = np.cumsum(sizes)[:-1].tolist()
    return list(mx.split(noise, ends, axis=-1))


def check_codes(codes: Any, config: LmConfig) -> np.ndarray:
    """Codes as int32 [B, 1 + n_q, T]; MoshiError unless every one is -1 or in its vocabulary."""
    array = np.array(codes)
    if array.ndim != 3 or array.shape[1] != config.n_q + 1 or array.shape[2] == 0:
        raise MoshiError(
            f"codes must have the shape [batch, {config.n_q + 1}, steps], not {list(array.shape)}"
        )
    if not np.issubdtype(array.dtype, np.integer):
        raise MoshiError(f"codes must be integers, not {array.dtype}")
    text_limit = (config.text_card + 1) ** (2 if config.demux_second_stream else 1)
    for part, limit in ((array[:, :1], text_limit), (array[:, 1:], config.card + 1)):
        if part.size and (part.min() < NO_INPUT or part.max() >= limit):
            raise MoshiError(f"codes must lie between -1 and {limit - 1}")
    return array.astype(np.int32)


def delay(codes: np.ndarray, config: LmConfig) -> np.ndarray:
    """[B, K, T] -> [B, K, T + 1]: each codebook behind its delay, initial tokens before it."""
    B, K, T = codes.shape
    initial = np.array([config.text_card] + [config.card] * (K - 1), np.int32)
    delayed = np.broadcast_to(initial[None, :, None], (B, K, T + 1)).copy()
    for k, frames in enumerate(config.delays):
        delayed[:, k, 1 + frames :] = codes[:, k, : max(T - frames, 0)]
    return delayed


def undelay(logits: mx.array, frames: int) -> mx.array:
    """[B, T, V] moved `frames` to the front, NaN at the end."""
    if frames == 0:
        return logits
    B, T, V = logits.shape
    frames = min(frames, T)
    return mx.concatenate([logits[:, frames:], mx.full((B, frames, V), mx.nan)], axis=1)
