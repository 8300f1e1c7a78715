"""A talk with its sound between two frames: kept, written, read, and gone on from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..clock import FRAME_SAMPLES
from ..codec.cpu_threads import Ahead
from ..codec.interface import CodecState
from ..lm.state.past import LmState
from ..lm.state.reading import StateModel, talk_of
from ..lm.state.state_file import (
    MisfitError,
    StateFile,
    StateWriter,
    host_tensors,
    misfit,
    read_state,
)
from ..provenance.marker import TAPS

CODEC, AHEAD, MARK = "codec.", "ahead.", "mark.history"


@dataclass(frozen=True)
class SessionState:
    """What `Session.snapshot` made, for `Moshi.resume`.

    ahead: a frame of the user that was encoded ahead; mark: frames that the marker marked and its
    history, None without; pending, said: text on its way.
    """

    lm: LmState
    codec: CodecState
    model: str
    adapter: str
    ahead: Ahead = None
    mark: tuple[int, np.ndarray] | None = None
    pending: bytes = b""
    said: str = ""

    def __repr__(self) -> str:
        return f"<SessionState with {self.model}: {self.lm!r}, codec in {self.codec.kind}>"

    def save(self, path: str | Path, note: str = "") -> None:
        """Write a file for `Moshi.resume`, whole or not at all, for its owner's eyes alone.

        note: a text of your own, which `session_facts` tells. Raises OutputError.
        """
        self.writer(note).write(path)

    def writer(self, note: str = "") -> StateWriter:
        """`save` in two parts: this one on the thread that has the model, and its `write`, which
        takes as long as a disk does, on any other, while the talk goes on."""
        self.lm.past.model.take_hold()
        tensors = dict(self.lm.tensors())
        tensors |= {f"{CODEC}{name}": a for name, a in self.codec.arrays.items() if a.size}
        if self.ahead is not None:
            tensors[f"{AHEAD}pcm"] = mx.array(self.ahead[0])
            tensors[f"{AHEAD}codes"] = mx.array(self.ahead[1])
        if self.mark is not None:
            tensors[MARK] = mx.array(self.mark[1].astype(np.float32))  # of float32 samples
        return StateWriter(
            "session", host_tensors(tensors), lambda: self._facts(note), private=True
        )

    def _facts(self, note: str) -> dict[str, Any]:
        return {
            **self.lm.facts(),
            "codec": self.codec.kind,
            "name": self.model,
            "adapter": self.adapter,
            "marked": -1 if self.mark is None else self.mark[0],
            "pending": self.pending.hex(),
            "said": self.said,
            "note": note,
        }


def session_facts(path: str | Path) -> dict[str, Any]:
    """What a file says of itself, by its header: name of the model, codec, adapter, step, note.

    To load the right model first. Raises MoshiError for another file.
    """
    return read_state(Path(path), "session").facts


def read_session(path: str | Path, model: StateModel) -> SessionState:
    """The talk in a file. Raises MoshiError for one of another model, and for a damaged file."""
    file = read_state(Path(path), "session")
    try:
        state = SessionState(
            lm=talk_of(file, model),
            codec=codec_of(file),
            model=file.fact("name"),
            adapter=file.fact("adapter"),
            ahead=ahead_of(file, model.config.card),
            mark=mark_of(file),
            pending=pending_of(file),
            said=file.fact("said"),
        )
        file.finish()
    except MisfitError as error:
        raise misfit(file.path, error) from None
    return state


def codec_of(file: StateFile) -> CodecState:
    """Its codec checks what it is given. Raises MisfitError."""
    arrays = {}
    for name, array in file.arrays.items():
        if name.startswith(CODEC):
            file.taken.add(name)
            arrays[name.removeprefix(CODEC)] = array
    mx.eval(list(arrays.values()))
    floats = [a for a in arrays.values() if mx.issubdtype(a.dtype, mx.floating)]
    if not all(bool(mx.isfinite(a).all().item()) for a in floats):
        raise MisfitError("its sound holds NaN or infinity")
    kind = file.fact("codec")
    if kind == "rust":  # before the first frames there is nothing
        arrays.setdefault("heard", mx.zeros((0, FRAME_SAMPLES)))
        arrays.setdefault("said", mx.zeros((0, 1), mx.int32))
        heard, said = arrays["heard"], arrays["said"]
        if heard.shape[1:] != (FRAME_SAMPLES,) or heard.dtype != mx.float32 or said.ndim != 2:
            raise MisfitError("its sound has another shape")
    return CodecState(kind, arrays)


def ahead_of(file: StateFile, card: int) -> Ahead:
    """Raises MisfitError."""
    if f"{AHEAD}pcm" not in file.entries:
        return None
    pcm = np.array(file.take(f"{AHEAD}pcm", (FRAME_SAMPLES,), mx.float32))
    codes = file.take_tokens(f"{AHEAD}codes", (None,))
    if codes.min() < 0 or codes.max() >= card:
        raise MisfitError("it holds codes that there are none of")
    return pcm, codes


def mark_of(file: StateFile) -> tuple[int, np.ndarray] | None:
    """Raises MisfitError."""
    count = file.whole("marked", -1, 2**31)
    if count < 0:
        return None
    history = np.array(file.take(MARK, (TAPS - 1,), mx.float32))
    if not np.isfinite(history).all():
        raise MisfitError("its sound holds NaN or infinity")
    return count, history


def pending_of(file: StateFile) -> bytes:
    """Raises MisfitError."""
    try:
        held = bytes.fromhex(file.fact("pending"))
    except ValueError:
        raise MisfitError("its text is damaged") from None
    if len(held) > 3:
        raise MisfitError("its text is damaged")
    return held
