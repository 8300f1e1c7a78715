"""`Moshi`, the object that people use: one model, any number of conversations, frame by frame.

moshi = moshi_mlx.load("kyutai/moshiko-mlx-q4")
with moshi.session(seed=0) as session:
    reply = session.step(pcm)  # 80 ms of the user in, 80 ms of Moshi and a piece of text out
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Unpack

import numpy as np

from .audio.finite import finite
from .clock import FRAME_SAMPLES, SAMPLE_RATE_HZ
from .codec.interface import Codec, checked_pcm
from .config.lm_config import LmConfig
from .config.model_files import model_name
from .errors import MoshiError, suggest
from .lm.model import Lm
from .lm.options import ConditionOptions, GeneratorOptions
from .lm.state.past import LmPrompt
from .lm.state.prompt_cache import PromptCache
from .lm.state.prompting import make_prompt
from .loading.model_folder import check_codec, no_numbers
from .loading.talker import load_parts
from .memory import limit_memory
from .persona.prompt import SILENCE, SINE
from .provenance import Marker
from .session.answering import ANSWER_TAIL_MAX_S, ANSWER_TAIL_S, Answer, answer_recording
from .session.kept import SessionState, read_session, session_facts
from .session.path import MakePath, path_for, shares_evaluation
from .session.prompt import given_tokens, persona_heard, title_of
from .session.reply import EarlyReply, Reply, check_frame
from .session.talk import Session
from .text.tokenizer import TextTokenizer
from .weights.adaptation import LoraMode

__all__ = [
    "EarlyReply",
    "Moshi",
    "Reply",
    "Session",
    "check_codec",
    "check_frame",
    "load",
    "shares_evaluation",
]
NO_ADAPTERS: Mapping[str, Lm] = MappingProxyType({})


class Moshi:
    """A language model, a codec and a tokenizer. Weights never change; sessions hold all state."""

    def __init__(
        self,
        lm: Lm,
        codec: Codec,
        tokenizer: TextTokenizer,
        folder: Path,
        *,
        adapter: str = "",
        adapters: Mapping[str, Lm] = NO_ADAPTERS,
    ) -> None:
        """adapter: what the one that `lm` has is called; adapters: the same model with others."""
        self.lm, self.codec, self.tokenizer, self.folder = lm, codec, tokenizer, folder
        self.adapter, self.adapters = adapter, dict(adapters)
        self._silence: np.ndarray | None = None
        self._sound = False  # until `warm_up` has looked

    @property
    def config(self) -> LmConfig:
        """The language model's sizes, ids and defaults."""
        return self.lm.config

    def session(
        self,
        seed: int | None = None,
        *,
        mark: Marker | bool | None = True,
        adapter: str | None = None,
        **options: Unpack[GeneratorOptions],
    ) -> Session:
        """A new conversation; options as in GeneratorOptions (text_temperature, ...).

        mark: True puts the inaudible mark of the package's public key into Moshi's sound; a Marker
        of this session's own has another key or a payload; None or False: none. adapter: one of
        those that `load(adapters=...)` was given. Raises MoshiError for one that there isn't.
        """
        return Session(self, seed, mark=mark, adapter=adapter, **options)

    def prompt(
        self,
        text: str = "",
        voice: str | Path | np.ndarray | None = None,
        *,
        tokens: np.ndarray | None = None,
        adapter: str | None = None,
        kv_bits: int | None = None,
        cache: PromptCache | bool = True,
        silence: Sequence[int] | np.ndarray = SILENCE,
        sine: Sequence[int] | np.ndarray = SINE,
        **options: Unpack[ConditionOptions],
    ) -> LmPrompt:
        """What conversations may begin with: heard in one pass, for `session(prompt=...)`.

        text, voice: a persona for PersonaPlex, whose text gets its tags here, and whose voice is a
        name (`moshi voices`), a `.pt` file, a recording of somebody (with their consent) or Mimi's
        codes int [dep_q, frames]; or tokens: int [T, 1 + n_q], as `Lm.prompt`
        takes them, for any model. cache: keep it on disk, and take it from there (see
        `PromptCache`); silence, sine: as in `Lm.persona_prompt`; adapter and options as those of
        the sessions. Raises MoshiError, for a model that takes no persona too.
        """
        lm = self.lm_with(adapter)
        if tokens is not None:
            heard = given_tokens(tokens, text, voice)
        else:
            heard = persona_heard(
                *(text, voice, (silence, sine)),
                config=self.config,
                tokenizer=self.tokenizer,
                codec=self.codec,
                folder=self.folder,
            )
        kept = (PromptCache() if cache else None) if isinstance(cache, bool) else cache
        return make_prompt(lm, heard, kv_bits, options, title_of(text, voice), kept)

    def resume(
        self,
        state: "SessionState | str | Path",
        *,
        mark: Marker | bool | None = True,
        make_path: MakePath = path_for,
    ) -> Session:
        """A talk goes on where its snapshot, or a file with one, was taken.

        mark: as in `session`; of the same key its sound goes on, too. Raises MoshiError for a talk
        of another model, adapter or codec, and for a damaged file.
        """
        if not isinstance(state, SessionState):
            named = str(session_facts(state).get("adapter", ""))
            adapter = None if named == self.adapter else named
            state = read_session(state, self.lm_with(adapter))
        adapter = None if state.adapter == self.adapter else state.adapter
        return Session(self, make_path=make_path, mark=mark, adapter=adapter, state=state)

    def lm_with(self, adapter: str | None) -> Lm:
        """The language model with an adapter; None: as it was loaded. Raises MoshiError."""
        if adapter is None:
            return self.lm
        if adapter not in self.adapters:
            known = f"there are {', '.join(self.adapters)}" if self.adapters else "there is none"
            named = suggest(adapter, self.adapters)
            raise MoshiError(f"no adapter {named} beside this model; {known} (load: adapters=)")
        return self.adapters[adapter]

    def answer(
        self,
        pcm: np.ndarray,
        tail_s: float = ANSWER_TAIL_S,
        *,
        seed: int | None = None,
        mark: Marker | bool | None = True,
        adapter: str | None = None,
        on_frame: Callable[[int, int], None] = lambda done, of: None,
        **options: Unpack[GeneratorOptions],
    ) -> Answer:
        """What Moshi says to a recording, float32 [samples] at 24 kHz in [-1, 1].

        `tail_s`: silence after it, room for the answer; `on_frame(done, of)`: called after each
        frame of 80 ms; the rest as in `session`. Raises MoshiError for another shape of sound and
        a tail that is no number of seconds.
        """
        if not 0 <= tail_s <= ANSWER_TAIL_MAX_S:
            raise MoshiError(f"tail_s is 0 to {ANSWER_TAIL_MAX_S:g} seconds, not {tail_s!r}")
        heard = finite(checked_pcm(pcm))
        heard = np.append(heard, np.zeros(int(tail_s * SAMPLE_RATE_HZ), np.float32))
        with self.session(seed, mark=mark, adapter=adapter, **options) as session:
            return answer_recording(session, heard, on_frame)

    def warm_up(self) -> None:
        """Trace every shape that a conversation will need, so that no frame pays for it.

        Of one with the model's own sampling: for another top-k or top-p see `Session.warm_up`.
        Raises WeightsError for a model that computes no numbers.
        """
        if not self._sound and not self.lm.computes_numbers():
            raise no_numbers(self.folder)
        self._sound = True
        if self.config.user_q:
            self.silence()
        with self.session(seed=0) as session:
            session.warm_up()
            for _ in range(self.config.max_delay + 2):
                session.step(np.zeros(FRAME_SAMPLES, np.float32))

    def __repr__(self) -> str:
        return f"<Moshi {model_name(self.folder)}: {self.lm!r}, {self.codec!r}>"

    def silence(self) -> np.ndarray:
        """The codes [dep_q] of a steady silent frame, for holding the model's side quiet."""
        if self._silence is None:
            stream = self.codec.stream()  # all frames at once would hold eight times the memory
            frames = [stream.encode(np.zeros(FRAME_SAMPLES, np.float32)) for _ in range(8)]
            self._silence = frames[-1][: self.config.dep_q]
        return self._silence


def load(
    name_or_folder: str | Path,
    codec: str = "auto",
    dtype: str | None = None,
    *,
    revision: str | None = None,
    offline: bool | None = None,
    kv_bits: int = 16,
    memory_limits: bool = True,
    mimi: str | Path | None = None,
    tokenizer: str | Path | None = None,
    lora: str | Path | None = None,
    lora_mode: LoraMode = "auto",
    adapters: Mapping[str, str | Path] | None = None,
) -> Moshi:
    """Load a folder, a Hugging Face repository, or "nano", the small model in the package.

    codec: "auto", "mlx" or "rust". dtype: "float32", "float16", "bfloat16"; None as stored on a
    GPU and float32 on MLX's CPU backend, which only emulates half precision. kv_bits: 8 keeps the
    keys and values of conversations in 8 bit. memory_limits: on Metal, set MLX's wired and cache
    limits for this process (`moshi_mlx.memory`). mimi, tokenizer: a file, or the model that has it,
    in place of the model's own (fine-tunes come without; then Kyutai's are taken from the cache).
    lora: an adapter, a file or a folder or repository that holds one, for all conversations
    (lora_mode: as in `load_lm`); adapters: names of others, each kept beside the same weights, for
    sessions that ask for it. Raises ConfigError, WeightsError, DownloadError, and MoshiError for
    kv_bits that don't fit the model.
    """
    if memory_limits:
        limit_memory()
    parts = load_parts(
        *(name_or_folder, codec, dtype),
        revision=revision,
        offline=offline,
        kv_bits=kv_bits,
        mimi=mimi,
        tokenizer=tokenizer,
        lora=lora,
        lora_mode=lora_mode,
        adapters=adapters or {},
    )
    return Moshi(
        *(parts.lm, parts.codec, parts.tokenizer, parts.folder),
        adapter=parts.adapter,
        adapters=parts.adapters,
    )
