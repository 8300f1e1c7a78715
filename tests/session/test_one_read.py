"""What a frame waits for: one read of the device, codec and language model in one evaluation."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from app.events import Settings
from app.talk.moshi_engine import MoshiEngine
from benchmarks.graph import kernels
from moshi_mlx.backend.compiler import can_compile
from moshi_mlx.codec.interface import CodecStream
from moshi_mlx.lm.generator import LmGenerator
from moshi_mlx.lm.sampling import override, samplers
from moshi_mlx.moshi import Moshi, Session
from moshi_mlx.session.codec_beside import CodecBeside
from moshi_mlx.session.path import FramePath, MakePath, path_for
from tests.support.device_reads import Reads, leaves
from tests.support.models.loaded import nano as shared_nano
from tests.support.models.tiny_moshi import tiny_moshi

FRAME = 1920


@pytest.fixture(scope="module")
def nano() -> Moshi:
    moshi = shared_nano()
    moshi.warm_up()
    return moshi


def noise(frames: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (0.05 * rng.standard_normal((frames, FRAME))).astype(np.float32)


def test_the_language_model_reads_once_a_frame(nano: Moshi, monkeypatch) -> None:
    generator = nano.lm.generator(seed=0)
    user = np.zeros(nano.config.user_q, np.int32)
    for _ in range(4):
        generator.step(user)
    reads = Reads(monkeypatch)
    for n in range(1, 6):
        assert generator.step(user).codes is not None
        assert reads.count == n


@pytest.mark.parametrize("hold", [False, True])
def test_a_whole_session_reads_once_a_frame(nano: Moshi, monkeypatch, hold: bool) -> None:
    nano.silence()
    with nano.session(seed=0) as session:
        frames = noise(10)
        for frame in frames[:4]:
            session.step(frame)
        reads = Reads(monkeypatch)
        for n, frame in enumerate(frames[4:], 1):
            reply = session.step(frame, hold_silence=hold)
            assert reads.count == n
            assert reply.pcm is not None and np.isfinite(reply.pcm).all()


def test_that_read_is_the_whole_frame(nano: Moshi, monkeypatch) -> None:
    """Encoder, language model and decoder wait in its graph, and nothing is left behind it."""

    def graphs(session: Session, frame: np.ndarray) -> list[int]:
        """Operations behind each evaluation of a step."""
        found, evaluate = [], mx.eval
        with monkeypatch.context() as patch:
            patch.setattr(mx, "eval", lambda *a: found.append(pending(*a)) or evaluate(*a))
            session.step(frame)
        return found

    frames, parts = noise(6), []

    def keep_parts(generator: LmGenerator, stream: CodecStream, user_q: int) -> FramePath:
        parts[:] = [generator, stream]
        return path_for(generator, stream, user_q)

    with Session(nano, seed=0, make_path=keep_parts) as session:
        for frame in frames[:5]:
            session.step(frame)
        together = graphs(session, frames[5])
        generator, stream = parts
        assert pending(stream.graph.arrays, generator.buffers.arrays()) == 0
    with Session(nano, seed=0, make_path=CodecBeside) as session:
        for frame in frames[:5]:
            session.step(frame)
        in_turn = graphs(session, frames[5])
    assert len(together) == 1 and len(in_turn) == 3 and min(in_turn) > 50
    assert abs(together[0] - sum(in_turn)) < 20  # what joins the parts


def pending(*trees: Any) -> int:
    """Operations that arrays still wait for."""
    return sum(kernels([a for a in leaves(trees) if isinstance(a, mx.array)]).values())


def test_a_second_read_would_be_seen(nano: Moshi, monkeypatch) -> None:
    """Each kind of read, put where it doesn't belong."""
    reads = Reads(monkeypatch)
    for read in (mx.eval, np.array, np.asarray, lambda a: a.item(), int, bool, float):
        before = reads.count
        read(mx.array(1.0) + 1)
        assert reads.count == before + 1
    there = mx.array(1.0) + 1
    mx.eval(there)
    before = reads.count
    assert np.array(there) == 2 and reads.count == before


def test_parts_in_turn_give_the_same_frames(nano: Moshi) -> None:
    """Bit for bit, with a frame held silent among them."""

    def talk(make_path: MakePath) -> list[Any]:
        with Session(nano, seed=5, make_path=make_path) as session:
            return [session.step(f, hold_silence=i == 8) for i, f in enumerate(noise(14))]

    for one, other in zip(talk(path_for), talk(CodecBeside), strict=True):
        assert (one.text, one.text_token) == (other.text, other.text_token)
        np.testing.assert_array_equal(one.codes, other.codes)
        np.testing.assert_array_equal(one.pcm, other.pcm)


@pytest.mark.skipif(not can_compile(), reason="nothing is traced where nothing can be compiled")
@pytest.mark.parametrize("name", ["tiny", pytest.param("nano", marks=pytest.mark.long)])
@pytest.mark.parametrize("settings", [{}, {"text_temperature": 0.5}, {"audio_top_k": 33}])
def test_warm_up_leaves_nothing_to_trace(tmp_path, name: str, settings: dict) -> None:
    """A conversation over more than two contexts builds no graph function anew."""
    moshi = tiny_moshi(tmp_path) if name == "tiny" else shared_nano()
    talk = MoshiEngine(moshi, name, "fp32").begin(Settings(seed=0, **settings))
    function = moshi.lm.functions.of(samplers(override(moshi.config.sampling, settings)))
    traced = function.traces
    assert traced > 0
    for frame in noise(2 * (moshi.config.transformer.context or 0) + 10):
        talk.step(frame)
    assert function.traces == traced
