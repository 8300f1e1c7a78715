"""Codecs where the time goes: the faster one is taken, the encoder runs ahead, a bad compiler."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import moshi_mlx
from app.machine.random_model import random_lm
from moshi_mlx.codec.choice import choose_codec
from moshi_mlx.codec.rust import RustCodec, rust_available
from moshi_mlx.config.reading import parse_config
from moshi_mlx.errors import MoshiError
from moshi_mlx.moshi import Moshi
from moshi_mlx.text.tokenizer import TextTokenizer
from tests.support.fakes.cpu_codec import SIXTEEN
from tests.support.models.bench_shapes import SMALL
from tests.support.models.loaded import nano as shared_nano
from tests.support.models.mimi_goldens import full_size_file, speech

FRAME = 1920
NANO = Path(moshi_mlx.__file__).parent / "nano"


class Clocked:
    """A codec whose frames take a known time on a clock of its own, the first `first_s` more."""

    num_codebooks, frame_samples, bins = 8, FRAME, 2048

    def __init__(self, clock: list[float], first_s: float, encode_s: float, decode_s: float):
        self.clock, self.first_s = clock, first_s
        self.encode_s, self.decode_s = encode_s, decode_s

    def stream(self) -> "Clocked":
        return self

    def encode(self, frame: np.ndarray) -> np.ndarray:
        self.clock[0] += self.encode_s + self.first_s
        self.first_s = 0.0
        return np.zeros(8, np.int32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        self.clock[0] += self.decode_s
        return np.zeros(FRAME, np.float32)


@pytest.mark.parametrize(
    ("mlx", "cpu", "want"),  # seconds: more for the first frame, encode, decode
    [
        ((0.9, 0.005, 0.004), (0.0, 0.03, 0.03), "mlx"),  # compiles, then is quick
        ((0.0, 0.009, 0.009), (0.9, 0.012, 0.012), "cpu"),  # decodes beside the model
        ((0.0, 0.02, 0.02), (0.0, 0.03, 0.03), "cpu"),
        ((0.5, 0.01, 0.01), (0.5, 0.03, 0.0), "mlx"),
        ((0.0, 0.09, 0.09), (0.0, 0.03, 0.03), "cpu"),
    ],
)
def test_the_codec_is_taken_by_which_a_talks_frame_is_shorter(mlx, cpu, want) -> None:
    clock = [0.0]
    codecs = {"mlx": Clocked(clock, *mlx), "cpu": Clocked(clock, *cpu)}
    assert choose_codec(codecs["mlx"], codecs["cpu"], lambda: clock[0]) is codecs[want]
    assert clock[0] < 1.0 + mlx[0] + cpu[0]


@pytest.fixture(scope="module")
def full_size():
    """rustymimi at full size and a small random language model for it."""
    if not rust_available():
        pytest.skip("rustymimi isn't installed here")
    lm = random_lm(parse_config(SMALL | SIXTEEN, "small"), "fp32")
    with full_size_file() as path:
        yield Moshi(lm, RustCodec(path, 8), TextTokenizer(NANO / "tokenizer.model"), path.parent)


def test_encoding_ahead_and_decoding_behind_change_nothing(full_size: Moshi) -> None:
    frames = speech(0.48).reshape(-1, FRAME)

    def talk(ahead: bool, behind: bool) -> list:
        out = []
        with full_size.session(seed=1) as session:
            assert session.encodes_ahead and session.decodes_behind
            step = session.step_early if behind else session.step
            for i, frame in enumerate(frames):
                known = ahead and i % 5 != 3 and i + 1 < len(frames)  # now and then none is there
                out.append(step(frame, following=frames[i + 1] if known else None))
        return out

    plain, ahead, both = talk(False, False), talk(True, False), talk(True, True)
    for one, other, third in zip(plain, ahead, both, strict=True):
        assert one.text_token == other.text_token == third.text_token
        np.testing.assert_array_equal(one.codes, other.codes)
        np.testing.assert_array_equal(one.codes, third.codes)
        np.testing.assert_array_equal(one.pcm, other.pcm)
        np.testing.assert_array_equal(one.pcm, third.sound.result())
    assert not [t for t in threading.enumerate() if t.name.startswith(("moshi-en", "moshi-de"))]


def test_another_frame_than_announced_is_refused(full_size: Moshi) -> None:
    a, b, c = speech(2).reshape(-1, FRAME)[:3]
    with full_size.session(seed=1) as session:
        session.step(a, following=b)
        with pytest.raises(MoshiError, match="announced"):
            session.step(c)
        session.step(c)  # and the talk goes on


def test_a_codec_in_mlx_has_no_use_for_the_following_frame() -> None:
    nano = shared_nano()
    with nano.session(seed=1) as session:
        assert not session.encodes_ahead
        session.step(np.zeros(FRAME, np.float32), following=np.ones(FRAME, np.float32))
        session.step(np.zeros(FRAME, np.float32))


SPEAK = """
import numpy as np, moshi_mlx
from moshi_mlx.backend.compiler import can_compile
with moshi_mlx.load("nano", codec="mlx").session(seed=0) as session:
    print(can_compile(), [session.step(np.zeros(1920, np.float32)).text_token for _ in range(4)])
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac runs on Metal, without g++")
@pytest.mark.parametrize("compiler", ["none", "broken"])
def test_without_a_compiler_that_works_nothing_is_compiled(tmp_path: Path, compiler: str) -> None:
    """MLX asks for `g++ --version` alone, and a compiler that then fails ends the frame."""
    folder = tmp_path / "bin"
    folder.mkdir()
    if compiler == "broken":
        fake = folder / "g++"
        fake.write_text('#!/bin/sh\ncase "$1" in --version) exit 0;; esac\nexit 1\n')
        fake.chmod(0o755)
    env = {**os.environ, "PATH": f"{folder}:/bin" if compiler == "broken" else str(folder)}
    env["TMPDIR"] = str(tmp_path)  # where MLX keeps what was compiled before
    run = subprocess.run(
        [sys.executable, "-c", SPEAK], env=env, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("False [")
