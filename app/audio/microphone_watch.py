"""Looks after the microphone of an open stream: silence and its cause, permission, lost samples."""

from collections.abc import Callable

from moshi_mlx.clock import SAMPLE_RATE_HZ

from ..events import Notice
from .devices.device import Device
from .devices.silence import Circumstances, cannot_ask, circumstances, why_silent
from .devices.watch import FLAGGED, FlagWatch
from .permission import PermissionAsk

ZEROS_S = 2.0  # of exact zeros: no microphone is that quiet
ASKED_S = 20.0  # a question that isn't answered by then may never have been put
ALLOWED = "the microphone has been allowed"
DEAF = "the microphone gives nothing"
LOSSY = "the microphone still loses samples"
USELESS_BESIDE = (DEAF, LOSSY)  # of one stream with the speaker: two may be better
DEAF_S = 0.2  # of exact zeros, in the quarter of a second in which every callback lost input
LID_CLOSED = "the lid was closed, which disconnects the microphone"
BUSY = "this computer is too busy for its own sound, and parts of it are lost: close other programs"
QUESTION = "macOS asks whether this terminal may use the microphone: the talk begins once it may"

Tell = Callable[[Notice], None]


class MicrophoneWatch:
    """For the thread that watches the devices: `opened`, then `tick` ten times a second."""

    def __init__(
        self,
        permission: PermissionAsk | None,
        lid_closed: Callable[[], bool],
        about: Callable[[str | None, bool], Circumstances] = circumstances,
    ) -> None:
        """`permission` None: nobody has to be asked here."""
        self._permission, self._lid_closed, self._about = permission, lid_closed, about
        self._flags = FlagWatch()
        self._asked_s: float | None = None
        self._told_question = self._told_unanswered = self._told_hopeless = False
        self._told_silent = self._told_busy = False
        self._microphone: Device | None = None

    @property
    def waits(self) -> bool:
        """The system's question is on the screen: what comes meanwhile are zeros."""
        return self._asked_s is not None

    def opened(self, microphone: Device) -> None:
        self._microphone, self._told_silent = microphone, False
        self._flags.reopened()

    def question(self, now_s: float, tell: Tell) -> str | None:
        """Also before anything is open: ALLOWED once the question was answered so, else None."""
        if self._permission is None:
            return None
        state = self._permission.look()
        if state == "not asked" and not self._told_question:
            self._told_question, self._asked_s = True, now_s
            tell(Notice("microphone-asked", QUESTION))
        if self._asked_s is None:
            return None
        if state != "not asked":
            self._asked_s = None
            return ALLOWED if state == "granted" else None
        if now_s - self._asked_s > ASKED_S and not self._told_unanswered:
            self._told_unanswered = True
            line = cannot_ask(self._about(state, False))
            tell(Notice("microphone-unanswered", f"no answer about the microphone: {line}"))
        return None

    def tick(
        self,
        now_s: float,
        zeros: int,
        calls: int,
        flagged: int,
        others: bool,
        tell: Tell,
        starved: bool = False,
        apart: bool = True,
    ) -> str | None:
        """Why the devices are to be opened anew, or None.

        zeros: samples of exact zero at the input's end; calls, flagged: callbacks so far, and those
        that lost input; others: there is another microphone, and nobody asked for this one;
        starved: the machine is too busy, which is not the microphone's fault; apart: it has a
        stream of its own. One that it shares goes on without it on macOS, with zeros and a flag in
        every callback.
        """
        if (why := self.question(now_s, tell)) is not None:
            return why
        why = self._flags.tick(now_s, calls, flagged, starved)
        if self._flags.starved and not self._told_busy:
            self._told_busy = True
            tell(Notice("machine-busy", BUSY))
        if not apart and why == FLAGGED and zeros > DEAF_S * SAMPLE_RATE_HZ:
            return DEAF
        if not apart and self._flags.hopeless:
            return LOSSY
        if self._flags.hopeless and not self._told_hopeless and self._microphone is not None:
            self._told_hopeless = True
            line = f"the microphone ({self._microphone.name}) loses samples all the time: choose"
            tell(Notice("microphone-lossy", f"{line} another, or restart the sound system"))
        return why or self._silence(zeros, others, tell)

    def _silence(self, zeros: int, others: bool, tell: Tell) -> str | None:
        microphone = self._microphone
        if microphone is None or self.waits:
            return None
        if zeros < ZEROS_S * SAMPLE_RATE_HZ:
            if self._told_silent and not zeros:
                self._told_silent = False
                tell(Notice("microphone-heard", f"the microphone ({microphone.name}) is heard now"))
            return None
        if self._told_silent:
            return None
        self._told_silent = True
        closed = self._lid_closed()
        if closed and microphone.is_internal_microphone and others:
            return LID_CLOSED
        state = None if self._permission is None else self._permission.look()
        tell(Notice("microphone-silent", why_silent(microphone, self._about(state, closed))))
        return None
