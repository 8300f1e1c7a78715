"""The index of one's own sound: found again, forgotten for good, bounded, private."""

import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soxr

from app.events import ConversationEnded, ConversationStarted, FrameDone, Settings
from app.provenance.alignment import BLOCK_TICKS, MOST_PER_BLOCK, best_place
from app.provenance.index import PERHAPS, SURE, Index
from app.provenance.index_writer import IndexWriter, add_sound
from app.provenance.tracing import join
from moshi_mlx.errors import MoshiError
from moshi_mlx.provenance.landmarks import HOP_SAMPLES, landmarks
from tests.support.rooms import voice

RATE, FRAME = 24_000, 1920


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "deep" / "index.sqlite"


def frame_done(index: int, reply: np.ndarray | None) -> FrameDone:
    silent = np.zeros(FRAME, np.float32)
    return FrameDone(1, index, silent, reply, "", 0, 1.0, 0.0, 0.0, 0.0, 0)


def noisy(pcm: np.ndarray, snr_db: float) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(len(pcm))
    return pcm + noise * np.sqrt(np.mean(pcm**2) * 10 ** (-snr_db / 10))


def under_another(pcm: np.ndarray) -> np.ndarray:
    """A voice as loud on top."""
    other = voice("voice_librivox")[: len(pcm)]
    return pcm + other * np.std(pcm) / np.std(other)


ATTACKS = {
    "nothing": lambda x: x,
    "8 kHz": lambda x: soxr.resample(soxr.resample(x, RATE, 8_000), 8_000, RATE),
    "noise 10 dB": lambda x: noisy(x, 10),
    "1 % faster": lambda x: soxr.resample(x, 24_240, RATE),
    "30 dB softer": lambda x: np.round(x * 10**-1.5 * 32767) / 32767,
    "another voice, 0 dB": under_another,
    "equaliser": lambda x: scipy.signal.lfilter([1, -0.6], 1, x),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_was_said_is_found_with_its_talk_and_second(attack, path):
    add_sound(path, voice("voice_rms"))
    number = add_sound(path, voice("questions"))
    heard = np.asarray(ATTACKS[attack](voice("questions")[8 * RATE + 777 :][: 10 * RATE]))
    with Index(path) as index:
        match = index.search(heard, channel=1, start_s=30.0)
    assert match is not None and match.sure and match.talk == number == 2
    assert match.talk_s == pytest.approx(8.03, abs=0.15)
    assert (match.channel, match.start_s) == (1, 30.0)
    assert abs(match.started_s - time.time()) < 600


def test_what_was_never_said_is_not_found(path):
    add_sound(path, voice("voice_rms"))
    add_sound(path, voice("questions"))
    rng = np.random.default_rng(0)
    strange = [voice(name) for name in ("voice_awb", "voice_librivox")]
    strange += [rng.standard_normal(10 * RATE), np.zeros(10 * RATE), np.zeros(0), np.ones(5)]
    strange += [np.sin(np.arange(10 * RATE) * 0.1), np.full(10 * RATE, np.nan)]
    with Index(path) as index:
        assert [index.search(pcm) for pcm in strange] == [None] * len(strange)


def test_a_word_that_sounds_alike_accuses_nobody(path):
    """A synthesizer says a word as it always does: here the very sound, a second of it, three times
    in what is somebody else's."""
    add_sound(path, voice("voice_rms"))
    word, strange = voice("voice_rms")[2 * RATE : 3 * RATE], voice("voice_awb")[: 10 * RATE].copy()
    for start_s in (1, 4, 7):
        strange[start_s * RATE : (start_s + 1) * RATE] = word
    with Index(path) as index:
        assert index.search(strange) is None
        assert MOST_PER_BLOCK <= index.best(strange)[1] <= 3 * MOST_PER_BLOCK


def test_what_agrees_is_counted_all_along():
    """Ten in each of eight half seconds, to +-1 tick, against fifty of a burst elsewhere."""
    heard = np.arange(0, 8 * BLOCK_TICKS, BLOCK_TICKS).repeat(10) + np.tile(np.arange(10), 8)
    shifts = 7_000 + np.tile([-1, 0, 1, 0, 0], 16)
    burst = np.arange(50) // 2
    place, aligned = best_place(np.append(shifts, np.full(50, 900)), np.append(heard, burst))
    assert (place, aligned) == (7_000, 8 * MOST_PER_BLOCK)
    assert best_place(np.full(50, 900), burst)[1] == MOST_PER_BLOCK
    assert best_place(np.zeros(0, np.int64), np.zeros(0, np.int64)) == (0, 0)


def test_landmarks_are_few_and_quick_enough():
    """8 MB an hour are 500,000 rows of 16 bytes: 140 a second; 1 ms of CPU a frame."""
    pcm = voice("questions")
    start = time.thread_time()
    found = landmarks(pcm)
    assert time.thread_time() - start < 1e-3 * len(pcm) / FRAME
    assert 60 < len(found.hash) / (len(pcm) / RATE) < 150
    assert found.hash.max() < 1 << 24 and found.tick.max() < len(pcm) / HOP_SAMPLES


def test_a_talk_goes_in_as_it_is_held_and_nobody_waits(path):
    """Through events, sound missing at first; the queue is all that the model's thread touches."""
    writer = IndexWriter(path)
    pcm = voice("questions")
    writer(ConversationStarted(1, 0, Settings()))
    writer(frame_done(0, None))
    spent_s = 0.0
    for n in range(len(pcm) // FRAME):
        start_s = time.thread_time()
        writer(frame_done(n + 1, pcm[n * FRAME : (n + 1) * FRAME]))
        spent_s += time.thread_time() - start_s
    writer(ConversationEnded(1, "hung up", 1))
    writer.close()
    assert writer.failure is None and spent_s / n < 0.005
    with Index(path) as index:
        match = index.search(pcm[: 10 * RATE])
        assert match is not None and match.sure and match.talk_s == pytest.approx(0.08, abs=0.03)
    with sqlite3.connect(path) as database:
        written = database.execute("select hash from landmark").fetchall()
    whole = set(landmarks(np.append(np.zeros(FRAME), pcm)).hash.tolist())
    kept = whole.intersection(row[0] for row in written)
    assert len(kept) > 0.9 * len(whole)  # blocks lose little at their edges


def test_a_talk_without_sound_and_one_that_never_began(path):
    writer = IndexWriter(path)
    writer(frame_done(0, voice("voice_rms")[:FRAME]))
    writer(ConversationStarted(1, 0, Settings()))
    writer(ConversationEnded(1, "hung up", 0))
    writer.close()
    with Index(path) as index:
        assert len(index.talks()) == 1 and index.search(voice("voice_rms")) is None


def test_an_index_that_fails_ends_the_indexing_alone(path):
    notices = []
    writer = IndexWriter(path, notices.append)
    connection = sqlite3.connect(path)
    connection.execute("drop table landmark")
    connection.commit()
    writer(ConversationStarted(1, 0, Settings()))
    deadline = time.monotonic() + 60
    while writer.failure is None and time.monotonic() < deadline:
        writer(frame_done(0, voice("voice_rms")[:FRAME]))
        time.sleep(0.01)
    writer.close()
    assert [notice.kind for notice in notices] == ["index-failed"]
    assert "\n" not in notices[0].message
    connection.close()


def test_forgetting_leaves_nothing_in_the_file(path):
    first, second = add_sound(path, voice("voice_rms")), add_sound(path, voice("voice_awb"))
    with Index(path) as index:
        size = index.size_bytes()
        assert index.forget(first) == 1 and index.forget(99) == 0
        assert [talk for talk, _ in index.talks()] == [second]
        assert index.search(voice("voice_rms")) is None
        assert index.search(voice("voice_awb")) is not None
        assert index.size_bytes() < 0.7 * size
        assert index.forget(None) == 1 and index.talks() == []
    with sqlite3.connect(path) as database:
        assert database.execute("select count(*) from landmark").fetchone() == (0,)
    assert path.stat().st_size < 50_000


def test_the_index_is_bounded_by_age_and_size(path):
    day_s = 86_400
    with Index(path, max_days=10) as index:
        talks = [index.begin(started_s=day * day_s) for day in (100, 105, 109)]
        assert len(talks) == 3
        index.begin(started_s=112 * day_s)
        assert [started_s / day_s for _, started_s in index.talks()] == [105, 109, 112]
    sizes = []
    with Index(path, max_bytes=60_000) as index:
        for n in range(4):
            talk = index.begin(started_s=(113 + n) * day_s)
            index.add(talk, landmarks(voice("voice_rms")))
            index.add(talk, landmarks(voice("voice_awb")))
            sizes.append(index.size_bytes())
        assert max(sizes) < 160_000 and len(index.talks()) < 4


def test_only_its_owner_can_read_it_and_no_sound_is_in_it(path):
    add_sound(path, voice("voice_rms"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with sqlite3.connect(path) as database:
        tables = {row[0] for row in database.execute("select name from sqlite_master")}
        assert tables == {"talk", "landmark"}
        assert len(database.execute("select * from talk").fetchone()) == 2


def hostile(path: Path, kind: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "a folder":
        path.mkdir()
    elif kind == "no database":
        path.write_bytes(b"hello" * 1000)
    elif kind == "half":
        add_sound(path, voice("voice_rms"))
        path.write_bytes(path.read_bytes()[:5000])
    else:
        database = sqlite3.connect(path)
        statements = {
            "another's": "create table addresses (name text)",
            "a later version": "pragma user_version = 9; create table talk (id); "
            "create table landmark (id)",
            "a view": "pragma user_version = 1; create table talk (id, started_s); create view "
            "landmark as select 1 as hash, 2 as at",
            "a trigger": "pragma user_version = 1; create table talk (id, started_s); create table "
            "landmark (hash, at); create trigger t after insert on talk begin select 1; end",
        }
        database.executescript(statements[kind])
        database.close()


@pytest.mark.parametrize(
    "kind",
    ["a folder", "no database", "half", "another's", "a later version", "a view", "a trigger"],
)
def test_hostile_databases_are_one_line(kind, path):
    hostile(path, kind)
    with pytest.raises(MoshiError, match="can't be used") as error, Index(path) as index:
        index.search(voice("voice_rms"))
    assert "\n" not in str(error.value)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from app.provenance.index import Index
from moshi_mlx.errors import MoshiError
from moshi_mlx.provenance.landmarks import landmarks
from tests.support.rooms import voice
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Index(Path(sys.argv[1])) as index:
    talk = index.begin()
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
    try:
        index.add(talk, landmarks(voice("voice_rms")))
    except MoshiError as error:
        print(error)
    print(index.talks() == [(talk, index.talks()[0][1])])
"""


def test_a_disk_that_fills_up_is_no_fault_of_the_index(path):
    """One line that doesn't advise to move it away; what was in it stays."""
    command = [sys.executable, "-c", FULL_DISK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    first, second = done.stdout.splitlines()
    assert "is the disk full? Free some space" in first and "move it" not in first
    assert second == "True"


def test_odd_values_in_the_tables_are_no_error(path):
    add_sound(path, voice("voice_rms"))
    with sqlite3.connect(path) as database:
        database.execute("update talk set started_s = 1e300")
    with Index(path) as index:
        match = index.search(voice("voice_rms"))
        assert match is not None and "unknown time" in match.line()
        assert index.lines()
    with sqlite3.connect(path) as database:
        database.execute("delete from talk")
    with Index(path) as index:
        assert index.search(voice("voice_rms")) is None


def test_a_reader_beside_a_writer(path):
    """WAL: who traces doesn't hold a talk up, nor the other way round."""
    add_sound(path, voice("voice_rms"))
    stop, failed = threading.Event(), []

    def read() -> None:
        with Index(path) as index:
            while not stop.is_set():
                if index.search(voice("voice_rms")) is None:
                    failed.append("lost")

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(3):
        add_sound(path, voice("voice_awb"))
    stop.set()
    thread.join()
    assert not failed


def test_neighbours_that_go_on_are_one_match(path):
    number = add_sound(path, voice("questions"))
    with Index(path) as index:
        first = index.search(voice("questions")[: 10 * RATE], 0, 0.0)
        second = index.search(voice("questions")[10 * RATE : 20 * RATE], 0, 10.0)
    assert first is not None and second is not None
    found = []
    for match in (first, second):
        join(found, match)
    assert len(found) == 1 and found[0].seconds == 20 and found[0].talk == number
    join(found, first)
    assert len(found) == 2
    assert PERHAPS < SURE


def test_a_talk_that_begins_in_the_middle_of_a_window(path):
    """It begins where it does, and it isn't the talk before."""
    add_sound(path, voice("voice_rms"))
    number = add_sound(path, voice("questions"))
    first = voice("questions")[: 7 * RATE]
    with Index(path) as index:
        match = index.search(np.append(np.zeros(3 * RATE, np.float32), first), start_s=20.0)
    assert match is not None and match.sure and match.talk == number
    assert match.talk_s == pytest.approx(0, abs=0.05)
    assert match.start_s == pytest.approx(23, abs=0.05)
    assert match.seconds == pytest.approx(7, abs=0.05)
