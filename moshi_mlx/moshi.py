"""`Moshi`, the object that people use: one model, any number of conversations, frame by frame.

moshi = moshi_mlx.load("kyutai/moshiko-mlx-q4")
with moshi.session(seed=0) as session:
    reply = session.step(pcm)  # 80 ms of the user in, 80 ms of Moshi and a piece of text out
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Unpack

import numpy as np

from .audio.finite import finite
from .clock import FRAME_SAMPLES, FRAME_SECONDS, SAMPLE_RATE_HZ
from .codec.cpu_threads import Pcm
from .codec.interface import Codec, checked_pcm
from .config.lm_config import LmConfig
from .config.model_files import model_name, weight_paths
from .config.reading import parse_config, read_config
from .errors import ConfigError, MoshiError, suggest
from .lm.conversation import Forced, Step
from .lm.model import Lm
from .lm.options import ConditionOptions, GeneratorOptions
from .lm.state.past import LmPrompt
from .lm.state.prompt_cache import PromptCache
from .lm.state.prompting import PromptTokens, make_prompt, persona_inputs
from .loading.model_folder import check_codec
from .memory import limit_memory
from .mimi import load_mimi
from .persona.choice import chosen_voice
from .persona.prompt import SILENCE, SINE, tagged
from .provenance import Marker
from .provenance.marker import marker_of
from .session.answering import ANSWER_TAIL_MAX_S, ANSWER_TAIL_S, Answer, answer_recording
from .session.kept import SessionState, read_session, session_facts
from .session.marked import MarkedPath
from .session.path import FramePath, MakePath, path_for
from .session.path import shares_evaluation as shares_evaluation  # a public name of this module
from .text.tokenizer import TextTokenizer
from .weights.adaptation import LoraMode, adaptation_from, adaptation_of, with_adapter
from .weights.loading import lm_from_files, working_dtype

PERSONAPLEX = "personaplex"  # the model_type of its configs
NO_ADAPTERS: Mapping[str, Lm] = MappingProxyType({})


@dataclass(frozen=True)
class Reply:
    """One frame of Moshi's side.

    pcm: float32 [1920] at 24 kHz, marked (see `Moshi.session`), and codes: int32 [dep_q], both None
    until the first complete frame; text: what this frame's token says ("" for padding, a leading
    space kept).
    """

    pcm: np.ndarray | None
    text: str
    text_token: int
    codes: np.ndarray | None


@dataclass(frozen=True)
class EarlyReply:
    """A Reply whose sound comes later: `sound.result()` is its `pcm`, or raises what went wrong."""

    text: str
    text_token: int
    codes: np.ndarray | None
    sound: Future[Pcm]


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
    ) -> "Session":
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
        title = " ".join(text.split())[:200]
        if tokens is not None:
            if text or voice is not None:
                raise MoshiError("a prompt is tokens, or a text and a voice; give one of both")
            heard = PromptTokens(np.asarray(tokens))
        else:
            check_persona(self.config, self.folder)
            ids = self.tokenizer.encode(tagged(text))
            name, count = model_name(self.folder), self.config.dep_q
            with chosen_voice(voice, self.folder, self.codec, count, name) as chosen:
                heard = persona_inputs(ids, chosen, silence, sine, self.config)
            if isinstance(voice, str | Path):
                title = f"{Path(voice).stem}: {title}"
        kept = (PromptCache() if cache else None) if isinstance(cache, bool) else cache
        return make_prompt(lm, heard, kv_bits, options, title, kept)

    def resume(
        self,
        state: "SessionState | str | Path",
        *,
        mark: Marker | bool | None = True,
        make_path: MakePath = path_for,
    ) -> "Session":
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
        """
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
            frames = self.codec.encode(np.zeros(8 * FRAME_SAMPLES, np.float32))
            self._silence = frames[: self.config.dep_q, -1]
        return self._silence


class Session:
    """One conversation. Use it as a context manager, or call `close`."""

    def __init__(
        self,
        moshi: Moshi,
        seed: int | None = None,
        make_path: MakePath = path_for,
        mark: Marker | bool | None = True,
        adapter: str | None = None,
        state: SessionState | None = None,
        **options: Unpack[GeneratorOptions],
    ) -> None:
        """`make_path`: for another path than the fastest, such as one that is looked into;
        `mark`, `adapter`: as in `Moshi.session`; `state`: go on from there."""
        self.moshi = moshi
        self.adapter = moshi.adapter if adapter is None else adapter  # "": none
        lm, config = moshi.lm_with(adapter), moshi.config
        if state is None:
            self._generator, self._stream = lm.generator(seed=seed, **options), moshi.codec.stream()
        else:
            self._generator, self._stream = lm.resume(state.lm), moshi.codec.resume(state.codec)
        self._path: FramePath | None = make_path(self._generator, self._stream, config.user_q)
        self._marker = marker_of(mark)
        if self._marker is not None:
            self._path = MarkedPath(self._path, self._marker)
        self._text = moshi.tokenizer.stream((config.text_padding_id, config.text_end_padding_id))
        self._said = ""  # by the step that ended a prompt: part of the first reply
        if state is not None:
            self._path.restore(state.ahead)
            self._text.pending, self._said = state.pending, state.said
            if self._marker is not None and state.mark is not None:
                self._marker.resume(*state.mark)

    def snapshot(self) -> SessionState:
        """This talk as it is between two frames, for `Moshi.resume`; it goes on untouched.

        Waits for sound that is being decoded. Raises MoshiError for a closed session.
        """
        ahead = self._open().rest()
        return SessionState(
            lm=self._generator.snapshot(),
            codec=self._stream.state(),
            model=model_name(self.moshi.folder),
            adapter=self.adapter,
            ahead=ahead,
            mark=None if self._marker is None else self._marker.state,
            pending=self._text.pending,
            said=self._said,
        )

    @property
    def seed(self) -> int:
        """The seed of this conversation, also when it was drawn."""
        return self._generator.seed

    @property
    def frames(self) -> int:
        """Frames stepped so far, those of a prompt left out."""
        return max(0, self._generator.steps - self._generator.prompt_frames)

    @property
    def prompt_frames(self) -> int:
        """Frames of the prompt that it began with; they leave the model's context after it."""
        return self._generator.prompt_frames

    @property
    def keeps_prompt(self) -> bool:
        """Whether it never leaves the context (`keep_prompt`)."""
        return self._generator.pinned > 0

    def warm_up(self) -> None:
        """As `Moshi.warm_up`, for this session's options; free where that was done before.

        And end the prompt, where there is one, so that the first frame doesn't.
        """
        path = self._open()
        path.warm_up()
        self._end_prompt(path)

    def step(
        self, pcm: np.ndarray, hold_silence: bool = False, following: np.ndarray | None = None
    ) -> Reply:
        """80 ms of the user, float32 [1920] in [-1, 1] -> Moshi's Reply.

        The first frame is not encoded: the model ignores it, as in Kyutai's server, and the
        encoder starts with the second. `hold_silence` keeps Moshi quiet for this frame: its
        samples are replaced by padding and silence. `following` is the next frame, if it is there
        already: a codec on the CPU encodes it on a thread of its own meanwhile, and the next call
        must be for that frame. Raises MoshiError for another shape, or another frame than was
        announced.
        """
        path, frame = self._open(), check_frame(pcm)
        self._end_prompt(path)
        forced = self._forced() if hold_silence else None
        step, sound = path.step(frame, forced, checked_following(following))
        return Reply(sound, self._told(step), step.text_token, step.codes)

    def step_early(
        self, pcm: np.ndarray, hold_silence: bool = False, following: np.ndarray | None = None
    ) -> EarlyReply:
        """As `step`, but where the codec runs on the CPU this doesn't wait for the sound.

        It is decoded on a thread of its own, frame after frame, beside the next steps; with two
        frames unfinished this call waits for one. Callbacks of the future, added before the next
        call, run in the same order. Raises what decoding an earlier frame raised, too.
        """
        path, frame = self._open(), check_frame(pcm)
        self._end_prompt(path)
        forced = self._forced() if hold_silence else None
        step, sound = path.step_early(frame, forced, checked_following(following))
        return EarlyReply(self._told(step), step.text_token, step.codes, sound)

    def stream(self, blocks: Iterable[np.ndarray]) -> Iterator[Reply]:
        """Sound as it comes, float32 blocks [n] at 24 kHz of any length -> a Reply each 80 ms.

        The last frame is filled up with silence. Raises MoshiError for a block of another shape.
        """
        rest = np.zeros(0, np.float32)
        for block in blocks:
            rest = np.concatenate([rest, finite(checked_pcm(block))])
            while len(rest) >= FRAME_SAMPLES:
                frame, rest = rest[:FRAME_SAMPLES], rest[FRAME_SAMPLES:]
                yield self.step(frame)
        if len(rest):
            yield self.step(np.pad(rest, (0, FRAME_SAMPLES - len(rest))))

    def __repr__(self) -> str:
        state = "closed" if self._path is None else f"{self.frames * FRAME_SECONDS:.2f} s so far"
        return f"<Session with {model_name(self.moshi.folder)}: seed {self.seed}, {state}>"

    @property
    def encodes_ahead(self) -> bool:
        """Whether `step` makes use of the following frame."""
        return self._path is not None and self._path.encodes_ahead

    @property
    def decodes_behind(self) -> bool:
        """Whether `step_early` returns before the sound is there."""
        return self._path is not None and self._path.decodes_behind

    def _end_prompt(self, path: FramePath) -> None:
        """The step at a prompt's last position: its sound is the prompt's, its word the first."""
        if not self._generator.prompted:
            return
        codes = np.zeros(self.moshi.config.user_q, np.int32)
        if self._generator.hears:  # a prompt that leaves the end of its last frame open
            codes = np.resize(self.moshi.silence(), codes.shape)
        self._said += self._text.push(path.end_prompt(codes).text_token)

    def _told(self, step: Step) -> str:
        """The text that a step completes."""
        said, self._said = self._said, ""
        return said + self._text.push(step.text_token)

    def _forced(self) -> Forced:
        return Forced(self.moshi.config.text_padding_id, self.moshi.silence())

    def _open(self) -> FramePath:
        if self._path is None:
            raise MoshiError("this session is closed; open a new one with moshi.session()")
        return self._path

    def close(self) -> None:
        """Let go of the codec's state; the caches go with the object.

        Waits for frames whose decoding has begun.
        """
        if self._path is not None:
            self._path.close()
        self._path = None

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def check_persona(config: LmConfig, folder: Path) -> None:
    """MoshiError for a model that wasn't trained to be told who it is."""
    if config.model_type != PERSONAPLEX:
        raise MoshiError(
            f"{model_name(folder)} takes no persona: it wasn't trained with one; load PersonaPlex, "
            "or give a prompt as tokens"
        )


def check_frame(pcm: np.ndarray) -> np.ndarray:
    """float32 [1920]; NaN and infinities become silence. Raises MoshiError for another shape."""
    frame = np.asarray(pcm)
    if frame.shape != (FRAME_SAMPLES,) or not np.issubdtype(frame.dtype, np.floating):
        raise MoshiError(
            f"a frame is float32 [{FRAME_SAMPLES}] (80 ms, mono, 24 kHz), "
            f"not {frame.dtype} {list(frame.shape)}"
        )
    return finite(frame.astype(np.float32))


def checked_following(pcm: np.ndarray | None) -> np.ndarray | None:
    """As `check_frame`; None stays None."""
    return None if pcm is None else check_frame(pcm)


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
    from .hub import mimi_file, own_parts, resolve, tokenizer_file

    folder = resolve(name_or_folder, revision, offline, own_parts(mimi, tokenizer))
    raw = read_config(folder)
    config = parse_config(raw, str(folder / "config.json"))
    check_converses(config, folder)
    paths = weight_paths(folder, raw)
    words = words_from(tokenizer_file(folder, raw, tokenizer, offline), config, tokenizer)
    adaptation = adaptation_from(lora, lora_mode, raw, folder, offline)
    others = {
        name: adaptation_of(source, "beside", raw, offline)
        for name, source in (adapters or {}).items()
    }
    mimi_path, mimi_config = mimi_file(folder, raw, mimi, offline)
    lm = lm_from_files(paths, config, working_dtype(dtype), kv_bits, adaptation)
    beside = {name: with_adapter(lm, other) for name, other in others.items()}
    sound = load_mimi(mimi_path, mimi_config, config.mimi_codebooks, codec, memory_limits=False)
    check_codec(sound, config, folder)
    name = "" if adaptation is None else adaptation.name
    return Moshi(lm, sound, words, folder, adapter=name, adapters=beside)


def words_from(path: Path, config: LmConfig, given: str | Path | None) -> TextTokenizer:
    """The tokenizer in a file. Raises ConfigError for a `given` one of another size."""
    words = TextTokenizer(path)
    if given is not None and len(words) != config.text_card:
        raise ConfigError(
            f"{given} has {len(words)} pieces, the language model {config.text_card} text "
            "tokens (text_card): they are not of one model, give another tokenizer"
        )
    return words


def check_converses(config: LmConfig, folder: Path) -> None:
    """ConfigError for a model that says nothing, or one that no user would reach: deaf."""
    if not config.dep_q:
        raise ConfigError(f"{folder} doesn't speak (dep_q is 0): speech to text is `load_stt`")
    if not config.user_q:
        raise ConfigError(
            f"{folder / 'config.json'}: dep_q = n_q = {config.n_q}: this model only speaks, nobody "
            "is heard. Text to speech is `load_tts`; a PersonaPlex has model_type personaplex"
        )
