"""A codec on the CPU decodes beside the language model: same replies, in order, errors, ends."""

import gc
import threading
import time
import weakref
from collections.abc import Callable

import numpy as np
import pytest

from moshi_mlx.codec.cpu_threads import DECODING_MAX
from moshi_mlx.errors import MoshiError
from moshi_mlx.lm.generator import Forced, LmGenerator, Step
from moshi_mlx.moshi import EarlyReply, Moshi, Reply, Session
from moshi_mlx.session.codec_beside import CodecBeside
from tests.support.fakes.cpu_codec import FRAME, SLOW_S, CpuCodec, moshi_with, overlaps
from tests.support.models.loaded import nano as shared_nano


def sound(frames: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.uniform(-1, 1, (frames, FRAME)).astype(np.float32)


def decoders() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("moshi-decode")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    gc.collect()
    deadline = time.monotonic() + 60.0
    while decoders() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not decoders()


def talk(moshi: Moshi, early, ahead=lambda i: False) -> list[Reply]:
    """12 frames; which of them are stepped early, and which with the frame that follows."""
    frames, replies = sound(13), []
    with moshi.session(seed=1) as session:
        for i, frame in enumerate(frames[:12]):
            following = frames[i + 1] if ahead(i) else None
            step = session.step_early if early(i) else session.step
            replies.append(step(frame, following=following))
    return [
        Reply(one.sound.result(), one.text, one.text_token, one.codes)
        if isinstance(one, EarlyReply)
        else one
        for one in replies
    ]


@pytest.mark.parametrize("early", [lambda i: True, lambda i: i % 3 != 1], ids=["all", "some"])
@pytest.mark.parametrize("ahead", [lambda i: False, lambda i: i % 4 != 2], ids=["", "ahead"])
def test_a_reply_whose_sound_comes_later_is_the_same_reply(early, ahead) -> None:
    moshi = moshi_with(CpuCodec(0.02))
    plain = talk(moshi, lambda i: False)
    assert plain[0].pcm is None and len({one.pcm[0] for one in plain[1:]}) == 11
    for one, other in zip(plain, talk(moshi, early, ahead), strict=True):
        assert (one.text, one.text_token) == (other.text, other.text_token)
        np.testing.assert_array_equal(one.codes, other.codes)
        np.testing.assert_array_equal(one.pcm, other.pcm)


class WatchedSteps:
    """A generator whose steps are told about, each before it runs."""

    def __init__(self, inner: LmGenerator, before_step: Callable[[int], None]) -> None:
        self.inner, self.before_step, self.spans = inner, before_step, []

    @property
    def steps(self) -> int:
        return self.inner.steps

    def step(self, user_codes: np.ndarray, forced: Forced | None = None) -> Step:
        start = time.monotonic()
        self.before_step(self.inner.steps)
        try:
            return self.inner.step(user_codes, forced)
        finally:
            self.spans.append((start, time.monotonic()))

    def warm_up(self) -> None:
        self.inner.warm_up()


def shared_time(codec: CpuCodec, before_step: Callable[[int], None], early: bool) -> int:
    """How many decodings of 14 frames go on while the model is in a step."""
    watched = []

    def make_path(generator, stream, user_q):
        watched.append(WatchedSteps(generator, before_step))
        return CodecBeside(watched[0], stream, user_q)

    with Session(moshi_with(codec), seed=1, make_path=make_path) as session:
        for frame in sound(14):
            session.step_early(frame) if early else session.step(frame)
    return overlaps(codec.decoded, watched[0].spans)


def test_decoding_goes_on_beside_the_language_model() -> None:
    """Each step waits inside for the decoding before it, and that one for the step: in turn, they
    would wait for ever.
    """
    meeting = threading.Barrier(2, timeout=60.0)
    frames_to_meet = range(2, 14)  # the first sound is frame 1's, and after 13 there is no step

    def meet(frame: int) -> None:
        if frame in frames_to_meet:
            meeting.wait()

    codec = CpuCodec(while_decoding=lambda sounds: meet(sounds + 2))
    assert shared_time(codec, meet, early=True) == len(frames_to_meet)
    assert codec.threads == {"moshi-decode_0"} and len(codec.decoded) == 13
    assert shared_time(CpuCodec(SLOW_S), lambda _: None, early=False) == 0


def test_a_decoder_that_is_slower_holds_the_model_back() -> None:
    codec, seen = CpuCodec(), []
    codec.may_decode.clear()
    with moshi_with(codec).session(seed=1) as session:

        def look_then_let_go() -> None:
            seen.append(session.frames)
            codec.may_decode.set()

        threading.Timer(0.7, look_then_let_go).start()
        for frame in sound(9):
            session.step_early(frame)
        # one frame without sound, DECODING_MAX that wait, and the one that waits for them
        assert seen and seen[0] <= 1 + DECODING_MAX + 1
        assert session.frames == 9


def test_what_decoding_raises_comes_out_at_the_caller_and_is_the_end() -> None:
    codec = CpuCodec(2 * SLOW_S, fails_at=2)
    with moshi_with(codec).session(seed=1) as session:
        early = []
        with pytest.raises(MoshiError, match="index out of bounds"):
            for frame in sound(12):
                early.append(session.step_early(frame))
        assert 4 <= len(early) <= 4 + DECODING_MAX, "within the next frames"
        for step in (session.step, session.step_early):
            with pytest.raises(MoshiError, match="index out of bounds"):
                step(sound(1)[0])
        good = [one for one in early if one.sound.exception() is None]
        assert good == early[:3], "no sound of a later frame passes for whole"
    assert len(codec.decoded) == 2


@pytest.mark.parametrize("frames", [0, 1, 2, 3])
def test_closing_waits_for_what_was_begun(frames: int) -> None:
    codec = CpuCodec(SLOW_S)
    session = moshi_with(codec).session(seed=1)
    early = [session.step_early(frame) for frame in sound(frames)]
    session.close()
    session.close()
    assert all(one.sound.done() for one in early) and not decoders()
    with pytest.raises(MoshiError, match="closed"):
        session.step_early(sound(1)[0])


def test_closing_after_a_failure_and_in_the_middle_of_one() -> None:
    codec = CpuCodec(SLOW_S, fails_at=0)
    session = moshi_with(codec).session(seed=1)
    early = [session.step_early(frame) for frame in sound(2)]
    session.close()
    with pytest.raises(MoshiError, match="index out of bounds"):
        early[-1].sound.result()


def test_a_session_abandoned_with_a_sound_to_come_leaves_nothing() -> None:
    codec = CpuCodec()
    codec.may_decode.clear()
    session = moshi_with(codec).session(seed=1)
    early = [session.step_early(frame) for frame in sound(2)]
    there = weakref.ref(session)
    del session
    gc.collect()
    assert there() is None, "nobody holds it"
    codec.may_decode.set()
    assert early[-1].sound.result(10.0) is not None  # and the fixture looks for the thread


def test_a_codec_in_mlx_has_its_sound_at_once() -> None:
    nano = shared_nano()
    frames = sound(5)
    with nano.session(seed=1) as one, nano.session(seed=1) as other:
        assert not one.decodes_behind
        for frame in frames:
            early, plain = one.step_early(frame), other.step(frame)
            assert early.sound.done() and early.text_token == plain.text_token
            np.testing.assert_array_equal(early.sound.result(), plain.pcm)
