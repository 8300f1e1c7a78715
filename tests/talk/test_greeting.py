"""`--no-greeting`: Moshi is held silent until the user speaks, 30 s at the most.

The real session on a virtual clock. A model of random weights babbles from the first frame on, so
that silence can only come from the hold; the embedded one shows that a talk goes on from it.
"""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from app.audio.virtual_port import ArraySource, VirtualPort
from app.events import ConversationEnded, FrameDone, Settings
from app.talk.conversation import GREETING_HOLD_FRAMES
from app.talk.moshi_engine import MoshiEngine, MoshiTalk
from app.talk.session import TalkSession
from moshi_mlx.clock import FRAME_SAMPLES, FRAME_SECONDS
from moshi_mlx.hub import NANO
from tests.support.fakes.fake_engine import FakeEngine
from tests.support.models.loaded import nano as shared_nano
from tests.support.models.tiny_moshi import tiny_moshi

PAD = 3
GREEDY = Settings(seed=0, text_temperature=0.0, audio_temperature=0.0)


@pytest.fixture(scope="module")
def babbler(tmp_path_factory) -> MoshiEngine:
    return MoshiEngine(tiny_moshi(tmp_path_factory.mktemp("tiny")), "babbler", "fp32")


@pytest.fixture(scope="module")
def nano() -> MoshiEngine:
    return MoshiEngine(shared_nano(), "nano", "bf16")


def talk(engine: MoshiEngine, source: ArraySource, settings: Settings):
    """A whole talk: what was done in each frame, and the codes that were said."""
    done, codes, step = [], [], MoshiTalk.step

    def kept(self, *args):
        session, decode = self._session, self._session.step
        session.step = lambda *args, **options: codes.append(decode(*args, **options)) or codes[-1]
        try:
            return step(self, *args)
        finally:
            del session.step

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(MoshiTalk, "step", kept)
        hold_talk(engine, source, settings, done.append)
    return done, [reply.codes for reply in codes]


def hold_talk(engine, source: ArraySource, settings: Settings, frame_done=lambda event: None):
    """A whole talk on a virtual clock."""
    session = TalkSession(lambda: engine)
    session.subscribe(lambda e: frame_done(e) if isinstance(e, FrameDone) else None)
    session.subscribe(lambda e: session.finish() if isinstance(e, ConversationEnded) else None)
    session.begin(VirtualPort(source, lambda block: None), settings)
    session.run()
    assert session.failure is None


def quiet(seconds: float) -> ArraySource:
    """A microphone in a quiet room: noise at -60 dBFS."""
    noise = np.random.default_rng(0).normal(0, 0.001, round(seconds * 24_000))
    return ArraySource(noise.astype(np.float32))


def test_it_is_held_for_thirty_seconds():
    assert GREETING_HOLD_FRAMES * FRAME_SECONDS == 30.0
    engine = FakeEngine()
    hold_talk(engine, quiet(31), replace(GREEDY, greeting=False))
    assert engine.holds[:375] == [True] * 375 and not any(engine.holds[375:])
    assert len(engine.holds) > 380


@pytest.mark.parametrize(
    "seconds",  # the model forgets after 0.8 s; and the whole of it, until it is free again
    [5, pytest.param(31, marks=pytest.mark.long)],
)
def test_held_a_model_says_padding_and_the_codes_of_silence(babbler, seconds):
    done, codes = talk(babbler, quiet(seconds), replace(GREEDY, greeting=False))
    silence = babbler._moshi.silence()
    late = babbler._moshi.config.max_delay  # codes of the last held frame come out so much later
    assert all(frame.text_token == PAD and not frame.text for frame in done[:375])
    assert len(codes) > 60
    for said in codes[late:375]:
        np.testing.assert_array_equal(said, silence)
    if seconds > 30:
        assert any(frame.text_token != PAD for frame in done[375:]), "free again, and it babbles"
        assert any((said != silence).any() for said in codes[375 + late :])


def test_not_held_the_same_model_babbles_at_once(babbler):
    done, codes = talk(babbler, quiet(1), GREEDY)
    assert any(frame.text_token != PAD for frame in done[:12])
    assert any((said != babbler._moshi.silence()).any() for said in codes[2:12])


def test_speech_ends_the_hold_at_once(babbler):
    question, _ = soundfile.read(NANO / "samples" / "four_plus_three.wav", dtype="float32")
    lead_s = 2.0
    done, codes = talk(babbler, ArraySource(question, lead_s, 1.0), replace(GREEDY, greeting=False))
    loud = next(i for i, frame in enumerate(done) if np.abs(frame.heard).max() > 0.05)
    said = [frame.index for frame in done if frame.text_token != PAD]
    assert loud * FRAME_SECONDS >= lead_s - FRAME_SECONDS
    assert loud - 3 <= said[0] <= loud + 12, "a random model may say padding for some frames"
    late = babbler._moshi.config.max_delay
    assert any((one != babbler._moshi.silence()).any() for one in codes[loud + late :])


@pytest.mark.parametrize("lead_s", [1.0, pytest.param(10.0, marks=pytest.mark.long)])
def test_a_question_after_the_hold_is_answered(nano, lead_s):
    question, _ = soundfile.read(NANO / "samples" / "four_plus_three.wav", dtype="float32")
    done, _ = talk(nano, ArraySource(question, lead_s, 2.4), replace(GREEDY, greeting=False))
    assert "".join(frame.text for frame in done).strip() == "Four plus three is seven."
    before = [
        frame.reply for frame in done[: int(lead_s / FRAME_SECONDS)] if frame.reply is not None
    ]
    assert np.abs(np.concatenate(before[5:])).max() < 0.02, "silent until then"
    answered = np.concatenate([frame.reply for frame in done if frame.reply is not None])
    assert np.abs(answered).max() > 0.05 and len(answered) >= FRAME_SAMPLES


def test_a_new_conversation_is_held_again(babbler):
    for _ in range(2):
        done, _ = talk(babbler, quiet(1.2), replace(GREEDY, greeting=False))
        assert {frame.text_token for frame in done} == {PAD}
