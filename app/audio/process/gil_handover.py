"""What a process with an audio callback in Python sets once, so that the callback soon gets to run.

PortAudio's thread must wait for the interpreter's lock. Whoever holds it is asked to give it up
after the switch interval, 5 ms by default, and a garbage collection of everything that importing
and loading made doesn't give it up at all.
"""

import gc
import sys

SWITCH_INTERVAL_S = 0.0005  # several times what a callback takes, so that none is interrupted


def short_handovers() -> None:
    """At the start of the process."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def spare_the_collector() -> None:
    """Once everything is loaded: what lives until the end is never looked at again."""
    gc.collect()
    gc.freeze()
