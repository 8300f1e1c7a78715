"""What slows a machine down is told when it falls behind; long work keeps a Mac awake."""

import numpy as np
import pytest

from app.audio.sound import SoundState
from app.audio.stream.port import QueuePort
from app.doctor.speed import Speed, paced_ratio
from app.machine.power import Power
from app.talk.chat import Chat, ChatOptions
from app.talk.moshi_engine import MoshiEngine
from moshi_mlx.clock import FRAME_SAMPLES
from tests.support.fakes.fake_engine import FakeEngine
from tests.support.processes.endings import until


class FedSound(QueuePort):
    """A Sound whose microphone is whatever the test pushes."""

    def __init__(self):
        super().__init__(lambda pcm: None)

    def subscribe(self, listener): ...

    def start(self): ...

    def stop(self): ...

    def state(self):
        return SoundState()

    def devices(self):
        return []

    def choose(self, input_name, output_name): ...

    def problem(self):
        return None


def test_a_talk_that_falls_behind_says_what_slows_the_machine_down():
    sound, told = FedSound(), []
    power = Power(low_power_mode=True, thermal="serious")
    chat = Chat(lambda: FakeEngine(lambda: 0.3), sound, ChatOptions(echo="off"), lambda: power)
    chat.subscribe(told.append)
    chat.start()
    noise = np.full(6 * FRAME_SAMPLES, 0.1, np.float32)

    def behind():
        sound.push_input(noise)
        return sum(getattr(event, "kind", "") == "power" for event in told) == 2

    try:
        until(behind)
    finally:
        chat.close()
    lines = [event.message for event in told if getattr(event, "kind", "") == "power"]
    assert "Low Power Mode" in lines[0] and "hot" in lines[1]


@pytest.mark.parametrize("on_gpu", [True, False])
def test_a_model_is_kept_warm_by_a_look_at_each_weight(on_gpu):
    import moshi_mlx

    engine = MoshiEngine(moshi_mlx.load("nano"), "nano", "q8", on_gpu=on_gpu)
    engine.keep_warm()
    engine.keep_warm()


def test_a_prediction_counts_the_pauses_of_a_talk():
    plain = Speed(layer_ms=0.3, slice_ms=0.6, rest_ms=1.0, codec_ms=6.0, frames=9)
    slowed = Speed(0.3, 0.6, 1.0, 6.0, 9, paced_ratio=1.5)
    assert slowed.frame_ms("q4") == pytest.approx(1.5 * plain.frame_ms("q4"))
    assert paced_ratio(lambda: None, 1.0, 0.0) == 1.0, "what is quicker counts as equal"
