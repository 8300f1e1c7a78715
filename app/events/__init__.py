"""What a session tells the world: small frozen values for the screen, the web and the recorder.

Events are handed to listeners one at a time, in order: on the model thread, or, where sound is
decoded beside the model, frames and their notices on the thread that decodes. A listener must
return at once and never raise; arrays in an event are never written again, so they may be kept.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from moshi_mlx.errors import printable

if TYPE_CHECKING:
    from moshi_mlx.lm.sampling import SamplingOptions


@dataclass(frozen=True)
class Settings:
    """How one conversation is to be held. None: the model's own default."""

    seed: int | None = None  # None: drawn afresh, told in ConversationStarted
    text_temperature: float | None = None
    text_top_k: int | None = None
    text_top_p: float | None = None
    audio_temperature: float | None = None
    audio_top_k: int | None = None
    audio_top_p: float | None = None
    greeting: bool = True  # False: Moshi is held silent until the user speaks (30 s at most)
    persona: str | None = None  # who Moshi is, for a model that takes it; None: the usual
    voice: str | None = None  # a name of the model's voices, or a file
    keep_prompt: bool = False  # the persona is never forgotten
    adapter: str | None = None  # one of those beside the model; None: as it was loaded
    resume: Path | None = None  # a talk in a file that this one goes on from

    def sampling(self) -> "SamplingOptions":
        """The sampling options that were set, as `Moshi.session` takes them."""
        every: SamplingOptions = {
            "text_temperature": self.text_temperature,
            "text_top_k": self.text_top_k,
            "text_top_p": self.text_top_p,
            "audio_temperature": self.audio_temperature,
            "audio_top_k": self.audio_top_k,
            "audio_top_p": self.audio_top_p,
        }
        return cast("SamplingOptions", {k: v for k, v in every.items() if v is not None})


@dataclass(frozen=True)
class Ready:
    """The model is loaded and warm; conversations can begin."""

    model: str
    recipe: str  # "q4", "q8", "bf16", "fp32"
    load_seconds: float
    mark: str = "none"  # in the sound: "public key", "private key"
    revision: str = ""  # of the model, where it is known
    adapter: str = ""  # what the model's is called, "" for none
    personas: bool = False  # it can be told who it is
    voices: tuple[str, ...] = ()  # its own, for a persona
    adapters: tuple[str, ...] = ()  # beside it, for talks that ask for one

    @property
    def title(self) -> str:
        """ "nano (q8)", "nano (q8) with pirate"."""
        with_adapter = f" with {self.adapter}" if self.adapter else ""
        return printable(f"{self.model} ({self.recipe}){with_adapter}")  # folders have odd names


@dataclass(frozen=True)
class ConversationStarted:
    number: int  # 1, 2, ... within the session
    seed: int
    settings: Settings


@dataclass(frozen=True)
class Refused:
    """`begin` asked for something this model can't do; the session is idle and lives on."""

    message: str  # one line


@dataclass(frozen=True, eq=False)
class FrameDone:
    """One 80 ms frame went through the model."""

    conversation: int
    index: int  # frames of this conversation before this one; index * 0.08 s is its time
    heard: np.ndarray  # float32 [1920], the user as the model heard it
    reply: np.ndarray | None  # float32 [1920], Moshi; None for the first frames of a conversation
    text: str  # a word piece with its leading space, or ""
    text_token: int
    step_ms: float  # encode + model + decode; decoded beside the model: the longer of the two
    wait_ms: float  # from the frame's last sample in to the start of the step
    lag_ms: float  # from the frame's last sample in to the first sample of its reply out
    dropped_frames: float  # input dropped so far in this conversation, in frames of 80 ms
    dropped_now_samples: int  # input dropped right before this frame
    captured_s: float = 0.0  # when the frame's last sample arrived, on the port's clock


@dataclass(frozen=True)
class UserWord:
    """A word that the user said, by a speech to text model beside the talk, some time later."""

    conversation: int
    text: str
    at_s: float  # when it begins, in the conversation


@dataclass(frozen=True)
class UserWordsOver:
    """No word of the user's comes any more of this conversation, nor of an earlier one."""

    conversation: int


@dataclass(frozen=True)
class Notice:
    """Something the user should know; the talk goes on. `kind` is stable, `message` one line."""

    kind: str  # "too-slow", "microphone-silent", "device-lost", "device-back", "recording", ...
    message: str


@dataclass(frozen=True)
class ConversationEnded:
    number: int
    reason: str  # "hung up", "new conversation", "end of input", "failed", "stopped"
    frames: int


@dataclass(frozen=True)
class Failed:
    """The session is over because something raised. Sent once, before Stopped."""

    message: str  # one line
    error: BaseException = field(repr=False)


@dataclass(frozen=True)
class Stopped:
    """The last event of a session; its thread is about to end."""


@dataclass(frozen=True)
class Status:
    """A snapshot for screens; cheap to read at any time from any thread."""

    state: str = "loading"  # "loading", "idle", "talking", "failed", "stopped"
    model: str = ""
    recipe: str = ""
    adapter: str = ""
    conversation: int = 0
    seed: int = 0
    frames: int = 0
    step_ms_p50: float = 0.0  # of the last 125 frames (10 s)
    step_ms_p95: float = 0.0
    lag_ms: float = 0.0
    dropped_frames: float = 0.0
    buffer_ms: float = 0.0  # waiting to be played
    user_level_db: float = -120.0  # peak of the last frame, dBFS
    moshi_level_db: float = -120.0
    speech: bool = False  # Moshi hears speech
    muted: bool = False
    memory_bytes: int = 0  # MLX's own active memory


Event = (
    Ready
    | ConversationStarted
    | Refused
    | FrameDone
    | UserWord
    | UserWordsOver
    | Notice
    | ConversationEnded
    | Failed
    | Stopped
)
