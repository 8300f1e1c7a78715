"""A loudspeaker alone, with PortAudio replaced."""

import numpy as np
import pytest

from app.audio.devices.device import Device
from app.audio.loudspeaker import Loudspeaker
from moshi_mlx.errors import AudioError
from tests.support.fakes.sound_fakes import Card

SPEAKERS = Device("Speakers", 1, 0, 2, 48_000.0, default_output=True)
AIRPLAY = Device("Kitchen", 2, 0, 2, 44_100.0, default_output=True, transport="airplay")


def plans_of(card):
    assert all(opened[0] is None for opened in card.opened), "no microphone was opened"
    return [(plan["latency"], plan["own_rates_hz"]) for _, _, plan in card.opened]


def test_it_plays_through_the_default_and_opens_no_microphone(tmp_path):
    card = Card(tmp_path, [Device("Mic", 0, 1, 0, 48_000.0), SPEAKERS])
    speaker = Loudspeaker(command=card.command)
    speaker.play(np.ones(2400, np.float32))
    speaker.close()
    assert speaker.name == "Speakers" and len(plans_of(card)) == 1
    played = [np.abs(block).max() for block in card.played]
    assert max(played) == 1.0


def test_a_stream_that_is_refused_or_never_called_is_opened_in_another_way(tmp_path):
    card = Card(tmp_path, [SPEAKERS])
    card.whims(takes_only_own_rates=True)
    Loudspeaker(command=card.command).close()
    assert plans_of(card)[-1][1] == [48_000.0, 48_000.0]


def test_airplay_is_left_for_others(tmp_path):
    card = Card(tmp_path, [AIRPLAY, Device("Speakers", 1, 0, 2, 48_000.0)])
    speaker = Loudspeaker(command=card.command)
    speaker.close()
    assert speaker.name == "Speakers" and "AirPlay" in speaker.notes[0]


@pytest.mark.parametrize(
    ("devices", "whims", "line"),
    [
        ([], {}, "no devices"),
        ([Device("Mic", 0, 1, 0, 48_000.0)], {}, "no sound output: connect a speaker"),
        ([SPEAKERS], {"refuses": "busy"}, r"Speakers can't be opened \(busy\)"),
        ([SPEAKERS], {"silent": True}, r"can't be opened \(it opens but gives no sound\)"),
    ],
)
def test_no_loudspeaker_is_one_line(tmp_path, devices, whims, line):
    card = Card(tmp_path, devices)
    card.whims(**whims)
    with pytest.raises(AudioError, match=line):
        Loudspeaker(command=card.command, called_limit_s=0.3)
