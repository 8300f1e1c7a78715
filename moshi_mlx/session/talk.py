"""`Session`, one conversation with its sound: frames in, replies out, state in one object."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Unpack

import numpy as np

from ..audio.finite import finite
from ..clock import FRAME_SAMPLES, FRAME_SECONDS
from ..codec.interface import Codec, checked_pcm
from ..config.lm_config import LmConfig
from ..config.model_files import model_name
from ..errors import MoshiError
from ..lm.conversation import Forced, Step
from ..lm.model import Lm
from ..lm.options import GeneratorOptions
from ..provenance import Marker
from ..provenance.marker import marker_of
from ..text.tokenizer import TextTokenizer
from .kept import SessionState
from .marked import MarkedPath
from .path import FramePath, MakePath, path_for
from .reply import EarlyReply, Reply, check_frame, checked_following


class TalkModel(Protocol):
    """What a conversation needs of `Moshi`, and what those need who have one in hand."""

    codec: Codec
    tokenizer: TextTokenizer
    folder: Path
    adapter: str

    @property
    def config(self) -> LmConfig: ...

    def lm_with(self, adapter: str | None) -> Lm: ...

    def silence(self) -> np.ndarray: ...

    def warm_up(self) -> None: ...


class Session:
    """One conversation. Use it as a context manager, or call `close`."""

    def __init__(
        self,
        moshi: TalkModel,
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
