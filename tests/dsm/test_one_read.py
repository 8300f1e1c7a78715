"""What a frame of listening, speaking and translating waits for: one read, codec and all."""

from typing import Any

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.stt import Prompt
from moshi_mlx.tts import Speaker
from tests.support.device_reads import Reads
from tests.support.fakes.heard_words import GOLDEN as LISTENING
from tests.support.models.small_speaker import GOLDEN, with_codec

FRAME = 1920
GREEDY: Any = {"text_temperature": 0.0, "audio_temperature": 0.0}


def noise(frames: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (0.05 * rng.standard_normal(frames * FRAME)).astype(np.float32)


@pytest.mark.parametrize("prompt", [None, Prompt("a", noise(2))], ids=["plain", "prompted"])
def test_listening(monkeypatch, prompt: Prompt | None) -> None:
    """As sound comes, and many frames at once."""
    stream = moshi_mlx.load_stt(LISTENING, dtype="float32").stream(prompt)
    stream.push(noise(3))  # with what is heard before it
    reads = Reads(monkeypatch)
    for n in range(1, 6):
        stream.push(noise(1))
        assert reads.count == n
    stream.push(noise(7))
    assert reads.count == 12
    assert np.isfinite(stream.pauses).all()


@pytest.fixture(scope="module")
def speakers(tmp_path_factory) -> dict[str, Speaker]:
    """Guidance distilled into it, and guided by a second row."""
    folder = tmp_path_factory.mktemp("speakers")
    return {
        name: moshi_mlx.load_tts(with_codec(folder / name, name), dtype="float32")
        for name in ("dsm_tts", "dsm_tts_cfg", "dsm_tts_prefix")
    }


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dsm_tts", {"cfg_coef": 2.0}),
        ("dsm_tts", {"n_q": 3}),
        ("dsm_tts_cfg", {"cfg_coef": 1.0}),
        ("dsm_tts_cfg", {"cfg_coef": 3.0}),
        ("dsm_tts_cfg", {"cfg_coef": 3.0, "cfg_is_no_text": False}),
        ("dsm_tts_prefix", {"cfg_coef": 1.0}),
        ("dsm_tts_prefix", {"cfg_coef": 3.0, "prefix": np.full((8, 5), 7)}),
    ],
)
def test_speaking(speakers, monkeypatch, name: str, options: dict[str, Any]) -> None:
    """Silent steps, steps with sound, those of a voice that is heard first; traced before."""
    speaker, text, sounding = speakers[name], "Hello, you.", 0
    speaker.speak(text, seed=0, **GREEDY, **options)
    stream = speaker.stream(seed=0, **GREEDY, **options)
    stream.say(text)
    stream.end()
    reads = Reads(monkeypatch)
    for n, pcm in enumerate(stream.frames(), 1):
        assert reads.count == n
        sounding += pcm is not None
    assert sounding > 5


TRANSLATORS = pytest.mark.parametrize(
    ("name", "coef"), [("dsm_hibiki", 1.0), ("dsm_hibiki", 3.0), ("dsm_hibiki_zero", None)]
)


@TRANSLATORS
def test_translating(tmp_path, monkeypatch, name: str, coef: float | None) -> None:
    """Sound to sound, a token of each call; what a beginning takes is the same for any length."""
    translator = moshi_mlx.load_translator(with_codec(tmp_path / name, name), dtype="float32")
    translator.translate(noise(9), coef, seed=0, **GREEDY)  # traced
    reads, found = Reads(monkeypatch), []
    for frames in (3, 9):
        before = reads.count
        made = translator.translate(noise(frames), coef, seed=0, **GREEDY)
        found.append((reads.count - before, len(made.tokens)))
    (some, few), (more, many) = found
    assert more - some == many - few != 0 and some - few < 6


@TRANSLATORS
def test_translating_codes(monkeypatch, name: str, coef: float | None) -> None:
    translator = moshi_mlx.load_translator(GOLDEN / name, dtype="float32")
    generator = translator.generator(coef, seed=0, **GREEDY)
    codes = np.zeros(translator.lm.config.user_q, np.int32)
    for _ in range(4):
        generator.step(codes)
    reads = Reads(monkeypatch)
    for n in range(1, 6):
        generator.step(codes)
        assert reads.count == n
