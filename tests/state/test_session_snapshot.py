"""A talk with its sound: its snapshot goes on as if never interrupted."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.errors import MoshiError
from moshi_mlx.moshi import Moshi, Reply, Session
from moshi_mlx.session.codec_beside import CodecBeside
from moshi_mlx.session.kept import session_facts
from moshi_mlx.session.path import path_for
from tests.support.fakes.cpu_codec import CpuCodec, moshi_with
from tests.support.models.tiny_moshi import tiny_moshi

FRAME = 1920
OPTIONS = {"text_temperature": 0.8, "audio_top_k": 20}


@pytest.fixture(scope="module")
def moshi(tmp_path_factory) -> Moshi:
    return tiny_moshi(tmp_path_factory.mktemp("moshi"))


def beside(generator, stream, user_q: int) -> CodecBeside:
    return CodecBeside(generator, stream, user_q)


def sound(frames: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.3, 0.3, (frames, FRAME)).astype(np.float32)


def said(session: Session, pcm: np.ndarray) -> list[Reply]:
    return [session.step(frame) for frame in pcm]


def check_same(found: list[Reply], want: list[Reply]) -> None:
    assert [(r.text, r.text_token) for r in found] == [(r.text, r.text_token) for r in want]
    for mine, theirs in zip(found, want, strict=True):
        np.testing.assert_array_equal(mine.codes, theirs.codes)
        assert (mine.pcm is None) == (theirs.pcm is None)
        if mine.pcm is not None and theirs.pcm is not None:
            np.testing.assert_array_equal(mine.pcm, theirs.pcm)


@pytest.mark.parametrize("make_path", [path_for, beside])
@pytest.mark.parametrize("before", [0, 1, 14])
def test_sound_words_and_mark_go_on(moshi: Moshi, tmp_path: Path, make_path, before: int) -> None:
    pcm, path = sound(before + 12), tmp_path / "talk"
    with Session(moshi, 5, make_path, **OPTIONS) as session:
        said(session, pcm[:before])
        state = session.snapshot()
        state.save(path)
        want = said(session, pcm[before:])
    for source in (state, path):
        with moshi.resume(source, make_path=make_path) as resumed:
            assert (resumed.seed, resumed.frames) == (5, before)
            check_same(said(resumed, pcm[before:]), want)
    assert session_facts(path)["codec"] == "mlx"


def test_a_frame_that_was_encoded_ahead_is_kept(moshi: Moshi, tmp_path: Path) -> None:
    pcm = sound(12)
    with Session(moshi, 5, beside) as session:
        for i in range(6):
            session.step(pcm[i], following=pcm[i + 1])
        session.snapshot().save(tmp_path / "x")
        want = said(session, pcm[6:])
    with moshi.resume(tmp_path / "x", make_path=beside) as resumed:
        check_same(said(resumed, pcm[6:]), want)


def test_a_closed_session_another_codec_and_other_files_are_one_line(
    moshi: Moshi, tmp_path
) -> None:
    session = moshi.session(seed=1)
    state = session.snapshot()
    state.save(tmp_path / "x")
    session.close()
    state.lm.save(tmp_path / "lm")
    whole = (tmp_path / "x").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:-1])
    refused = [
        (session.snapshot, "this session is closed"),
        (lambda: moshi.resume(tmp_path / "lm"), "of the language model alone"),
        (lambda: moshi.resume(tmp_path / "cut"), "is cut short"),
        (lambda: moshi.resume(tmp_path / "none"), "there is no file"),
        (lambda: moshi.lm.resume(tmp_path / "x"), "give it to moshi.resume"),
        (lambda: moshi_with(CpuCodec()).resume(tmp_path / "x"), "another model"),
    ]
    for call, message in refused:
        with pytest.raises(MoshiError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    state.codec.arrays["encoder.1"] = mx.zeros(3)
    with pytest.raises(MoshiError, match="kept by another codec"):
        moshi.resume(state)
