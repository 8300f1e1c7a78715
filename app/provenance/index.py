"""The index of one's own generated sound: landmarks and talk numbers in SQLite, no sound, no words.

Opt-in. It answers one question alone: whether this machine said that, in which talk and when. It
holds no more than so many days and bytes; the oldest talks go first.
"""

import contextlib
import errno
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soxr

from moshi_mlx.clock import SAMPLE_RATE_HZ
from moshi_mlx.errors import MoshiError
from moshi_mlx.provenance.landmarks import ASKED, HOP_SAMPLES, TICK_S, Landmarks, landmarks

from .alignment import best_place
from .signing_key import folder

NAME = "index.sqlite"
MAX_DAYS, MAX_BYTES = 90, 500_000_000  # about 60 h of sound
TALK_BITS = 24  # `at` is talk << 24 | tick: a talk may last 74 h
CLEAR = 80  # beyond doubt: at its true speed sound fits no other talk better
LEAD_TICKS = 1 << 12  # 65 s: a window may begin so long before the talk that is in it
SPEEDS = (1.0, 0.99, 1.01)
SURE, PERHAPS = 40, 30  # landmarks that agree in time (`alignment`); docs/provenance.md: measured
APPLICATION = 0x6D6F7368  # "mosh"
VERSION = 1
BUSY_S = 5.0
ASKED_AT_ONCE = 900  # of SQLite's variables in one statement
SCHEMA = f"""
pragma application_id = {APPLICATION};
pragma user_version = {VERSION};
create table talk (id integer primary key, started_s real not null);
create table landmark (hash integer, at integer, primary key (hash, at)) without rowid;
"""
TABLES = {("table", "talk"), ("table", "landmark")}


@dataclass(frozen=True)
class Match:
    """A stretch of a file that this machine said. `aligned`: landmarks that agree in time, no more
    than some of any half second."""

    channel: int
    start_s: float
    seconds: float
    talk: int
    talk_s: float
    started_s: float  # of the talk, by the clock of the machine, since 1970
    aligned: int

    @property
    def sure(self) -> bool:
        return self.aligned >= SURE

    def followed_by(self, match: "Match") -> "Match":
        """This and the stretch right after it as one."""
        aligned = self.aligned + match.aligned
        return replace(self, seconds=self.seconds + match.seconds, aligned=aligned)

    def line(self) -> str:
        when = local_time(self.started_s)
        sure = "said" if self.sure else "perhaps said"
        return (
            f"{self.start_s:.1f} to {self.start_s + self.seconds:.1f} s {sure} by this machine in "
            f"talk {self.talk} ({when}), from {self.talk_s:.1f} s on ({self.aligned} landmarks)"
        )


def local_time(since_1970_s: float) -> str:
    """A damaged index may hold any number."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(since_1970_s))
    except (OverflowError, ValueError, OSError, TypeError):
        return "at an unknown time"


def disk_failed(error: Exception) -> bool:
    """Whether it is the disk's fault, not the file's; SQLite's codes have more in higher bits."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
    return isinstance(error, OSError) and error.errno == errno.ENOSPC


def default_path() -> Path:
    return folder() / NAME


class Index:
    """One connection, for the thread that opened it. Raises MoshiError for whatever SQLite does."""

    def __init__(self, path: Path, max_days: float = MAX_DAYS, max_bytes: int = MAX_BYTES) -> None:
        self._path, self._max_days, self._max_bytes = path, max_days, max_bytes
        with self._one_line():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            with self._one_line():
                self._open()
        except MoshiError:
            self._db.close()
            raise

    def _open(self) -> None:
        self._db.execute("pragma trusted_schema = off")
        with self._transaction():
            found = set(self._db.execute("select type, name from sqlite_master"))
            if not found:
                for statement in SCHEMA.strip().split(";\n"):
                    self._db.execute(statement)
            elif found != TABLES or self._pragma("user_version") != VERSION:
                raise sqlite3.DatabaseError("it is not an index of this version")
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = normal")
        self._db.execute("pragma secure_delete = on")

    def _pragma(self, name: str) -> int:
        return self._db.execute(f"pragma {name}").fetchone()[0]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    @contextlib.contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            advice = "move it away to begin a new one"
            if disk_failed(error):
                advice = "is the disk full? Free some space, or leave the index out"
            raise MoshiError(f"the index {self._path} can't be used ({why}); {advice}") from None

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, started_s: float | None = None) -> int:
        """A new talk; what is too old or too much goes first. Returns its number."""
        started_s = time.time() if started_s is None else started_s
        self.prune(started_s)
        with self._one_line(), self._transaction():
            row = self._db.execute("insert into talk (started_s) values (?)", (started_s,))
            assert row.lastrowid is not None
            return row.lastrowid

    def add(self, talk: int, found: Landmarks, first_tick: int = 0) -> None:
        """Landmarks of a talk from a tick on."""
        at = (talk << TALK_BITS) + first_tick + found.tick
        rows = zip(found.hash.tolist(), at.tolist(), strict=True)
        with self._one_line(), self._transaction():
            self._db.executemany("insert or ignore into landmark values (?, ?)", rows)

    def talks(self) -> list[tuple[int, float]]:
        """Number and start of each talk, the oldest first."""
        with self._one_line():
            return self._db.execute("select id, started_s from talk order by id").fetchall()

    def lines(self) -> list[str]:
        """The talks and the size, to be read."""
        talks = [f"talk {talk}: {local_time(started_s)}" for talk, started_s in self.talks()]
        return [*talks, f"{len(talks)} talks, {self.size_bytes() / 1e6:.1f} MB at {self._path}"]

    def forget(self, talk: int | None) -> int:
        """One talk, or all, so that nothing of it is left in the file; returns how many went."""
        with self._one_line():
            with self._transaction():
                gone = self._remove([talk] if talk is not None else [t for t, _ in self.talks()])
            self._db.execute("vacuum")
            self._db.execute("pragma wal_checkpoint(truncate)")
        return gone

    def _remove(self, talks: list[int]) -> int:
        gone = 0
        for talk in talks:
            gone += self._db.execute("delete from talk where id = ?", (talk,)).rowcount
            self._db.execute(f"delete from landmark where at >> {TALK_BITS} = ?", (talk,))
        return gone

    def size_bytes(self) -> int:
        """What is in use of the file."""
        with self._one_line():
            pages = self._pragma("page_count") - self._pragma("freelist_count")
            return pages * self._pragma("page_size")

    def prune(self, now_s: float) -> None:
        """Talks older than the days allowed, then the oldest while there is more than allowed."""
        oldest_s = now_s - 86_400 * self._max_days
        with self._one_line(), self._transaction():
            self._remove([talk for talk, started_s in self.talks() if started_s < oldest_s])
            while self.size_bytes() > self._max_bytes and (left := self.talks()):
                self._remove([left[0][0]])

    def search(self, pcm: np.ndarray, channel: int = 0, start_s: float = 0.0) -> Match | None:
        """float [n] at 24 kHz, about 10 s: where this was said, or None."""
        place, aligned = self.best(pcm)
        if aligned < PERHAPS:
            return None
        talk, tick = divmod(place + LEAD_TICKS, 1 << TALK_BITS)
        started_s = dict(self.talks()).get(talk)
        if started_s is None:  # said in the middle of a clean-up, or a damaged file
            return None
        talk_s = (tick - LEAD_TICKS) * TICK_S
        before_s = max(-talk_s, 0.0)  # of the window, before the talk begins in it
        start_s, seconds = start_s + before_s, len(pcm) / SAMPLE_RATE_HZ - before_s
        return Match(channel, start_s, seconds, talk, talk_s + before_s, started_s, aligned)

    def best(self, pcm: np.ndarray) -> tuple[int, int]:
        """The place (talk << TALK_BITS) + tick that fits best, and how many landmarks agree on it,
        however few. Other speeds are tried where one leaves doubts."""
        best = (0, 0)
        for speed in SPEEDS:
            best = max(best, self._aligned(asked_for(pcm, speed)), key=lambda found: found[1])
            if best[1] >= CLEAR:
                break
        return best

    def _aligned(self, asked: Landmarks) -> tuple[int, int]:
        """Where most landmarks agree in time, and how many."""
        order = np.argsort(asked.hash, kind="stable")
        hashes, ticks = asked.hash[order], asked.tick[order]
        rows = self._rows(np.unique(hashes).tolist())
        first, last = (np.searchsorted(hashes, rows[:, 0], side) for side in ("left", "right"))
        counts = last - first  # of each row, how often its hash was asked for
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        heard = ticks[np.repeat(first, counts) + within]
        return best_place(np.repeat(rows[:, 1], counts) - heard, heard)

    def _rows(self, hashes: list[int]) -> np.ndarray:
        """int64 [n, 2] hash and place of all that is known of these."""
        found: list[tuple[int, int]] = []
        with self._one_line():
            for start in range(0, len(hashes), ASKED_AT_ONCE):
                part = hashes[start : start + ASKED_AT_ONCE]
                marks = ",".join("?" * len(part))
                query = f"select hash, at from landmark where hash in ({marks})"
                found += self._db.execute(query, part)
            return np.array(found, np.int64).reshape(-1, 2)


def asked_for(pcm: np.ndarray, speed: float) -> Landmarks:
    """Landmarks of sound that was played at a speed, on two grids, half a tick apart, so that one
    of them lies near the index's; more of them than the index holds, since other voices and noise
    make some that it doesn't."""
    pcm = np.asarray(pcm, np.float32)
    if speed != 1:
        pcm = soxr.resample(pcm, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ * speed)
    grids = landmarks(pcm, ASKED), landmarks(pcm[HOP_SAMPLES // 2 :], ASKED)
    return Landmarks(*(np.concatenate(parts) for parts in zip(*grids, strict=True)))
