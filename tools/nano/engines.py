"""Speech engines with phone and word times: espeak-ng and flite through their libraries, others by command line.

Every engine returns an `Utterance`: mono float32 at 24 kHz, trimmed to the speech, with phones and words timed in
seconds. RHVoice gives words only (its phones are flite's, warped to them); `pico` gives no times, its phones are unknown;
`festival` is heard in tests alone.
"""

import ctypes
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import cache
from math import gcd
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.io import wavfile
from scipy.signal import resample_poly

SAMPLE_RATE_HZ = 24_000
ESPEAK_RATE_HZ = 22_050
TRIM_RATIO = 0.05  # of the peak: quieter than this at the edges is not speech


@dataclass
class Utterance:
    """One spoken sentence; times in seconds from the first sample."""

    pcm: np.ndarray
    phones: list[tuple[str, float, float]] = field(default_factory=list)
    words: list[tuple[str, float]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return len(self.pcm) / SAMPLE_RATE_HZ


def to_24k(pcm: np.ndarray, rate_hz: int) -> np.ndarray:
    """[samples] at rate_hz -> float32 [samples] at 24 kHz."""
    divisor = gcd(rate_hz, SAMPLE_RATE_HZ)
    return resample_poly(
        pcm.astype(np.float32), SAMPLE_RATE_HZ // divisor, rate_hz // divisor
    ).astype(np.float32)


def trimmed(utterance: Utterance, ratio: float = TRIM_RATIO) -> Utterance:
    """Without the engine's silence at both ends; peak 0.5."""
    loud = np.flatnonzero(np.abs(utterance.pcm) > ratio * np.abs(utterance.pcm).max())
    first, last = max(0, loud[0] - 480), loud[-1] + 480
    pcm = utterance.pcm[first:last]
    shift, end = first / SAMPLE_RATE_HZ, len(pcm) / SAMPLE_RATE_HZ
    clip = lambda t: float(min(max(t - shift, 0.0), end))  # noqa: E731
    phones = [(p, clip(a), clip(b)) for p, a, b in utterance.phones if clip(b) > clip(a)]
    words = [(w, clip(t)) for w, t in utterance.words]
    return Utterance((0.5 * pcm / np.abs(pcm).max()).astype(np.float32), phones, words)


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)
_EVENT_END, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7


class Espeak:
    """espeak-ng; `voice` like "en-us+f2". One instance per process."""

    def __init__(self) -> None:
        self.lib = ctypes.CDLL("libespeak-ng.so.1")
        self.lib.espeak_Initialize(2, 0, None, 1)
        self._callback = _CALLBACK(self._receive)
        self.lib.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples, count, events) -> int:
        if samples and count:
            self._pcm.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != _EVENT_END:
            event = events[index]
            if event.type == _EVENT_WORD:
                self._words.append(
                    (event.text_position, event.length, event.sample / ESPEAK_RATE_HZ)
                )
            elif event.type == _EVENT_PHONEME:
                self._phones.append(
                    (event.id.decode("utf8", "ignore"), event.sample / ESPEAK_RATE_HZ)
                )
            index += 1
        return 0

    def speak(
        self, text: str, voice: str, wpm: int = 165, pitch: int = 50, span: int = 50, gap: int = 0
    ) -> Utterance:
        """`span` is the pitch range, `gap` the pause between words in 10 ms."""
        self._pcm, self._words, self._phones = [], [], []
        if self.lib.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}; see `espeak-ng --voices=en`")
        for parameter, value in ((1, wpm), (3, pitch), (4, span), (7, gap)):
            self.lib.espeak_SetParameter(parameter, value, 0)
        data = text.encode()
        self.lib.espeak_Synth(data, len(data) + 1, 0, 1, 0, 1, None, None)
        self.lib.espeak_Synchronize()
        pcm = np.concatenate(self._pcm) / 32768.0
        ends = [t for _, t in self._phones[1:]] + [len(pcm) / ESPEAK_RATE_HZ]
        phones = [
            (p, a, b) for (p, a), b in zip(self._phones, ends, strict=True) if p.strip("_:;, ")
        ]
        words = [(text[p - 1 : p - 1 + n], t) for p, n, t in self._words]
        return trimmed(Utterance(to_24k(pcm, ESPEAK_RATE_HZ), phones, words))


class _Wave(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_char_p),
        ("rate", ctypes.c_int),
        ("count", ctypes.c_int),
        ("channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    ]


class _Voice(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("features", ctypes.c_void_p)]


class Flite:
    """flite; voices kal, kal16, awb, rms, slt."""

    LIBRARIES: ClassVar = {
        "kal": "cmu_us_kal",
        "kal16": "cmu_us_kal16",
        "awb": "cmu_us_awb",
        "rms": "cmu_us_rms",
        "slt": "cmu_us_slt",
    }

    def __init__(self) -> None:
        self.lib = ctypes.CDLL("libflite.so.1", mode=ctypes.RTLD_GLOBAL)
        for name in ("usenglish", "cmulex"):
            ctypes.CDLL(f"libflite_{name}.so.1", mode=ctypes.RTLD_GLOBAL)
        self.lib.flite_init()
        for name in ("flite_synth_text", "utt_relation", "relation_head", "item_next", "utt_wave"):
            getattr(self.lib, name).restype = ctypes.c_void_p
        self.lib.ffeature_string.restype = self.lib.flite_ffeature_string.restype = ctypes.c_char_p
        self.lib.flite_ffeature_float.restype = ctypes.c_float

    @cache  # noqa: B019
    def _voice(self, name: str) -> int:
        library = ctypes.CDLL(f"libflite_{self.LIBRARIES[name]}.so.1", mode=ctypes.RTLD_GLOBAL)
        register = getattr(library, f"register_{self.LIBRARIES[name]}")
        register.restype = ctypes.c_void_p
        return register(None)

    def _items(self, utt: int, relation: str):
        item = self.lib.relation_head(
            ctypes.c_void_p(self.lib.utt_relation(ctypes.c_void_p(utt), relation.encode()))
        )
        while item:
            yield ctypes.c_void_p(item)
            item = self.lib.item_next(ctypes.c_void_p(item))

    def speak(
        self, text: str, voice: str, stretch: float = 1.0, f0_hz: float = 0.0, f0_std: float = 0.0
    ) -> Utterance:
        """`stretch` > 1 is slower; f0 0 leaves the voice's own mean and deviation."""
        pointer = self._voice(voice)
        features = ctypes.c_void_p(_Voice.from_address(pointer).features)
        self.lib.feat_set_float(features, b"duration_stretch", ctypes.c_float(stretch))
        for name, value in ((b"int_f0_target_mean", f0_hz), (b"int_f0_target_stddev", f0_std)):
            if value:
                self.lib.feat_set_float(features, name, ctypes.c_float(value))
        utt = self.lib.flite_synth_text(text.encode(), ctypes.c_void_p(pointer))
        wave = _Wave.from_address(self.lib.utt_wave(ctypes.c_void_p(utt)))
        pcm = np.ctypeslib.as_array(wave.samples, (wave.count,)) / 32768.0
        number, string = self.lib.flite_ffeature_float, self.lib.flite_ffeature_string
        phones, start = [], 0.0
        for item in self._items(utt, "Segment"):
            end = float(number(item, b"end"))
            phones.append((string(item, b"name").decode(), start, end))
            start = end
        first = b"R:SylStructure.daughter.daughter.R:Segment.p.end"
        words = [
            (string(i, b"name").decode(), float(number(i, first))) for i in self._items(utt, "Word")
        ]
        rate = wave.rate
        pcm = to_24k(pcm, rate)
        self.lib.delete_utterance(ctypes.c_void_p(utt))
        return trimmed(Utterance(pcm, [p for p in phones if p[0] != "pau"], words))


def warped_phones(other: Utterance, utterance: Utterance) -> list[tuple[str, float, float]]:
    """The phones of the same words in `other`'s voice, moved to `utterance`'s word times; unknown where the words differ."""
    if len(other.words) != len(utterance.words):
        return unknown_phones(utterance)
    theirs = [0.0, *[t for _, t in other.words[1:]], other.seconds]
    ours = [0.0, *[t for _, t in utterance.words[1:]], utterance.seconds]
    move = lambda t: float(np.interp(t, theirs, ours))  # noqa: E731
    return [(name, move(a), move(b)) for name, a, b in other.phones]


def unknown_phones(utterance: Utterance) -> list[tuple[str, float, float]]:
    """Speech, of which nobody says where its phones are."""
    return [("?", 0.0, utterance.seconds)]


def pico(text: str, language: str) -> Utterance:
    """SVOX Pico by its command `pico2wave`; "en-US" or "en-GB"; no times."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.wav"
        command = ["pico2wave", "-l", language, "-w", str(out), text]
        subprocess.run(command, check=True, capture_output=True)
        rate, pcm = wavfile.read(out)
    utterance = trimmed(Utterance(to_24k(pcm / 32768.0, rate)))
    utterance.phones = unknown_phones(utterance)
    return utterance


def festival(text: str, voice: str) -> Utterance:
    """Festival by its command `text2wave`; no times."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.wav"
        subprocess.run(
            ["text2wave", "-eval", f"({voice})", "-o", str(out)],
            input=text.encode(),
            check=True,
            capture_output=True,
        )
        rate, pcm = wavfile.read(out)
    return trimmed(Utterance(to_24k(pcm / 32768.0, rate)))
