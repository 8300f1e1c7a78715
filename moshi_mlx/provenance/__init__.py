"""Where sound came from: the inaudible mark in generated sound, its keys, and how it is found.

marked = Marker().frame(pcm)  # float32 [1920], frame by frame, 0 samples later
for window in detect(recording, rate_hz):
    print(window.start_s, window.found, window.false_alarm)
"""

from .detect import FALSE_ALARM, Window, detect
from .key import PUBLIC_KEY, make_key, read_key
from .marker import Marker, mark

__all__ = [
    "FALSE_ALARM",
    "PUBLIC_KEY",
    "Marker",
    "Window",
    "detect",
    "make_key",
    "mark",
    "read_key",
]
