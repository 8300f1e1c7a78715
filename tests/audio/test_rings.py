"""A talk's samples when the sound process behind them becomes another one."""

from types import SimpleNamespace

from app.audio.process.rings import Rings
from app.audio.stream import memory as m
from app.audio.stream.memory import SoundMemory
from app.audio.stream.playout import Playout
from app.audio.stream.port import InputRing


def test_a_process_that_ends_before_it_hears_anything_does_not_hide_since_when_nothing_is_heard():
    def never_called():
        memory = SoundMemory()
        playout = Playout(memory)
        playout.prepare()
        return SimpleNamespace(memory=memory, ring=InputRing(memory=memory), playout=playout)

    talking, ended, next_one = never_called(), never_called(), never_called()
    talking.memory.put_s(m.HEARD_S, 12.5)
    rings = Rings(talking)
    for process in (ended, next_one):
        rings.move(process, rings.heard_s)
        assert rings.heard_s == 12.5, "what is missing since then is filled with silence"
    next_one.memory.put_s(m.HEARD_S, 13.0)
    assert rings.heard_s == 13.0
