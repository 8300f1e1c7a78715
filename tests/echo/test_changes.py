"""The echo canceller where something changes in mid-talk: the room, the volume, the microphone."""

import numpy as np
import pytest

from app.echo.canceller import EchoCanceller
from tests.support.rooms import (
    active_rms,
    echo_of,
    erle_db,
    looped,
    rms,
    room,
    voice,
    without_pauses,
)

RATE = 24_000


@pytest.mark.parametrize(
    "moshi",  # the filter has to begin anew; with the others it nearly finds its way
    [
        "speech_10s",
        *(pytest.param(n, marks=pytest.mark.long) for n in ("voice_awb", "voice_librivox")),
    ],
)
def test_it_learns_a_room_that_changes(moshi):
    played, half = looped(voice(moshi), 14.0), 7 * RATE
    one, two = (echo_of(played, room(60 + 40 * i, seed=i), rms(played)) for i in (0, 1))
    echo = np.concatenate([one[:half], two[half:]])
    left = EchoCanceller().process(echo, played)
    assert erle_db(echo, left, 6, 7) > 25
    assert erle_db(echo, left, 10, 14) > 20


def louder(echo: np.ndarray, played: np.ndarray) -> np.ndarray:
    return 2 * echo


def with_another_tail(echo: np.ndarray, played: np.ndarray) -> np.ndarray:
    """Someone moves: the direct sound and the first 5 ms stay, what the walls answer doesn't."""
    first = 65 * RATE // 1000
    response = np.concatenate([room(60, seed=1)[:first], room(60, seed=2)[first:]])
    return echo_of(played, response, rms(echo))


VOICES = ("speech_10s", "voice_rms", "voice_librivox")
QUICK = ((louder, "speech_10s"), (with_another_tail, "voice_librivox"))  # a change each


@pytest.mark.parametrize(
    ("change", "moshi"),
    [
        pytest.param(change, name, marks=() if (change, name) in QUICK else pytest.mark.long)
        for change in (louder, with_another_tail)
        for name in VOICES
    ],
)
def test_it_learns_what_changes_though_most_of_the_echo_is_still_cancelled(change, moshi):
    """Without pauses: no pause to learn from, and none to raise the average."""
    played, half = looped(without_pauses(voice(moshi)), 12.0), 7 * RATE
    before = echo_of(played, room(60, seed=1), rms(played))
    echo = np.concatenate([before[:half], change(before, played)[half:]])
    left = EchoCanceller().process(echo, played)
    assert erle_db(echo, left, 6, 7) > 25
    assert erle_db(echo, left, 9, 10) > 12
    assert erle_db(echo, left, 10, 12) > 22


def test_who_talks_over_everything_is_not_taken_for_echo():
    """From the first second on, with pauses: both begin at once again and again."""
    played, user = looped(voice("speech_10s"), 12.0), looped(voice("voice_librivox"), 12.0)
    user *= active_rms(played) / active_rms(user)
    user[:RATE] = 0.0
    echo = echo_of(played, room(60, seed=3), rms(played))
    left = EchoCanceller().process(echo + user, played) - user
    assert erle_db(echo, left, 8, 12) > 17


def test_it_remembers_the_room_over_a_long_silence():
    """Half a minute in which the microphone hears itself only."""
    played = looped(without_pauses(voice("speech_10s")), 38.0)
    played[6 * RATE : 36 * RATE] = 0.0
    noise = np.random.default_rng(0).standard_normal(len(played)).astype(np.float32) * 1e-3
    echo = echo_of(played, room(60, seed=1), 0.07)
    left = EchoCanceller().process(echo + noise, played)
    assert erle_db(echo, left, 37, 38) > 25


@pytest.mark.parametrize(("hiss", "after_s", "least_db"), [(0.0, 15, 35), (1e-5, 20, 20)])
def test_a_muted_microphone_spoils_nothing(hiss, after_s, least_db):
    """Only zeros, and the room is remembered; next to nothing, and it is learnt again."""
    played = looped(without_pauses(voice("speech_10s")), after_s + 1.0)
    echo = echo_of(played, room(60, seed=1), rms(played))
    muted = slice(5 * RATE, 15 * RATE)
    mic = echo.copy()
    mic[muted] = hiss * np.random.default_rng(0).standard_normal(10 * RATE)
    left = EchoCanceller().process(mic, played)
    assert rms(left[muted]) <= hiss * 1.01
    assert erle_db(echo, left, after_s, after_s + 1) > least_db
