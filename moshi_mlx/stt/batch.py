"""Several recordings in one pass over the weights: one that ends makes room for the next.

Shapes: B recordings at a time, N frames, K codebooks.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from ..clock import FRAME_SAMPLES, FRAME_SECONDS, SAMPLE_RATE_HZ
from ..codec.interface import checked_pcm
from ..lm.batch import BatchGenerator
from ..lm.compiled_step import FrameModel
from ..lm.conversation import Step
from ..mimi import Mimi
from .hearing import Hearing
from .transcript import Transcript
from .watch import REPLAY_FRAMES

TellHeard = Callable[[int, float], None]  # which recording, and how many seconds of it were heard
TELL_FRAMES = 12  # frames of a recording between two calls of TellHeard


class ListedSound:
    """One recording in its slot: what the model hears of it next, and what it made of it."""

    def __init__(self, index: int, pcm: np.ndarray, mimi: Mimi, hearing: Hearing) -> None:
        self.index, self.hearing = index, hearing
        frames = np.pad(pcm, (0, -len(pcm) % FRAME_SAMPLES)).reshape(-1, FRAME_SAMPLES)
        tail = np.zeros((hearing.lead.tail, FRAME_SAMPLES), np.float32)
        self._frames = np.concatenate([hearing.lead.frames, frames, tail])
        self._lead, self._end = len(hearing.lead.frames), len(self._frames)
        self._codes = self._columns(mimi)
        self._lead_codes: list[np.ndarray] = []
        self._kept: deque[np.ndarray] = deque(maxlen=REPLAY_FRAMES)
        self._again: deque[np.ndarray] = deque()
        self._twice: np.ndarray | None = None  # a state's first frame, still to be given again
        self._fresh = True
        self.at = 0  # frames of `_frames` that were heard
        self._seconds = len(pcm) / SAMPLE_RATE_HZ

    def _columns(self, mimi: Mimi) -> Iterator[np.ndarray]:
        for part in mimi.encode_parts(self._frames.reshape(-1)):
            yield from part.T

    @property
    def ended(self) -> bool:
        return self.at == self._end and not self._again

    @property
    def heard_s(self) -> float:
        """Seconds of the recording that were heard."""
        return min(max(0, self.at - self._lead) * FRAME_SECONDS, self._seconds)

    def codes(self) -> np.ndarray:
        """What the model hears next, int32 [K]."""
        if self._twice is not None:
            return self._twice
        codes = self._again.popleft() if self._again else self._new()
        if self._fresh:
            self._twice = codes
        return codes

    def _new(self) -> np.ndarray:
        codes = next(self._codes)
        if self.at < self._lead:
            self._lead_codes.append(codes)
        else:
            self._kept.append(codes)
            self.hearing.listen(self._frames[self.at])
        self.at += 1
        return codes

    def take(self, step: Step) -> bool:
        """What the model made of it; True where its state is to be begun anew."""
        if self._fresh:  # of a state's first frame nothing is kept until it was given again
            self._fresh = False
            self.hearing.sampled(step.text_token)
            return False
        self._twice = None
        self.hearing.take(step)
        if self._again or not self.hearing.due:
            return False
        again = self.hearing.begin_anew(len(self._kept))
        replay = list(self._kept)[len(self._kept) - again :]
        self._again, self._fresh = deque([*self._lead_codes, *replay]), True
        return True

    def transcript(self) -> Transcript:
        self.hearing.finish()
        return self.hearing.transcript()


class Desk:
    """The slots of a batch; empty ones take the next recording."""

    def __init__(
        self,
        model: FrameModel,
        mimi: Mimi,
        sounds: Iterable[np.ndarray],
        hearing: Callable[[], Hearing],
        batch: int,
    ) -> None:
        self._mimi, self._hearing = mimi, hearing
        self._sounds = enumerate(sounds)
        first = [found for _ in range(batch) if (found := self._next()) is not None]
        self._slots: list[ListedSound | None] = list(first)
        self._generator: BatchGenerator | None = None
        if first:
            self._generator = BatchGenerator(
                model, len(first), 0, text_temperature=0.0, audio_temperature=0.0
            )

    def _next(self) -> ListedSound | None:
        found = next(self._sounds, None)
        if found is None:
            return None
        index, pcm = found
        return ListedSound(index, checked_pcm(pcm), self._mimi, self._hearing())

    def run(self, heard: TellHeard | None) -> Iterator[tuple[int, Transcript]]:
        """Each recording's number and transcript, as they end."""
        while self._generator is not None and any(self._slots):
            self._frame(self._generator)
            for i, one in enumerate(self._slots):
                if one is None:
                    continue
                if heard is not None and (one.ended or one.at % TELL_FRAMES == 0):
                    heard(one.index, one.heard_s)
                if one.ended:
                    yield one.index, one.transcript()
                    self._slots[i] = self._next()
                    self._generator.leave(i)
                    if self._slots[i] is not None:
                        self._generator.join(i, seed=0)

    def _frame(self, generator: BatchGenerator) -> None:
        """One frame of all."""
        silence = np.full(generator.lm.config.user_q, -1, np.int32)
        codes = [silence if one is None else one.codes() for one in self._slots]
        for i, step in enumerate(generator.step(np.stack(codes))):
            one = self._slots[i]
            if one is not None and step is not None and one.take(step):
                generator.leave(i)
                generator.join(i, seed=0)
