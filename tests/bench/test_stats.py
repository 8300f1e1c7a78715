"""The bench's figures from frame times that were made up: what comes out can be checked by hand."""

import numpy as np
import pytest

from app.bench import stats
from app.bench.kinds import Converses
from app.bench.runner import Plan, noise_frames, stages_of, timer_cost_ms
from app.bench.stats import FrameTime, RunTimes
from app.bench.watching import Stopwatch
from app.machine import verdict
from tests.support.models.loaded import nano


def test_percentiles_and_shares():
    times = [float(n) for n in range(1, 102)]  # 1 .. 101
    found = stats.summarize(times)
    assert (found.p50, found.p95, found.p99, found.max) == (51, 96, 100, 101)
    assert (found.mean, found.count) == (51, 101)
    assert stats.over_budget_percent(times) == pytest.approx(100 * 21 / 101)
    assert stats.real_time_factor([40.0, 80.0]) == 0.75


def test_the_answer_comes_after_frame_delay_compute_and_buffers():
    assert stats.response_latency_ms(30.0) == 80 + 80 + 30 + 60


def test_heat_is_the_last_minute_against_the_first():
    frames = [FrameTime(second, 40.0 if second < 90 else 50.0) for second in range(181)]
    found = stats.drift(RunTimes(frames))
    assert found is not None
    assert (found.first_ms, found.last_ms) == (40.0, 50.0) and found.percent == pytest.approx(25)
    assert stats.drift(RunTimes(frames[:100])) is None


def test_stages_and_host_add_up_to_the_frame():
    stamps = [("encode", 0.0, 0.004), ("lm", 0.005, 0.025), ("decode", 0.025, 0.031)]
    found = stages_of(stamps, 0.033)
    assert found == pytest.approx({"encode": 4, "lm": 20, "decode": 6, "host": 3})
    assert sum(found.values()) == pytest.approx(33)


def test_parts_of_a_typical_frame_add_up_to_it_where_medians_do_not():
    """Frames that are slow in one part or the other: the medians of parts make 20, no frame is."""
    rows = [(10, 30), (30, 10), (10, 31), (31, 10), (10, 32)]
    frames = [FrameTime(0, a + b, {"encode": a, "lm": b, "decode": 0, "host": 0}) for a, b in rows]
    found = stats.typical_stages(RunTimes(frames))
    assert found == {"encode": 10, "lm": 31, "decode": 0, "host": 0}
    assert stats.typical_stages(RunTimes([FrameTime(0, 1.0)])) == {}


def test_the_timer_check_compares_the_parts_with_frames_nobody_looked_into():
    stages = {"encode": 5.0, "lm": 20.0, "decode": 6.0, "host": 1.0}
    frames = [FrameTime(0, 31.0), FrameTime(0, 32.0, stages)] * 5
    found = stats.timer_check(RunTimes(frames), timer_ms=0.0062)
    assert found is not None and found.sum_ms == 32 and found.watched_ms == 32
    assert found.gap_percent == pytest.approx(100 / 31)
    assert found.cost_percent == pytest.approx(0.02)
    assert stats.timer_check(RunTimes(frames[:1]), 0.0) is None


def test_a_session_is_looked_into_only_while_the_watch_is_on():
    """Part by part or in one graph it is the same conversation; each part is stamped once."""
    moshi, frames = nano(), noise_frames(count=8)
    watch = Stopwatch()
    with Converses(moshi).open(watch) as session, moshi.session(seed=0) as plain:
        for i, frame in enumerate(frames):
            watch.start(on=i % 2 == 1)
            ours, theirs = session.step(frame), plain.step(frame)
            assert ours.text_token == theirs.text_token
            assert (ours.pcm is None) == (theirs.pcm is None)
            if ours.pcm is not None:
                np.testing.assert_array_equal(ours.pcm, theirs.pcm)
            stages = [stage for stage, _, _ in watch.stamps]
            assert stages == (["encode", "lm", "decode"] if i % 2 else [])
        assert session.frames == len(frames)


def test_stopwatches_cost_microseconds():
    assert 0 < timer_cost_ms(500) < 0.5  # 1 % of the 50 ms that a frame takes on a fast Mac


@pytest.mark.parametrize(
    ("plan", "frames", "seconds", "done"),
    [
        (Plan(frames=200), 50, 99.0, 0.25),
        (Plan(frames=200), 200, 0.0, 1.0),
        (Plan(seconds=60.0), 5, 30.0, 0.5),
        (Plan(seconds=60.0), 5, 61.0, 1.0),
    ],
)
def test_a_plan_ends_by_frames_or_by_seconds(plan, frames, seconds, done):
    assert plan.done(frames, seconds) == done


@pytest.mark.parametrize(
    ("p50", "p95", "answer", "text"),
    [
        (31.0, 49.0, "yes", "q4: yes, 31 ms of headroom"),
        (70.0, 75.0, "tight", "q4: tight, 5 ms left"),
        (70.0, 95.0, "tight", "q4: tight, 15 ms over"),
        (92.0, 99.0, "no", "q4: no, 12 ms too slow"),
        (2580.0, 2600.0, "no", "q4: no, 2.5 s too slow"),
    ],
)
def test_the_verdict_of_measured_frames(p50, p95, answer, text):
    found = verdict.of_measured("q4", p50, p95)
    assert found.answer == answer and str(found) == text


@pytest.mark.parametrize(
    ("mean", "hot", "text"),
    [
        (79.0, 0.0, "q4: tight, 75 ms over"),
        (84.0, 0.0, "q4: no, 4 ms too slow"),  # half of them fit, and yet lag grows
        (70.0, 91.0, "q4: no, 11 ms too slow"),  # it did, until the machine was hot
    ],
)
def test_where_lag_would_grow_the_answer_is_no(mean, hot, text):
    assert str(verdict.of_measured("q4", 60.0, 155.0, mean, hot)) == text
