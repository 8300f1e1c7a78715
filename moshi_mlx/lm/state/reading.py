"""From a file to a past, every number checked: a token out of range would read foreign memory."""

import math
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx
import numpy as np

from ...config.lm_config import NOT_GENERATED, LmConfig, SamplingConfig
from ...errors import ConfigError, MoshiError
from ..buffers import Conditions
from ..conversation import MAX_SEED, Guidance
from ..delay_line import LineState
from ..layers.kv_ring import KV_BITS, Ring, check_kv_bits, ring_parts
from ..model_digest import ModelDigest
from .past import LmPrompt, LmState, Past
from .state_file import MisfitError, StateFile, misfit, read_state

LAST_STEP = 2**31 - 2**24  # positions are int32; this leaves 15 days of talk


class StateModel(Protocol):
    """What a state's reader needs of the model that is to go on from it."""

    config: LmConfig
    model_digest: ModelDigest

    @property
    def dtype(self) -> mx.Dtype: ...


def read_prompt(path: str | Path, model: StateModel) -> LmPrompt:
    """The prompt in a file. Raises MoshiError for one of another model, or a damaged file."""
    file = read_state(Path(path), "prompt")
    try:
        past = past_of(file, model)
        given = past.line.given
        whole = len(given) and (given[0] != NOT_GENERATED).all()
        if past.line.step + 1 != past.prompt_frames or not whole:
            raise MisfitError("it doesn't end where its prompt ends")
        title = file.fact("title")
        file.finish()
    except MisfitError as error:
        raise misfit(file.path, error) from None
    return LmPrompt(past, title)


def read_talk(path: str | Path, model: StateModel) -> LmState:
    """The conversation in a file. Raises as `read_prompt`."""
    file = read_state(Path(path), "talk")
    try:
        state = talk_of(file, model)
        file.finish()
    except MisfitError as error:
        raise misfit(file.path, error) from None
    return state


def talk_of(file: StateFile, model: StateModel) -> LmState:
    """The language model's part of a file. Raises MoshiError, MisfitError."""
    past, said = past_of(file, model), file.fact("sampling", dict)
    try:
        sampling = SamplingConfig(**said)
    except (ConfigError, TypeError):
        raise MisfitError("its sampling is none") from None
    context = model.config.transformer.context or 0
    return LmState(
        past,
        seed=file.whole("seed", 0, MAX_SEED - 1),
        sampling=sampling,
        pinned=file.whole("pinned", 0, context - 1),
        own_draws=file.fact("own_draws", bool),
    )


def past_of(file: StateFile, model: StateModel) -> Past:
    """Raises MoshiError for another model's, MisfitError for what can't be."""
    check_model(file, model)
    config, kv_bits = model.config, file.fact("kv_bits", int)
    if kv_bits not in KV_BITS:
        raise MisfitError("its kv_bits is out of range")
    context = config.transformer.context or 0
    try:
        check_kv_bits(kv_bits, config.transformer.head_dim, context)
    except MoshiError:
        raise MisfitError("this model can't have its kv_bits") from None
    step, guidance = file.whole("step", 0, LAST_STEP), guidance_of(file)
    n = file.whole("slots", min(step, context), min(step + 1, context))
    rows = 1 if guidance is None else 2
    line = line_of(file, config, step)
    slots = slots_of(file, model, kv_bits, rows, n)
    given = conditions_of(file, model, rows)
    arrays = [part for ring in slots for part in ring] + given.arrays()
    mx.eval(arrays)
    floats = [a for a in arrays if mx.issubdtype(a.dtype, mx.floating)]
    if floats and not bool(mx.all(mx.stack([mx.isfinite(a).all() for a in floats])).item()):
        raise MisfitError("it holds NaN or infinity")
    frames = file.whole("prompt_frames", 0, step + 1)
    return Past(model.model_digest, model.dtype, kv_bits, guidance, given, slots, line, frames)


def check_model(file: StateFile, model: StateModel) -> None:
    """MoshiError for a state of another model, adapter or dtype."""
    dtype, mine = file.fact("dtype"), str(model.dtype).rpartition(".")[2]
    if dtype not in ("float32", "float16", "bfloat16"):
        raise MisfitError("its dtype is none")
    if dtype != mine:
        raise MoshiError(
            f"{file.path} was made in {dtype}, and this model computes in {mine}: load it with "
            f'dtype="{dtype}", or make it anew'
        )
    if file.fact("model") != model.model_digest.text:
        raise MoshiError(
            f"{file.path} was made with another model, or another adapter, than this one; load "
            "that one, or make it anew"
        )


def guidance_of(file: StateFile) -> Guidance | None:
    """Raises MisfitError."""
    if file.facts.get("guidance", 0) is None:
        return None
    said: dict[str, Any] = file.fact("guidance", dict)
    coef, no_text, until = (said.get(name) for name in ("coef", "no_text", "masked_until"))
    good = (
        type(coef) is float
        and math.isfinite(coef)
        and type(no_text) is bool
        and (until is None or (type(until) is int and until >= 0))
        and len(said) == 3
    )
    if not good:
        raise MisfitError("its guidance is none")
    return Guidance(**said)


def line_of(file: StateFile, config: LmConfig, step: int) -> LineState:
    """Raises MisfitError for tokens that there aren't, or are not there where they will be read."""
    streams, size = 1 + config.n_q, config.max_delay + 2
    line = file.take_tokens("line", (streams, size))
    count = file.whole("given", 0, config.max_delay + 1)
    given = np.empty((0, streams), np.int32)
    if count:
        given = file.take_tokens("given", (count, streams))
    text = (config.text_card + 1) ** (2 if config.demux_second_stream else 1)
    most = np.array([text] + [config.card + 1] * config.n_q)
    for tokens in (line.T, given):
        if (tokens < NOT_GENERATED).any() or (tokens >= most).any():
            raise MisfitError("it holds tokens that there are none of")
    check_coming(line, given, config, step)
    return LineState(step, line, given)


def check_coming(line: np.ndarray, given: np.ndarray, config: LmConfig, step: int) -> None:
    """MisfitError unless all that the coming steps read of a line is there, and can be decoded."""
    size, dep_q = line.shape[1], config.dep_q
    if (given[1:, 1 : 1 + dep_q] >= config.card).any():
        raise MisfitError("its prompt can't be spoken")
    for stream, delay in enumerate(config.delays):
        for p in range(step, step + (1 if stream <= dep_q else delay)):
            known = p - step < len(given) and given[p - step, stream] != NOT_GENERATED
            if p > delay and not known and line[stream, p % size] == NOT_GENERATED:
                raise MisfitError("tokens that it goes on with are missing")
        if 1 <= stream <= dep_q:
            first = max(step + 1 - config.max_delay, 1) + delay
            spoken = [int(line[stream, p % size]) for p in range(first, step + 1)]
            if not all(0 <= code < config.card for code in spoken):
                raise MisfitError("it holds codes that can't be decoded")


def slots_of(
    file: StateFile, model: StateModel, kv_bits: int, rows: int, n: int
) -> tuple[Ring, ...]:
    """Raises MisfitError."""
    t = model.config.transformer
    parts = ring_parts(t.head_dim, model.dtype, kv_bits)

    def part(layer: int, i: int, width: int, dtype: mx.Dtype) -> mx.array:
        shape = (2, rows, t.num_kv_heads, n, width)
        return file.take(f"slots.{layer}.{i}", shape, dtype) if n else mx.zeros(shape, dtype)

    return tuple(
        tuple(part(layer, i, *of_head) for i, of_head in enumerate(parts))
        for layer in range(t.num_layers)
    )


def conditions_of(file: StateFile, model: StateModel, rows: int) -> Conditions:
    """Raises MisfitError."""
    fuser, t = model.config.fuser, model.config.transformer
    arrays = []
    if fuser.sum:
        arrays.append(file.take("conditions.0", (rows, 1, t.dim), model.dtype))
    steps = None  # of what is attended to: the same for all
    for _ in range(2 * t.num_layers if fuser.cross else 0):
        shape = (rows, t.num_heads, steps, t.head_dim)
        arrays.append(file.take(f"conditions.{len(arrays)}", shape, model.dtype))
        steps = arrays[-1].shape[2]
    return Conditions.of_arrays(arrays, summed=bool(fuser.sum))
