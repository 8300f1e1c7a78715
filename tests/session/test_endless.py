"""Conversations without an end: no limit, flat memory, sessions that don't touch each other.

The short forms run always, the long ones (20,000 frames are 27 minutes of talk) with
`make test-long`. rustymimi is made to die after 200 s instead of 327, so that its swaps are met.
"""

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.codec.rust import OVERLAP_FRAMES, RustCodec, rust_available
from moshi_mlx.errors import MoshiError
from moshi_mlx.moshi import Moshi, Reply
from tests.support.models.lm_goldens import GREEDY, golden, model
from tests.support.models.mimi_goldens import TINY, full_size_file, snr_db, speech
from tests.support.models.tiny_moshi import tiny_moshi
from tests.support.process_memory import resident_bytes

FRAME = 1920
WOBBLE_BYTES = 50_000  # what a step holds while it runs; an array a frame would be far more


@pytest.fixture(scope="module")
def moshi(tmp_path_factory) -> Moshi:
    return tiny_moshi(tmp_path_factory.mktemp("mimi"))


def sound(frames: int, seed: int = 0) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    for _ in range(frames):
        yield rng.normal(0, rng.uniform(0.01, 0.3), FRAME).astype(np.float32)


def talk(moshi: Moshi, frames: int, marks: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """A session of `frames`; MLX's and the process's memory when each of `marks` is reached."""
    device, process = [], []
    with moshi.session(seed=0) as session:
        for i, frame in enumerate(sound(frames), start=1):
            reply = session.step(frame)
            if i in marks:
                assert reply.pcm is not None and np.isfinite(reply.pcm).all()
                gc.collect()
                device.append(mx.get_active_memory())
                process.append(resident_bytes() or 0)
        assert session.frames == frames
    return device, process


def test_memory_is_flat_once_the_context_is_full(moshi: Moshi) -> None:
    """Rings are allocated once, and nothing keeps a frame's arrays."""
    device, _ = talk(moshi, 110, (20, 65, 110))
    assert max(device) - min(device) < 30_000  # a third of a kB a frame


@pytest.mark.long
def test_twenty_thousand_frames_with_mimi_in_mlx(moshi: Moshi) -> None:
    device, process = talk(moshi, 20_000, (1000, 10_000, 20_000))
    assert max(device) - min(device) < WOBBLE_BYTES
    assert process[2] - process[0] < 30e6  # the interpreter's own ups and downs


@pytest.mark.long
def test_ten_thousand_frames_of_the_embedded_model() -> None:
    nano = moshi_mlx.load("nano", codec="mlx")
    device, process = talk(nano, 10_000, (1000, 5000, 10_000))
    assert max(device) - min(device) < WOBBLE_BYTES
    assert process[2] - process[0] < 30e6


@pytest.mark.parametrize("frames", [160, pytest.param(1500, marks=pytest.mark.long)])
def test_a_position_far_along_is_like_any_other(frames: int) -> None:
    """After many frames what is said depends on the last 2 x context alone, and exactly so."""
    lm = model("lm_moshi")
    rng = np.random.default_rng(0)
    user = rng.integers(0, lm.config.card, (frames, lm.config.user_q))
    generator = lm.generator(**GREEDY)
    steps = [generator.step(codes) for codes in user]
    reach = 2 * lm.config.transformer.context + lm.config.max_delay  # two layers deep
    first = frames - 3 * reach
    codes = np.stack(
        [
            np.concatenate([[step.text_token], own, heard])
            for step, own, heard in zip(
                steps[first:-1], realigned(steps, lm)[first:], user[first + 1 :], strict=True
            )
        ],
        axis=-1,
    )[None]
    text, _ = lm.forward(codes)
    said = [step.text_token for step in steps[first:-1]]
    kept = slice(reach, None)
    np.testing.assert_array_equal(np.argmax(np.array(text)[0], -1)[kept], said[kept])


def realigned(steps: list, lm) -> np.ndarray:
    """Own codes [T - 1, dep_q] by the frame that they belong to, -1 where not yet sampled."""
    own = np.full((len(steps) - 1, lm.config.dep_q), -1)
    for s, step in enumerate(steps):
        for k, code in enumerate(step.sampled):
            if 0 <= (t := s - lm.config.delays[1 + k]) < len(own):
                own[t, k] = code
    return own


def test_two_sessions_in_turn_equal_each_alone(moshi: Moshi) -> None:
    def alone(seed: int) -> list[Reply]:
        with moshi.session(seed=seed) as session:
            return [session.step(frame) for frame in sound(16, seed)]

    want = [alone(1), alone(2)]
    with moshi.session(seed=1) as one, moshi.session(seed=2) as two:
        pairs = zip(sound(16, 1), sound(16, 2), strict=True)
        both = [(one.step(a), two.step(b)) for a, b in pairs]
    for ours, theirs in zip(zip(*both, strict=True), want, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert (a.text, a.text_token) == (b.text, b.text_token)
            np.testing.assert_array_equal(a.codes, b.codes)
            np.testing.assert_array_equal(a.pcm, b.pcm)


def test_a_new_session_starts_clean(moshi: Moshi) -> None:
    def said() -> list[int]:
        with moshi.session(seed=3) as session:
            return [session.step(frame).text_token for frame in sound(12)]

    first = said()
    with moshi.session(seed=9) as other:
        for frame in sound(14, seed=4):
            other.step(frame)
    assert said() == first


def test_the_goldens_conversation_goes_on_from_any_session(moshi: Moshi) -> None:
    """A model that has talked is the model that PyTorch knows."""
    generator = moshi.lm.generator(**GREEDY)
    text = [generator.step(codes).text_token for codes in golden("lm_moshi")["user_codes"].T]
    assert text == golden("lm_moshi")["gen.text_tokens"].tolist()


needs_rust = pytest.mark.skipif(not rust_available(), reason="rustymimi isn't installed here")


@pytest.mark.long
@needs_rust
def test_rustymimis_swaps_cannot_be_heard() -> None:
    """400 s of talk, an instance's life of 200 s: decoders swap at 200, 300 and 400 s."""
    life, swaps = 2500, (2500, 3750, 5000)
    pcm = np.tile(speech(10), 21)[: (life + 25) * FRAME].reshape(-1, FRAME)
    with full_size_file() as path, ThreadPoolExecutor(1) as other_core:
        swapping = RustCodec(path, 8, life, OVERLAP_FRAMES).stream()
        alone = RustCodec(path, 8, 6000, OVERLAP_FRAMES).stream()

        def both(method: str, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            want = other_core.submit(lambda: np.stack([*map(getattr(alone, method), frames)]))
            return np.stack([*map(getattr(swapping, method), frames)]), want.result()

        codes, want = both("encode", pcm)
        assert np.mean(codes == want) >= 0.995
        assert np.mean(codes[life:] == want[life:]) >= 0.995
        said, want = both("decode", np.resize(codes, (swaps[-1] + 15, 8)))
    for swap in swaps:
        near = slice(swap - 1, swap + 12)  # one frame before, a second after
        assert snr_db(said[near], want[near]) >= 40


@needs_rust
@pytest.mark.parametrize(("life", "overlap"), [(100, 51), (100, 0), (1, 1)])
def test_rustymimi_needs_a_life_of_twice_the_overlap(life: int, overlap: int) -> None:
    """Or else the spare of the spare would be needed before it is there."""
    with pytest.raises(MoshiError, match="half of frames_max"):
        RustCodec(TINY, 8, life, overlap)
