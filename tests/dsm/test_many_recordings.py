"""Several recordings in one pass over the weights: each is written down as it is alone."""

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.errors import MoshiError
from moshi_mlx.stt.batch import Desk
from moshi_mlx.stt.watch import SpeechWatch
from tests.support.fakes.falls_silent import FallsSilent
from tests.support.fakes.heard_words import GOLDEN, heard_words


@pytest.fixture(scope="module")
def stt():
    return moshi_mlx.load_stt(GOLDEN, dtype="float32")


def sounds(lengths):
    rng = np.random.default_rng(0)
    return [(rng.standard_normal(n) * rng.uniform(0.01, 0.2)).astype(np.float32) for n in lengths]


def same(one, other):
    assert one.tokens.tolist() == other.tokens.tolist()
    assert (one.words, one.leading) == (other.words, other.leading)
    assert np.allclose(one.pauses, other.pauses, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_each_is_what_it_is_alone(stt, batch):
    given = sounds([20_000, 5000, 45_001, 0, 10_000])
    asked = []

    def one_by_one():
        for i, sound in enumerate(given):
            asked.append(i)
            yield sound

    told = {}
    made = {}
    for index, transcript in stt.transcribe_all(
        one_by_one(), batch, heard=lambda i, s: told.setdefault(i, []).append(s)
    ):
        made[index] = transcript
        assert len(asked) <= batch + len(made)
    assert sorted(made) == [0, 1, 2, 3, 4]
    for index, sound in enumerate(given):
        same(made[index], stt.transcribe(sound))
        assert told[index] == sorted(told[index])
        assert told[index][-1] == len(sound) / 24_000
    assert list(made) != [0, 1, 2, 3, 4] or batch == 1


def test_one_that_falls_silent_is_begun_anew_beside_the_others(tmp_path):
    heard = heard_words(tmp_path / "model", loud=18)
    stt, given = heard.stt, [heard.sound(10), heard.sound(4)]
    desk = Desk(
        FallsSilent(stt.lm, 80), stt.mimi, given, lambda: stt.hearing(None, SpeechWatch(30)), 2
    )
    made = dict(desk.run(None))
    for index, sound in enumerate(given):
        assert made[index].words == stt.transcribe(sound).words


def test_no_recordings_are_no_work(stt):
    assert list(stt.transcribe_all([])) == []


@pytest.mark.parametrize("batch", [0, -1, 1.5, True])
def test_a_batch_of_none_is_refused(stt, batch):
    with pytest.raises(MoshiError, match="batch must be a whole number"):
        stt.transcribe_all([], batch)


def test_what_is_no_recording_is_refused(stt):
    with pytest.raises(MoshiError, match="one channel"):
        list(stt.transcribe_all([np.zeros((2, 100), np.float32)]))
