"""Private keys of the mark: made once, read by their owner alone, never overwritten."""

import stat

import pytest

from moshi_mlx.errors import MoshiError
from moshi_mlx.provenance import make_key, read_key
from moshi_mlx.provenance.key import HEADER


def test_a_key_comes_back_and_is_its_owners_alone(tmp_path):
    path = tmp_path / "keys" / "mark.key"
    key = make_key(path)
    assert read_key(path) == key and len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert make_key(tmp_path / "other.key") != key


def test_a_key_is_never_overwritten(tmp_path):
    key = make_key(tmp_path / "mark.key")
    with pytest.raises(MoshiError, match="never overwritten"):
        make_key(tmp_path / "mark.key")
    assert read_key(tmp_path / "mark.key") == key


def test_a_lost_key_is_one_line(tmp_path):
    with pytest.raises(MoshiError, match=r"no key at .*: look for a copy") as error:
        read_key(tmp_path / "gone.key")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o620])
def test_a_key_that_others_can_read_is_refused(tmp_path, mode):
    make_key(tmp_path / "mark.key")
    (tmp_path / "mark.key").chmod(mode)
    with pytest.raises(MoshiError, match="read by others: chmod 600"):
        read_key(tmp_path / "mark.key")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 5000,
        b"\xff\xfe",
        HEADER.encode(),
        HEADER.encode() + b"\nzz\n",
        HEADER.encode() + b"\n" + b"ab" * 31 + b"\n",
        b"another header\n" + b"ab" * 32 + b"\n",
    ],
)
def test_what_is_no_key_is_one_line(tmp_path, content):
    path = tmp_path / "mark.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(MoshiError, match="is not a key of the mark") as error:
        read_key(path)
    assert "\n" not in str(error.value)


def test_places_of_no_use_are_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "mark.key", tmp_path / ("x" * 300), "a\0b"):
        with pytest.raises(MoshiError, match="no key can be written to"):
            make_key(path)
        with pytest.raises(MoshiError):
            read_key(path)
    with pytest.raises(MoshiError, match="can't be read"):
        read_key(tmp_path)
