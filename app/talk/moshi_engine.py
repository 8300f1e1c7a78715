"""The real model behind a session: `moshi_mlx` as an Engine, loaded and warmed on its thread."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from moshi_mlx.backend import device

from ..events import Settings
from ..provenance.marking import Marking
from ..provenance.origin import revision_of
from .engine import EngineReply, TalkFile
from .personas import Personas, options_of
from .warmth import touch, weights_of

if TYPE_CHECKING:
    from moshi_mlx.moshi import Moshi, Session


class MoshiTalk:
    """One conversation."""

    def __init__(self, session: "Session", notes: tuple[str, ...] = ()) -> None:
        """`notes`: what the user should read."""
        self._session = session
        self._decodes_behind = session.decodes_behind
        self.seed, self.notes = session.seed, notes
        context = session.moshi.config.transformer.context
        self.prompt_until = None
        if session.prompt_frames and context is not None and not session.keeps_prompt:
            left = context - session.prompt_frames - session.frames
            self.prompt_until = left if left > 0 else None  # a resumed talk may be past it

    @property
    def encodes_ahead(self) -> bool:
        return self._session.encodes_ahead

    def step(
        self, frame: np.ndarray, hold: bool = False, following: np.ndarray | None = None
    ) -> EngineReply:
        if not self._decodes_behind:
            reply = self._session.step(frame, hold_silence=hold)
            return EngineReply(reply.pcm, reply.text, reply.text_token)
        early = self._session.step_early(frame, hold_silence=hold, following=following)
        return EngineReply(None, early.text, early.text_token, later=early.sound)

    def keep(self, note: str) -> TalkFile:
        return self._session.snapshot().writer(note)

    def close(self) -> None:
        self._session.close()


class MoshiEngine:
    """See engine.Engine. Make and use it on one thread."""

    def __init__(
        self,
        moshi: "Moshi",
        name: str,
        recipe: str,
        marking: Marking | None = None,
        on_gpu: bool | None = None,
    ) -> None:
        """`on_gpu`: weights may leave the GPU's reach while it idles; None: as MLX's device is."""
        self._moshi, self.name, self.recipe = moshi, name, recipe
        self._marking = marking or Marking()
        self.mark, self.revision = self._marking.kind, revision_of(moshi.folder)
        self.adapter, self.adapters = moshi.adapter, tuple(moshi.adapters)
        self._personas = Personas(moshi)
        self.personas, self.voices = self._personas.taken, self._personas.voices
        moshi.warm_up()
        on_gpu = device.on_gpu() if on_gpu is None else on_gpu
        self._weights = weights_of(moshi.lm) if on_gpu else []

    def begin(self, settings: Settings) -> MoshiTalk:
        mark = self._marking.marker()
        if settings.resume is not None:
            session, notes = self._moshi.resume(settings.resume, mark=mark), ()
        else:
            persona = self._personas.of(settings)
            session = self._moshi.session(
                seed=settings.seed,
                mark=mark,
                adapter=settings.adapter,
                **settings.sampling(),
                **options_of(persona, settings),
            )
            notes = () if persona is None else persona.notes
        session.warm_up()  # a top-k of its own has a step of its own
        return MoshiTalk(session, notes)

    def keep_warm(self) -> None:
        """See `warmth`."""
        touch(self._weights)

    def memory_bytes(self) -> int:
        return mx.get_active_memory()


def engine_maker(
    load: Callable[[], "Moshi"], name: str, recipe: str, marking: Marking | None = None
) -> Callable[[], MoshiEngine]:
    """What `Session` takes: loads when the session's thread calls it."""
    return lambda: MoshiEngine(load(), name, recipe, marking)
