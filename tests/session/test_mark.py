"""A session's sound carries the mark by default, whoever decodes it; the model never hears it."""

import numpy as np
import pytest

from moshi_mlx.audio.file import read_mono
from moshi_mlx.hub import NANO
from moshi_mlx.moshi import Moshi
from moshi_mlx.provenance import Marker
from tests.support.fakes.cpu_codec import CpuCodec, moshi_with
from tests.support.models.loaded import nano as shared_nano

FRAME = 1920
QUESTION = NANO / "samples" / "four_plus_three.wav"
WHOLE, SHORT = 22, 8  # frames: with the beginning of an answer, or as many as tell a mark


@pytest.fixture(scope="module")
def nano() -> Moshi:
    return shared_nano()


@pytest.fixture(scope="module")
def unmarked(nano: Moshi):
    return talk(nano, mark=None)


def talk(moshi: Moshi, count: int = WHOLE, early: bool = False, **options):
    """Texts, codes [n, 8], sound [n, 1920] of a greedy talk of so many frames."""
    pcm = np.append(read_mono(QUESTION), np.zeros(20 * FRAME, np.float32))
    frames = pcm[: count * FRAME].reshape(-1, FRAME)
    greedy = {"text_temperature": 0.0, "audio_temperature": 0.0}
    with moshi.session(seed=0, **greedy, **options) as session:
        replies = [session.step_early(f) if early else session.step(f) for f in frames]
        sounds = [reply.sound.result() if early else reply.pcm for reply in replies]
    codes = [reply.codes for reply in replies if reply.codes is not None]
    return (
        "".join(reply.text for reply in replies),
        np.array(codes),
        np.array([sound for sound in sounds if sound is not None]),
    )


@pytest.mark.parametrize("early", [False, True])
def test_the_sound_is_marked_and_nothing_else_changes(nano, unmarked, early):
    text, codes, plain = unmarked
    marked_text, marked_codes, marked = talk(nano, early=early)
    assert marked_text == text and text.strip()
    np.testing.assert_array_equal(marked_codes, codes)
    marker = Marker()
    np.testing.assert_array_equal(marked, [marker.frame(frame) for frame in plain])
    assert not np.array_equal(marked, plain)


@pytest.mark.parametrize("early", [False, True])
def test_a_codec_beside_the_model_is_marked_too(early):
    """Whose frames are decoded on a thread of its own, in order."""
    frames = np.random.default_rng(3).uniform(-1, 1, (12, FRAME)).astype(np.float32)
    said = []
    for mark in (None, True):
        with moshi_with(CpuCodec(0.0)).session(seed=1, mark=mark) as session:
            replies = [session.step_early(f) if early else session.step(f) for f in frames]
            sounds = [reply.sound.result() if early else reply.pcm for reply in replies]
        said.append([sound for sound in sounds if sound is not None])
    marker = Marker()
    np.testing.assert_array_equal(said[1], [marker.frame(frame) for frame in said[0]])


def test_a_marker_of_ones_own(nano):
    _, _, plain = talk(nano, SHORT, mark=False)
    _, _, marked = talk(nano, SHORT, mark=Marker(b"mine", payload=99))
    marker = Marker(b"mine", payload=99)
    np.testing.assert_array_equal(marked, [marker.frame(frame) for frame in plain])


def test_conversations_have_marks_of_their_own(nano):
    """The second one begins with the first frame of the pattern again."""
    first, second = talk(nano, SHORT)[2], talk(nano, SHORT)[2]
    np.testing.assert_array_equal(first, second)
