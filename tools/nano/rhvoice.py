"""RHVoice through its library: words with times, no phones (engines.warped_phones lends it flite's)."""

import ctypes

import numpy as np
from engines import Utterance, to_24k, trimmed


class _RhCallbacks(ctypes.Structure):
    _fields_ = [
        ("set_sample_rate", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)),
        (
            "play_speech",
            ctypes.CFUNCTYPE(
                ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_uint, ctypes.c_void_p
            ),
        ),
        ("process_mark", ctypes.c_void_p),
        (
            "word_starts",
            ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p),
        ),
        *[
            (name, ctypes.c_void_p)
            for name in ("word_ends", "sentence_starts", "sentence_ends", "play_audio", "done")
        ],
    ]


class _RhInit(ctypes.Structure):
    _fields_ = [
        ("data_path", ctypes.c_char_p),
        ("config_path", ctypes.c_char_p),
        ("resource_paths", ctypes.c_void_p),
        ("callbacks", _RhCallbacks),
        ("options", ctypes.c_uint),
    ]


class _RhParams(ctypes.Structure):
    _fields_ = [
        ("profile", ctypes.c_char_p),
        *[
            (f"{kind}_{what}", ctypes.c_double)
            for kind in ("absolute", "relative")
            for what in ("rate", "pitch", "volume")
        ],
        ("punctuation", ctypes.c_int),
        ("punctuation_list", ctypes.c_char_p),
        ("capitals", ctypes.c_int),
        ("flags", ctypes.c_int),
    ]


class RhVoice:
    """RHVoice (HMM voices); `voice` as in voices.USER_RHVOICE. One instance per process."""

    def __init__(self) -> None:
        self.lib = ctypes.CDLL("libRHVoice.so.5")
        self.lib.RHVoice_new_tts_engine.restype = ctypes.c_void_p
        self.lib.RHVoice_new_message.restype = ctypes.c_void_p
        kinds = dict(_RhCallbacks._fields_)
        callbacks = _RhCallbacks(
            set_sample_rate=kinds["set_sample_rate"](self._rate),
            play_speech=kinds["play_speech"](self._play),
            word_starts=kinds["word_starts"](self._word),
        )
        self._init = _RhInit(b"/usr/share/RHVoice", b"/etc/RHVoice", None, callbacks, 0)
        self._engine = ctypes.c_void_p(self.lib.RHVoice_new_tts_engine(ctypes.byref(self._init)))

    def _rate(self, rate_hz: int, _user) -> int:
        self._rate_hz = rate_hz
        return 1

    def _play(self, samples, count: int, _user) -> int:
        self._pcm.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 1

    def _word(self, position: int, length: int, _user) -> int:
        self._words.append((position, length, sum(map(len, self._pcm))))
        return 1

    def speak(self, text: str, voice: str, rate: float = 1.0, pitch: float = 1.0) -> Utterance:
        """`rate` and `pitch` multiply the voice's own. No phones."""
        self._pcm, self._words = [], []
        params = _RhParams(voice.encode(), 0, 0, 0, rate, pitch, 1, 0, None, 0, 0)
        data = text.encode()
        message = ctypes.c_void_p(
            self.lib.RHVoice_new_message(
                self._engine, data, len(data), 0, ctypes.byref(params), None
            )
        )
        if not message or not self.lib.RHVoice_speak(message):
            raise ValueError(f"RHVoice could not speak {text!r} as {voice!r}")
        self.lib.RHVoice_delete_message(message)
        pcm = np.concatenate(self._pcm) / 32768.0
        words = [(text[p : p + n], s / self._rate_hz) for p, n, s in self._words]
        return trimmed(Utterance(to_24k(pcm, self._rate_hz), [], words))
