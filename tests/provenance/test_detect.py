"""The mark found again: behind codecs, rooms and speeds; and never where it isn't."""

import io

import numpy as np
import pytest
import scipy.signal
import soundfile
import soxr

from moshi_mlx.errors import MoshiError
from moshi_mlx.provenance import PUBLIC_KEY, detect, mark
from moshi_mlx.provenance.detect import best_fit, chance, fold, joined, variants, windows
from moshi_mlx.provenance.pattern import signs
from moshi_mlx.provenance.residual import residual
from tests.support.rooms import echo_of, room, voice

RATE = 24_000
VOICES = ("speech_10s", "voice_awb", "voice_librivox", "voice_rms")


@pytest.fixture(scope="module")
def marked() -> dict[str, np.ndarray]:
    return {name: mark(voice(name)) for name in VOICES}


def through(pcm: np.ndarray, form: str, subtype: str, level: float) -> np.ndarray:
    """Encoded and decoded by libsndfile; `level`: 0 best, 1 smallest."""
    file = io.BytesIO()
    options = {"format": form, "subtype": subtype, "compression_level": level}
    soundfile.write(file, pcm, RATE, **options)
    file.seek(0)
    decoded, rate_hz = soundfile.read(file, dtype="float32")
    return soxr.resample(decoded, rate_hz, RATE)


def noisy(pcm: np.ndarray, snr_db: float) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(len(pcm))
    return pcm + noise * np.sqrt(np.mean(pcm**2) * 10 ** (-snr_db / 10))


ATTACKS = {
    "nothing": lambda x: x,
    "30 dB softer, 16 bit": lambda x: np.round(x * 10**-1.5 * 32767) / 32767,
    "16 kHz": lambda x: soxr.resample(soxr.resample(x, RATE, 16_000), 16_000, RATE),
    "8 kHz": lambda x: soxr.resample(soxr.resample(x, RATE, 8_000), 8_000, RATE),
    "mp3": lambda x: through(x, "MP3", "MPEG_LAYER_III", 0.8),
    "vorbis": lambda x: through(x, "OGG", "VORBIS", 0.7),
    "opus": lambda x: through(x, "OGG", "OPUS", 0.9),
    "noise 20 dB": lambda x: noisy(x, 20),
    "1 % faster": lambda x: soxr.resample(x, 24_240, RATE),
    "1 % slower": lambda x: soxr.resample(x, 23_760, RATE),
    "upside down": lambda x: -x,
    "cut anywhere": lambda x: x[3_217:],
    "equaliser": lambda x: scipy.signal.lfilter([1, -0.6], 1, x),
    "a room": lambda x: echo_of(x, room(20, 0.3, direct=0.6), 0.05),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_mark_is_found_behind(attack, marked):
    for name, pcm in marked.items():
        found = detect(np.asarray(ATTACKS[attack](pcm)))
        assert len(found) == 1 and found[0].found, (name, found)
        assert found[0].payload is None


@pytest.mark.parametrize("speed", [0.94, 0.96, 1.03, 1.06])
def test_thorough_finds_other_speeds(speed, marked):
    pcm = soxr.resample(marked["speech_10s"], RATE * speed, RATE)
    found = detect(pcm, thorough=True)[0]
    assert found.found and found.speed == pytest.approx(speed, abs=0.006)
    if abs(speed - 1) > 0.035:
        assert not detect(pcm)[0].found


def test_the_payload_is_told():
    for name, payload in zip(VOICES, (0, 63, 64, 4095), strict=True):
        pcm = mark(voice(name), payload=payload)
        assert detect(pcm)[0].payload == payload
    assert detect(through(pcm, "OGG", "OPUS", 0.9))[0].payload == payload


def test_every_payload_is_told_apart():
    """Signs alone, as a residual: all 4,096, at any start."""
    own, rng = signs(b"some key"), np.random.default_rng(1)
    for payload in rng.permutation(4096)[:64]:
        pattern = np.roll(own.of(int(payload)), int(rng.integers(64)), axis=0)
        sound = np.repeat(np.tile(pattern, (2, 1)), 8, axis=0)
        part = variants(np.zeros(24_000, np.float32), RATE)[0]
        fit = best_fit([type(part)(sound, 1.0, part.tempos)], b"some key")
        assert fit.payload == payload


def test_unmarked_sound_and_other_keys_are_not_found(marked):
    """Each recording with thirty keys; the bound allows a hit in 1 of 4,000 runs."""
    rng = np.random.default_rng(2)
    for name in VOICES:
        plain, other = (variants(pcm, RATE) for pcm in (voice(name), marked[name]))
        for _ in range(30):
            key = rng.bytes(32)
            for searched in (plain, other):
                assert chance(best_fit(searched, key), 1) > 1e-6
        assert chance(best_fit(plain), 1) > 1e-6


def test_the_bound_holds_for_random_signs():
    """P(z > t) <= exp(-t^2 / 2), counted: at no probability do more searches exceed the bound."""
    searched = variants(voice("voice_awb"), RATE)
    chances = np.array([chance(best_fit(searched, bytes([n, 1])), 1) for n in range(256)])
    for bound in (0.5, 0.2, 0.05):
        assert np.mean(chances <= bound) <= bound + 3 * np.sqrt(bound / len(chances))


def test_long_sound_needs_better_evidence():
    """The bound counts every window of the recording."""
    pcm = mark(voice("speech_10s"))
    one = detect(pcm)[0]
    many = detect(np.concatenate([pcm, np.zeros(1_080_000, np.float32)]))[0]
    assert many.z == one.z
    # 55 s are 6 windows: five of 10 s and the rest
    assert many.false_alarm / one.false_alarm == pytest.approx(6, rel=1e-6)


def test_windows_say_where_the_mark_is():
    pcm = np.concatenate([voice("voice_awb"), mark(voice("voice_rms")), voice("voice_librivox")])
    found = detect(soxr.resample(pcm, RATE, 44_100), 44_100)
    assert [window.found for window in found] == [False, True, False]
    assert [window.start_s for window in found] == [0, 10, 20]


def test_windows_cover_everything_once():
    for seconds in (0, 0.01, 2, 10, 11, 12.4, 12.6, 20, 3600.2):
        samples = round(seconds * 8000)
        bounds = windows(samples, 8000)
        assert [end for _, end in bounds[:-1]] == [start for start, _ in bounds[1:]]
        assert (bounds[0][0], bounds[-1][1]) == (0, samples) if bounds else samples == 0
        assert all(end - start >= 2.5 * 8000 for start, end in bounds[1:])


def test_a_weak_mark_is_found_in_more_time():
    """Through noise that hides it in 10 s: three windows searched as one."""
    pcm = noisy(mark(np.concatenate([voice(name) for name in VOICES[1:]])), 8)
    parts = [variants(pcm[start:end], RATE) for start, end in windows(len(pcm), RATE)]
    alone = max(best_fit(part).z for part in parts)
    assert best_fit(joined(parts)).z > 1.3 * alone


def test_folding_sums_the_frames_of_all_periods():
    rest = np.arange(2 * 64 * 8 * 16, dtype=np.float32).reshape(-1, 16)
    folded, tempo = fold(rest, np.array([1.0]))
    assert folded.shape[1:] == (64, 16) and list(tempo) == [1.0] * 8
    np.testing.assert_array_equal(folded[3][5], rest[3 + 5 * 8] + rest[3 + (64 + 5) * 8])


def test_odd_sound_is_no_error():
    assert detect(np.zeros(0, np.float32)) == []
    rng = np.random.default_rng(3)
    for pcm in (
        np.zeros(1, np.float32),
        np.zeros(240_000, np.float32),
        np.full(240_000, 0.5, np.float32),
        np.full(50_000, np.nan, np.float32),
        np.full(50_000, np.inf, np.float32),
        np.full(50_000, 3e38, np.float32),
        np.full(50_000, 1e-42, np.float32),
        rng.standard_normal(50_000) * 1e30,
        rng.choice([-1.0, 1.0], 240_000),
        np.eye(1, 240_000, 100_000)[0],
    ):
        found = detect(pcm)
        assert len(found) == 1 and not found[0].found and np.isfinite(found[0].z), found
    with pytest.raises(MoshiError, match="one channel"):
        detect(np.zeros((2, 1000), np.float32))
    with pytest.raises(MoshiError, match="one channel"):
        detect(np.zeros(1000, np.int16))
    for rate_hz in (0, -1, 100, 10**9):
        with pytest.raises(MoshiError, match="samples a second"):
            detect(np.zeros(1000, np.float32), rate_hz)


def test_figures_of_the_golden_voices_stay():
    """Frozen: a change of the detector or of the key that loses ground is seen."""
    figures = {name: detect(mark(voice(name)))[0].z for name in VOICES}
    assert figures == pytest.approx(ZS, abs=0.2)
    assert residual(voice("speech_10s")).shape == (1000, 16)
    assert PUBLIC_KEY == b"moshi-local, the public key of the mark, version 1"


ZS = {"speech_10s": 20.36, "voice_awb": 21.62, "voice_librivox": 18.77, "voice_rms": 20.65}
