"""Files made by chance, and what reading one may do: an answer or one line, at once, no file."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from moshi_mlx.errors import MoshiError
from tests.support.tree import tree_digest

MAX_CPU_S = 2.0
FEW = settings(
    max_examples=500,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
MANY = settings(FEW, max_examples=20_000)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 2**31, 2**62, 10**15, 10**400])
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["../x", "/etc/passwd", "a\0b", "x" * 300, "rope", "silu", "\ud800"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
junk = st.binary(max_size=200)


def changed(honest: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An honest object with some keys replaced or, now and then, left out or one too many: what is
    refused at the first look hides what comes behind it."""
    keys = st.sampled_from(sorted(honest))
    replaced = st.dictionaries(keys, values, min_size=1, max_size=3)
    plainly = replaced.map(lambda new: {**honest, **new})
    one_more = st.builds(lambda all, key, more: {**all, key: more}, plainly, st.text(), values)
    fewer = st.builds(
        lambda all, out: {k: v for k, v in all.items() if k not in out},
        plainly,
        st.sets(keys, min_size=1, max_size=2),
    )
    return plainly | plainly | one_more | fewer


def as_file(objects: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Now and then something else altogether."""
    written = objects.map(lambda found: json.dumps(found).encode())
    return written | written | written | values.map(lambda v: json.dumps(v).encode()) | junk


def edited(honest: bytes, most: int = 8) -> st.SearchStrategy[bytes]:
    """Bytes replaced, a stretch put in or cut out."""
    places = st.integers(0, len(honest) - 1)
    replaced = st.dictionaries(places, st.integers(0, 255), max_size=most)
    stretch = st.none() | st.tuples(places, st.integers(0, 60), st.binary(max_size=40))

    def build(edits: dict[int, int], put: tuple[int, int, bytes] | None) -> bytes:
        changed = bytearray(honest)
        for at, byte in edits.items():
            changed[at] = byte
        if put is not None:
            at, out, new = put
            changed[at : at + out] = new
        return bytes(changed)

    return st.builds(build, replaced, stretch)


@contextmanager
def one_line_at_once() -> Iterator[Path]:
    """A folder in which something is read."""
    with TemporaryDirectory() as name:
        folder = Path(name) / "model"
        folder.mkdir()
        yield folder


def read(folder: Path, how: Callable[[], object]) -> None:
    """Whatever `how` says about it is one line, at once, and no file is touched."""
    before, started_s = tree_digest(folder.parent), time.process_time()
    try:
        how()
    except MoshiError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000
    assert time.process_time() - started_s < MAX_CPU_S
    assert tree_digest(folder.parent) == before
