"""The mark in the sound: what the filters are, that nothing is late, how little is heard of it."""

import hashlib
import time

import numpy as np
import pytest
import scipy.signal
import soundfile

from moshi_mlx.errors import MoshiError
from moshi_mlx.provenance import PUBLIC_KEY, Marker, mark
from moshi_mlx.provenance.marker import FADE_SAMPLES, filters
from moshi_mlx.provenance.pattern import PAIRS, PERIOD_FRAMES, band_edges_hz, signs
from tests.support.estoi import estoi
from tests.support.rooms import voice

RATE, FRAME = 24_000, 1920
VOICES = ("speech_10s", "voice_awb", "voice_librivox", "voice_rms")


def responses_db(taps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hz, response = scipy.signal.freqz(taps, worN=8192, fs=RATE)
    return hz, 20 * np.log10(abs(response))


def test_the_public_pattern_never_changes():
    """Recordings marked today must be found by every version to come."""
    plain, telling = signs(PUBLIC_KEY).plain, signs(PUBLIC_KEY).telling
    digest = hashlib.sha256(np.concatenate([plain, telling]).astype(np.int8).tobytes()).hexdigest()
    assert digest == "9542ce2438a44f933ea4d9b6dcd840a6fca182f8f6632489cd68562ee5213c9d"
    assert plain.shape == (PERIOD_FRAMES, PAIRS) and set(np.unique(plain)) == {-1, 1}


def test_payloads_have_patterns_of_their_own():
    own = signs(PUBLIC_KEY)
    patterns = {own.of(payload).tobytes() for payload in (None, *range(4096))}
    assert len(patterns) == 4097
    with pytest.raises(MoshiError, match="12 bits, 0 to 4095; not 4096"):
        Marker(payload=4096)
    with pytest.raises(MoshiError, match="not -1"):
        Marker(payload=-1)


@pytest.mark.parametrize("frame", [0, 17, 63])
def test_a_filter_lifts_and_lowers_its_bands_the_more_the_higher_they_are(frame):
    pattern = signs(PUBLIC_KEY).plain
    hz, db = responses_db(filters(pattern.tobytes(), 2.0)[frame])
    edges = band_edges_hz()
    centres = (edges[1:] + edges[:-1]) / 2
    wanted = np.stack([pattern[frame], -pattern[frame]], axis=1).reshape(-1)
    wanted *= np.linspace(0.8, 3.2, 32)  # dB
    got = np.interp(centres, hz, db)
    assert abs(got - wanted)[8:].max() < 0.35  # bands from 700 Hz on: wider than 256 taps resolve
    assert np.all(np.sign(got) == np.sign(wanted))
    assert abs(db[(hz < 150) | (hz > 8200)]).max() < 0.3


def test_the_filters_are_causal_and_of_minimum_phase():
    for taps in filters(signs(PUBLIC_KEY).plain.tobytes(), 2.0)[::7]:
        assert np.argmax(abs(taps)) == 0
        assert abs(np.roots(taps)).max() < 1


def test_frames_equal_a_whole_file_filtered_in_the_time_domain():
    """Against scipy's lfilter over the whole recording, a filter at a time, cross-faded."""
    pcm = voice("speech_10s")[: 70 * FRAME]
    taps = filters(signs(PUBLIC_KEY).plain.tobytes(), 2.0)
    wanted = np.zeros(len(pcm))
    rise = np.linspace(0, 1, FADE_SAMPLES)
    for n in range(70):
        part = slice(n * FRAME, (n + 1) * FRAME)
        wanted[part] = scipy.signal.lfilter(taps[n % 64], 1, pcm)[part]
        if n:
            fade = slice(n * FRAME, n * FRAME + FADE_SAMPLES)
            old = scipy.signal.lfilter(taps[(n - 1) % 64], 1, pcm)[fade]
            wanted[fade] = rise * wanted[fade] + (1 - rise) * old
    marker = Marker()
    frames = np.concatenate([marker.frame(frame) for frame in pcm.reshape(-1, FRAME)])
    np.testing.assert_allclose(frames, wanted, atol=2e-7)
    np.testing.assert_array_equal(frames, mark(pcm))


def test_nothing_is_later():
    """A click comes out at its own sample, and nothing comes before it."""
    pcm = np.zeros(2 * FRAME, np.float32)
    pcm[FRAME + 700] = 1.0
    marked = mark(pcm)
    assert abs(marked[: FRAME + 700]).max() < 1e-6
    assert np.argmax(abs(marked)) == FRAME + 700
    assert marked[FRAME + 700] > 0.8


def test_silence_stays_silence_and_the_level_stays():
    assert not mark(np.zeros(10 * FRAME, np.float32)).any()
    for name in VOICES:
        pcm = voice(name)
        assert abs(10 * np.log10(np.mean(mark(pcm) ** 2) / np.mean(pcm**2))) < 0.5


def test_a_length_that_is_no_whole_frame_stays():
    pcm = voice("speech_10s")
    for n in (0, 1, FRAME - 1, FRAME, FRAME + 1):
        assert mark(pcm[:n]).shape == (n,)
    np.testing.assert_array_equal(mark(pcm[: FRAME + 1]), mark(pcm)[: FRAME + 1])


def test_speech_stays_as_clear_as_it_was():
    clear = [estoi(voice(name), mark(voice(name)), RATE) for name in VOICES]
    assert np.mean(clear) >= 0.98 and min(clear) >= 0.97, clear


def test_a_frame_costs_little():
    """CPU time, so that a busy machine doesn't matter: 0.5 ms of the frame's 80."""
    marker, frame = Marker(), voice("speech_10s")[:FRAME]
    best = 1.0
    for _ in range(5):
        start = time.thread_time()
        for _ in range(50):
            marker.frame(frame)
        best = min(best, (time.thread_time() - start) / 50)
    assert best < 0.5e-3


def test_the_history_is_the_markers_own():
    """The caller may write into its array afterwards, and two streams don't mix."""
    pcm = voice("voice_awb")[: 4 * FRAME]
    one, other, frame = Marker(), Marker(), np.empty(FRAME, np.float32)
    said = []
    for n in range(4):
        frame[:] = pcm[n * FRAME : (n + 1) * FRAME]
        said.append(one.frame(frame))
        other.frame(np.ones(FRAME, np.float32))
        frame[:] = 0
    np.testing.assert_array_equal(np.concatenate(said), mark(pcm))


def test_marked_sound_is_float32_as_a_file_takes_it(tmp_path):
    marked = mark(voice("voice_rms"))
    assert marked.dtype == np.float32
    soundfile.write(tmp_path / "marked.wav", marked, RATE)
