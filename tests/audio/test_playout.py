"""Playout, lag and drift on a virtual clock: what the session adds, what is lost, what is told."""

import random
import threading
from pathlib import Path

import numpy as np
import pytest

from app.audio.stream.playout import FADE_SAMPLES, Playout
from app.audio.virtual_port import VirtualPort
from app.events import ConversationEnded, FrameDone, Notice, Settings
from app.talk.pace import PaceWatch, advice
from app.talk.session import TalkSession
from moshi_mlx.clock import FRAME_SAMPLES, SAMPLE_RATE_HZ
from tests.support.fakes.fake_engine import FakeEngine
from tests.support.process_memory import resident_bytes
from tests.support.talks.numbered import Numbers

BLOCK = 480
PROBE = 2 * FADE_SAMPLES  # offset in a frame that no fade touches


class Run:
    """One conversation on a virtual clock with a fake model that says -input."""

    def __init__(self, seconds, step_seconds, source=None, **port_options):
        self.blocks, self.events = [], []
        self.port = VirtualPort(
            source or Numbers(seconds), lambda b: self.blocks.append(b.copy()), **port_options
        )
        session = TalkSession(lambda: FakeEngine(step_seconds, self.port.advance))
        session.subscribe(self.events.append)
        session.subscribe(lambda e: session.finish() if isinstance(e, ConversationEnded) else None)
        session.begin(self.port, Settings(seed=1))
        session.run()  # on this thread: all of it is one deterministic computation
        self.port.drain()
        assert session.failure is None
        self.session = session
        self.played = np.concatenate(self.blocks)
        self.frames = [event for event in self.events if isinstance(event, FrameDone)]

    def added_ms(self):
        """For each frame: capture to playback, minus the frame and the model's time."""
        whole = np.flatnonzero((self.played < 0) & (self.played == np.trunc(self.played)))
        numbers = -self.played[whole].astype(np.int64)
        where, added = dict(zip(numbers.tolist(), whole.tolist(), strict=True)), []
        for frame in self.frames:
            probe = int(frame.heard[PROBE])
            if probe in where:  # sample number `probe - 1` was captured at (probe - 1) / rate
                delay_ms = 1000 * (where[probe] + BLOCK - (probe - 1)) / SAMPLE_RATE_HZ
                added.append(delay_ms - 80 - frame.step_ms)
        assert len(added) > 0.9 * len(self.frames)
        return np.array(added)


def jitter(seed, low_ms, high_ms):
    rng = random.Random(seed)
    return lambda: rng.uniform(low_ms, high_ms) / 1000


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_latency_added_by_the_session(seed):
    added = Run(60, jitter(seed, 40, 60)).added_ms()
    assert np.median(added) <= 20, np.median(added)
    assert np.percentile(added, 95) <= 40


def stalls(at_frame, stall_s, normal_s=0.05):
    count = iter(range(10**9))
    return lambda: stall_s if next(count) == at_frame else normal_s


def test_after_a_stall_of_two_seconds_lag_is_back_within_three():
    run = Run(30, stalls(100, 2.0))
    lags = [frame.lag_ms for frame in run.frames]
    assert max(lags[:100]) < 160
    assert max(lags[100:102]) > 1000, "the stall must show"
    assert max(lags[102 : 102 + 37]) < 160, "within 3 s of normal speed, and in fact at once"
    assert max(lags[139:]) < 160
    last = run.frames[-1]
    assert 20 <= last.dropped_frames <= 26, "two seconds of input were dropped and counted"
    assert len(run.frames) + last.dropped_frames == pytest.approx(30 / 0.08, abs=2)
    # and what is played is as new again as before the stall
    assert np.max(run.added_ms()[-100:]) <= 40


def test_a_short_hiccup_loses_nothing_and_its_delay_is_given_back():
    run = Run(60, stalls(100, 0.2))
    assert run.frames[-1].dropped_frames == 0
    added = run.added_ms()
    assert added[:90].max() <= 20
    assert added[101:110].max() > 60, "played late at first"
    assert added[-50:].max() <= 20, "then the spare buffer was skipped"
    assert run.port.playout.skipped_samples > 0


def test_a_model_slower_than_real_time_drops_input_and_keeps_the_lag_bounded():
    run = Run(60, lambda: 0.104)  # 1.3 x too slow
    lags = np.array([frame.lag_ms for frame in run.frames])
    assert lags.max() <= 310
    heard = np.concatenate([frame.heard for frame in run.frames])
    counted = sum(frame.dropped_now_samples for frame in run.frames)
    assert counted == pytest.approx(run.frames[-1].dropped_frames * FRAME_SAMPLES)
    assert len(heard) + counted == pytest.approx(60 * SAMPLE_RATE_HZ, abs=4 * FRAME_SAMPLES)
    assert counted / (60 * SAMPLE_RATE_HZ) == pytest.approx(0.3 / 1.3, abs=0.02)
    told = [i for i, event in enumerate(run.events) if isinstance(event, Notice)]
    assert len(told) == 1, "told once"
    assert sum(isinstance(event, FrameDone) for event in run.events[: told[0]]) * 0.104 < 10
    notice = run.events[told[0]]
    assert notice.kind == "too-slow" and "104 ms" in notice.message


@pytest.mark.parametrize(
    ("recipe", "step_ms", "fits"),
    [
        *[("q8", 104.0, "--bits 4"), ("bf16", 120.0, "--bits 8"), ("bf16", 170.0, "--bits 4")],
        *[("q6", 90.0, "q4 should take 73 ms: moshi chat --bits 4"), ("mxfp8", 100.0, "--bits 4")],
        *[("q8", 90.0, "--bits 4")],
    ],
)
def test_the_recipe_that_would_fit_is_named(recipe, step_ms, fits):
    assert advice("kyutai/moshiko-mlx", recipe, step_ms).endswith(fits)


def test_a_model_that_is_not_published_in_other_recipes_is_to_be_quantized():
    assert advice("./hibiki", "q8", 84.0).endswith(
        "q6 should take 68 ms: moshi quantize --recipe q6"
    )


def test_where_no_recipe_fits_none_is_promised():
    for recipe, step_ms in (("q4", 104.0), ("q8", 400.0), ("mixed-4-6", 104.0), ("mxfp4", 90.0)):
        told = advice("kyutai/moshiko-mlx", recipe, step_ms)
        assert "No smaller recipe would fit" in told and "doctor" in told
    assert "No smaller recipe would fit" in advice("nano", "bf16", 120.0)  # not the 7B's q4


def test_a_mix_of_ones_own_is_advised_fewer_bits():
    for recipe in ("q8+q4", "mine", ""):
        told = advice("folder", recipe, 104.0)
        assert "Fewer bits" in told and "would fit" not in told


def test_pace_is_told_again_only_after_it_had_been_good():
    watch = PaceWatch("kyutai/moshiko-mlx-q8", "q8")
    told = [watch.add(ms, 480) for ms in [100.0] * 100 + [50.0] * 100 + [100.0] * 100]
    assert [i for i, notice in enumerate(told) if notice] == [
        29,
        219,
    ]  # 20 slow and 20 fast ones make 3 s
    assert not any(
        PaceWatch("kyutai/moshiko-mlx-q8", "q8").add(ms, 480)
        for ms in [50.0] * 20 + [2000.0] + [50.0] * 40
    )


def test_who_drops_nothing_keeps_up():
    watch = PaceWatch("kyutai/moshiko-mlx-q8", "q8")
    assert not any(watch.add(100.0, 0) for _ in range(100)), "encoding beside the model makes up"
    assert watch.add(100.0, 480).kind == "too-slow"
    assert not any(watch.add(100.0, n % 2) for n in range(100)), "told once"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.parametrize("seconds", [200, pytest.param(3600, marks=pytest.mark.long)])
def test_every_sample_is_heard_once_and_played_once(seconds):
    threads = threading.active_count()
    checks = {"heard": 0, "played": 1}  # the first sample is faded to nothing
    modulus = 1 << 24

    def sink(block):
        spoken = block[block < 0]
        if len(spoken):
            first = checks["played"]
            expected = (np.arange(first, first + len(spoken)) % modulus + 1).astype(np.float32)
            faded = FADE_SAMPLES if first == 1 else 0  # only the very first block is faded in
            assert np.array_equal(-spoken[faded:], expected[faded:])
            checks["played"] += len(spoken)

    def listen(event):
        if isinstance(event, FrameDone):
            expected = (np.arange(FRAME_SAMPLES) + checks["heard"]) % modulus + 1
            assert np.array_equal(event.heard, expected.astype(np.float32))
            checks["heard"] += FRAME_SAMPLES
        if isinstance(event, ConversationEnded):
            session.finish()
        if isinstance(event, FrameDone) and event.index in (1000, seconds * 12):
            memory.append(resident_bytes())

    memory = []
    port = VirtualPort(Numbers(seconds), sink)
    session = TalkSession(lambda: FakeEngine(jitter(4, 40, 59), port.advance))
    session.subscribe(listen)
    session.begin(port, Settings())
    session.run()
    assert session.failure is None
    assert checks["heard"] == seconds * SAMPLE_RATE_HZ
    port.drain()
    assert checks["played"] == seconds * SAMPLE_RATE_HZ
    assert port.playout.underruns == 0 and port.playout.skipped_samples == 0
    assert memory[1] - memory[0] < 250_000, memory  # 11 bytes a frame
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ("ppm", "seconds"),  # as much drift in a quarter of the time, or as much as clocks have
    [
        *[(-1200.0, 150), (1200.0, 150)],
        *(pytest.param(ppm, 600, marks=pytest.mark.long) for ppm in (-300.0, 300.0)),
    ],
)
def test_drift_between_the_two_clocks_is_absorbed(ppm, seconds):
    class Tone:
        at, total = 0, seconds * SAMPLE_RATE_HZ

        def __call__(self, n):
            if self.at >= self.total:
                return None
            self.at += n
            time_s = np.arange(self.at - n, self.at) / SAMPLE_RATE_HZ
            return (0.5 * np.sin(2 * np.pi * 200 * time_s)).astype(np.float32)

    run = Run(seconds, jitter(5, 40, 58), source=Tone(), output_ppm=ppm)
    playout = run.port.playout
    drifted = seconds * SAMPLE_RATE_HZ * abs(ppm) * 1e-6  # 4320 samples
    moved = playout.inserted_samples if ppm > 0 else playout.skipped_samples
    assert abs(moved - drifted) < 4 * BLOCK, (moved, drifted)
    assert max(frame.lag_ms for frame in run.frames) < 160
    assert np.max(np.abs(np.diff(run.played[SAMPLE_RATE_HZ:]))) < 0.06, "no click at a joint"


def test_a_gap_fades_out_and_in_without_a_click():
    playout, out = Playout(), np.empty(BLOCK, np.float32)
    time_s = np.arange(2 * FRAME_SAMPLES) / SAMPLE_RATE_HZ
    tone = np.cos(2 * np.pi * 150 * time_s).astype(np.float32)
    played = []
    for tick in range(14):
        if tick in (0, 8):  # the second frame comes four blocks late
            half = FRAME_SAMPLES if tick else 0
            playout.push(tone[half : half + FRAME_SAMPLES], tick * 0.02)
        playout.pull(out, tick * 0.02)
        played.append(out.copy())
    sound = np.concatenate(played)
    assert np.max(np.abs(np.diff(sound))) < 0.06
    assert playout.underruns == 2 and not sound[6 * BLOCK : 8 * BLOCK].any()


def test_flush_forgets_what_waits_and_plays_the_next_frame_at_once():
    playout, out = Playout(), np.empty(BLOCK, np.float32)
    playout.push(np.full(4 * FRAME_SAMPLES, 0.5, np.float32), 0.0)
    playout.pull(out, 0.0)
    playout.flush()
    assert playout.push(np.full(FRAME_SAMPLES, -0.25, np.float32), 0.01) <= 0.02
    playout.pull(out, 0.02)
    assert out[-1] == -0.25


def test_callbacks_of_any_size_lose_nothing():
    rng = np.random.default_rng(7)
    playout, played, pushed = Playout(), [], 0
    for tick in range(4000):
        while playout.level() < 2 * FRAME_SAMPLES:
            playout.push(np.arange(pushed, pushed + FRAME_SAMPLES, dtype=np.float32), tick * 0.0)
            pushed += FRAME_SAMPLES
        out = np.empty(rng.integers(1, 1500), np.float32)
        playout._slack_s.clear()  # time stands still here: no adaptation
        playout.pull(out, 0.0)
        played.append(out)
    sound = np.concatenate(played)
    np.testing.assert_array_equal(sound[FADE_SAMPLES:], np.arange(FADE_SAMPLES, len(sound)))
