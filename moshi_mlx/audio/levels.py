"""How loud sound is, and whether somebody speaks."""

import numpy as np

SILENCE_DB = -120.0
SPEECH_DB = -45.0  # a frame's loudness that counts as speech, at the least
SPEECH_OVER_NOISE_DB = 12.0


def rms_db(pcm: np.ndarray) -> float:
    """Loudness of samples [n] in dBFS."""
    power = float(np.mean(np.square(pcm, dtype=np.float64)))
    return max(SILENCE_DB, 10.0 * float(np.log10(power))) if power > 0.0 else SILENCE_DB


class VoiceActivityDetector:
    """VAD by energy: whether the user speaks, louder than -45 dBFS and than the room's noise."""

    def __init__(self) -> None:
        self._noise_db = -60.0
        self._hold = 0

    def hears(self, frame: np.ndarray) -> bool:
        """frame float32 [n]; True for speech, and for 240 ms after it."""
        level = rms_db(frame)
        step = 0.1 if level > self._noise_db else -1.0  # rises 1.2 dB/s, falls 12 dB/s
        self._noise_db = max(-90.0, self._noise_db + step)
        if level > max(SPEECH_DB, self._noise_db + SPEECH_OVER_NOISE_DB):
            self._hold = 4
        self._hold = max(0, self._hold - 1)
        return self._hold > 0
