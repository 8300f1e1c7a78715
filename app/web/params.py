"""What the query string of `/api/chat` asks for: every parameter is honoured or refused.

Kyutai's web client always sends all of its names, so those without a counterpart here are accepted
at the value that means "no effect" and refused at any other.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from moshi_mlx.errors import MoshiError

from .protocol import CODECS

MAX_TEMPERATURE = 5.0
MAX_TOP_K = 1_000_000  # larger than any vocabulary; the sampler clamps
MAX_SEED = 2**63 - 1
MAX_PERSONA = 1500  # characters: the query is part of one line of at most 8 kB

# query name -> option of moshi.session(); the second spelling is Kyutai's
TEMPERATURES = {"text_temperature": "text_temperature", "audio_temperature": "audio_temperature"}
TOP_KS = {
    "text_top_k": "text_top_k",
    "text_topk": "text_top_k",
    "audio_top_k": "audio_top_k",
    "audio_topk": "audio_top_k",
}
SEEDS = ("seed", "text_seed", "audio_seed")
NO_EFFECT: dict[str, float | None] = {  # None: any number, since the penalty beside it is off
    "pad_mult": 0.0,
    "repetition_penalty": 1.0,
    "repetition_penalty_context": None,
}
SWITCHES = ("takeover", "record", "wait")
WHO = ("persona", "voice", "adapter")
RESUME = "resume"


class RefusedError(MoshiError):
    """A query parameter that can't be honoured."""


@dataclass(frozen=True)
class ChatQuery:
    """One visitor's wishes. `sampling` holds keyword arguments of `moshi.session()`."""

    codec: str = "opus"
    seed: int | None = None  # None: draw one
    sampling: dict[str, float | int] = field(default_factory=dict)
    takeover: bool = False
    record: bool = False
    wait: bool = False  # for the line, when somebody else has it
    persona: str | None = None
    voice: str | None = None  # a name, looked up among the model's own
    adapter: str | None = None  # a name, looked up among those beside the model
    resume: str = ""  # what a saved talk is called; "": a new one


def parse(query: Mapping[str, str]) -> ChatQuery:
    """Query parameters -> ChatQuery. Raises RefusedError with one line for the visitor."""
    codec = query.get("codec", "opus")
    if codec not in CODECS:
        raise RefusedError(f"codec={shown(codec)} is unknown; choose one of {', '.join(CODECS)}")
    sampling: dict[str, float | int] = {}
    switches = dict.fromkeys(SWITCHES, False)
    for name, value in query.items():
        if name in TEMPERATURES:
            sampling[TEMPERATURES[name]] = number(name, value, 0.0, MAX_TEMPERATURE)
        elif name in TOP_KS:
            sampling[TOP_KS[name]] = whole(name, value, 1, MAX_TOP_K)
        elif name in NO_EFFECT:
            refuse_effect(name, value)
        elif name in switches:
            switches[name] = switch(name, value)
        elif name not in (*SEEDS, *WHO, RESUME, "codec", "token"):
            raise RefusedError(f"unknown parameter {shown(name)}; known: {', '.join(known())}")
    resume = query.get(RESUME, "")
    held = [name for name in query if name in {*TEMPERATURES, *TOP_KS, *SEEDS, *WHO}]
    if resume and held:
        raise RefusedError(f"a talk goes on as it was held: leave {held[0]} out")
    persona, voice, adapter = (query.get(name) for name in WHO)
    if persona is not None and len(persona) > MAX_PERSONA:
        raise RefusedError(f"persona has {len(persona)} characters; {MAX_PERSONA} at the most")
    return ChatQuery(
        codec=codec,
        seed=seed_of(query),
        sampling=sampling,
        persona=persona,
        voice=voice or None,
        adapter=adapter or None,
        resume=resume,
        **switches,
    )


def known() -> list[str]:
    names = [*TEMPERATURES, *TOP_KS, *SEEDS, *SWITCHES, *NO_EFFECT, *WHO, RESUME, "codec"]
    return sorted(names)


def seed_of(query: Mapping[str, str]) -> int | None:
    """Kyutai's two seeds become one: the same pair always gives the same conversation."""
    seeds = {name: whole(name, query[name], 0, MAX_SEED) for name in SEEDS if name in query}
    if "seed" in seeds:
        if len(seeds) > 1:
            raise RefusedError("give either seed, or text_seed and audio_seed")
        return seeds["seed"]
    if not seeds:
        return None
    text, audio = seeds.get("text_seed", 0), seeds.get("audio_seed", 0)
    return (text * 1_000_003 + audio) & 0x7FFF_FFFF


def refuse_effect(name: str, value: str) -> None:
    neutral = NO_EFFECT[name]
    if number(name, value, -1e6, 1e6) != neutral and neutral is not None:
        raise RefusedError(f"{name}={shown(value)} isn't supported; leave it out or use {neutral}")


def number(name: str, value: str, low: float, high: float) -> float:
    try:
        parsed = float(value)
    except ValueError:
        parsed = math.nan
    if not low <= parsed <= high:
        raise RefusedError(f"{name}={shown(value)} must be a number from {low:g} to {high:g}")
    return parsed


def whole(name: str, value: str, low: int, high: int) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 20 and low <= int(value) <= high):
        raise RefusedError(f"{name}={shown(value)} must be a whole number from {low} to {high}")
    return int(value)


def switch(name: str, value: str) -> bool:
    if value not in ("0", "1"):
        raise RefusedError(f"{name}={shown(value)} must be 0 or 1")
    return value == "1"


def shown(value: str) -> str:
    """A visitor's text, short and printable, for a message."""
    text = unquote(value)[:40]
    return "".join(c if c.isprintable() else "?" for c in text)
