"""A snapshot goes on in a process that knows nothing of the talk but its file, with both codecs."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.clock import FRAME_SAMPLES
from moshi_mlx.codec.rust import RustCodec, rust_available
from moshi_mlx.moshi import Moshi, Session
from tests.support.fakes.cpu_codec import CpuCodec, moshi_with
from tests.support.models.mimi_goldens import full_size_file
from tests.support.models.tiny_moshi import tiny_moshi

ROOT = Path(__file__).parents[2]
CODE = "import sys; from tests.state.test_other_process import go_on; go_on(*sys.argv[1:])"
WAYS = {"text_temperature": 0.8, "audio_top_k": 20}  # drawn, not greedy: the seed goes on, too
WITH_RUST = pytest.mark.skipif(not rust_available(), reason="rustymimi isn't installed")


def talker(codec: str, folder: Path, mimi: str | Path) -> Moshi:
    """The same model in every process: the weights of the language model are drawn from a seed;
    mimi: the file of rustymimi's."""
    if codec == "mlx":
        folder.mkdir()
        return tiny_moshi(folder)
    small = moshi_with(CpuCodec())
    rust = RustCodec(mimi, num_codebooks=8)
    return Moshi(small.lm, rust, small.tokenizer, small.folder)


def sound(frames: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(-0.3, 0.3, (frames, FRAME_SAMPLES)).astype(np.float32)


def said(session: Session, pcm: np.ndarray) -> dict[str, np.ndarray]:
    """Tokens, codes and samples of frames whose sound is all there."""
    replies = [session.step(frame) for frame in pcm]
    return {
        "text": np.array([r.text_token for r in replies]),
        "codes": np.array([r.codes for r in replies]),
        "pcm": np.array([r.pcm for r in replies]),
    }


def go_on(codec: str, mimi: str, file: str, before: str, after: str, found: str) -> None:
    """The other process: `after` frames from the file on, written to `found`."""
    moshi = talker(codec, Path(found).parent / "there", mimi)
    with moshi.resume(file) as session:
        np.savez(found, **said(session, sound(int(before) + int(after))[int(before) :]))


def in_another_process(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def check(codec: str, before: int, after: int, folder: Path, going_on: Callable[..., None]) -> None:
    """going_on: `go_on`, with a model of its own, or the process that does so."""
    file, found = folder / "talk", folder / "found.npz"
    pcm = sound(before + after)
    with ExitStack() as stack:
        mimi = stack.enter_context(full_size_file()) if codec == "rust" else ""
        moshi = talker(codec, folder / "here", mimi)
        with moshi.session(seed=5, **WAYS) as session:
            for frame in pcm[:before]:
                session.step(frame)
            session.snapshot().save(file)
            want = said(session, pcm[before:])
        going_on(codec, str(mimi), str(file), str(before), str(after), str(found))
    with np.load(found) as other:
        for name, array in want.items():
            assert len(array) == after
            np.testing.assert_array_equal(other[name], array, err_msg=name)


def test_the_next_frames_are_those_of_the_talk_that_went_on(tmp_path) -> None:
    check("mlx", 25, 8, tmp_path, in_another_process)


@WITH_RUST
def test_rustymimi_hears_and_says_again_what_the_file_holds(tmp_path) -> None:
    """Another instance of it, with another model, in this process."""
    check("rust", 5, 3, tmp_path, go_on)


@pytest.mark.long
@pytest.mark.parametrize("codec", ["mlx", pytest.param("rust", marks=WITH_RUST)])
def test_a_hundred_after_five_hundred_too(codec, tmp_path) -> None:
    check(codec, 500, 100, tmp_path, in_another_process)
