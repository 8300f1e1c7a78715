"""The names and details that programs outside the repository are written against."""

import inspect
import json
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import sentencepiece

import moshi_mlx
from moshi_mlx.codec.interface import Codec
from moshi_mlx.config.lm_config import SamplingConfig
from moshi_mlx.errors import ConfigError, MoshiError
from moshi_mlx.mimi import MimiConfig
from moshi_mlx.moshi import Reply
from tests.support.models.lm_goldens import GREEDY, golden, model
from tests.support.models.loaded import nano as shared_nano
from tests.support.models.mimi_goldens import TINY
from tools.goldens.mimi_weights import random_mimi, save

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


@pytest.fixture(scope="module")
def nano() -> moshi_mlx.Moshi:
    return shared_nano()


def test_signatures() -> None:
    assert [*inspect.signature(moshi_mlx.load).parameters][:3] == [
        *("name_or_folder", "codec", "dtype")
    ]
    assert inspect.signature(moshi_mlx.load).parameters["codec"].default == "auto"
    assert inspect.signature(moshi_mlx.load_lm).parameters["dtype"].default is None
    mimi = inspect.signature(moshi_mlx.load_mimi).parameters
    assert [*mimi][:4] == ["path", "config", "num_codebooks", "backend"]
    assert (mimi["config"].default, mimi["backend"].default) == (None, "mlx")


@pytest.mark.parametrize("dtype", INTEGERS)
def test_forward_takes_integers_of_any_width_from_numpy_and_mlx(dtype: str) -> None:
    lm, codes = model("lm_moshi"), golden("lm_moshi")["tf.codes"][..., :12].clip(0)
    want = lm.forward(codes)
    for given in (codes.astype(dtype), mx.array(codes.astype(np.int64)).astype(getattr(mx, dtype))):
        for ours, theirs in zip(lm.forward(given), want, strict=True):
            assert isinstance(ours, mx.array) and ours.dtype == mx.float32
            np.testing.assert_array_equal(np.array(ours), np.array(theirs))


def test_forward_gives_float32_also_from_half_precision() -> None:
    lm = moshi_mlx.load_lm(Path(__file__).parents[1] / "golden" / "lm_moshi")
    assert lm.dtype == mx.bfloat16  # dtype None: as stored
    text, audio = lm.forward(golden("lm_moshi")["tf.codes"][..., :3])
    assert text.dtype == audio.dtype == mx.float32
    assert (text.shape, audio.shape) == ((1, 3, 48), (1, 8, 3, 40))


def test_nan_stands_exactly_where_the_delays_leave_no_prediction() -> None:
    text, audio = model("lm_moshi").forward(golden("lm_moshi")["tf.codes"][..., :1])
    assert not np.isnan(np.array(text)).any()
    missing = np.isnan(np.array(audio)).all(axis=-1)[0, :, 0]
    np.testing.assert_array_equal(missing, [False] + [True] * 7)


def test_without_a_depth_transformer_there_is_no_audio() -> None:
    lm = model("lm_stt")
    text, audio = lm.forward(np.zeros((2, 5, 4), np.int64))
    assert audio is None and text.shape == (2, 4, 48)
    step = lm.generator(seed=0).step(np.zeros(4, np.int32))
    assert step.codes is None and step.sampled.shape == (0,)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint16"])
def test_a_step_takes_and_gives_plain_numpy(dtype: str) -> None:
    lm = model("lm_moshi")
    generator = lm.generator(seed=0, **GREEDY)
    for _ in range(lm.config.max_delay + 1):
        step = generator.step(np.zeros(lm.config.user_q, dtype))
    assert type(step.text_token) is int
    for codes in (step.sampled, step.codes):
        assert isinstance(codes, np.ndarray)
        assert codes.dtype == np.int32 and codes.shape == (8,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda lm: lm.forward(np.zeros((1, 16, 4), int)), r"must have the shape \[batch, 17, st"),
        (lambda lm: lm.forward(np.zeros((17, 4), int)), r"must have the shape \[batch, 17, st"),
        (lambda lm: lm.forward(np.zeros((1, 17, 4))), "codes must be integers, not float64"),
        (lambda lm: lm.forward(np.full((1, 17, 4), 99)), "codes must lie between -1 and"),
        (lambda lm: lm.forward(np.full((1, 17, 4), 2**40)), "codes must lie between -1 and"),
        (lambda lm: lm.generator().step(np.zeros(7, int)), r"must have the shape \[8\], not \[7\]"),
        (lambda lm: lm.generator().step(np.zeros(8)), "must be integers, not float64"),
        (lambda lm: lm.generator().step(np.full(8, 41)), "must lie between -1 and 40"),
        (lambda lm: lm.generator(seed=-1), "the seed must lie between 0 and"),
        (lambda lm: lm.generator(text_temp=1.0), "unknown option 'text_temp'; known: text_temp"),
        (lambda lm: lm.generator(text_temperature=-1.0), "text_temperature must be a number from"),
        (lambda lm: lm.generator(audio_temperature="hot"), "audio_temperature must be a number"),
        (lambda lm: lm.generator(audio_top_k=2.5), "audio_top_k must be a whole number"),
        (lambda lm: lm.generator(text_top_p=1.5), "text_top_p must lie between 0 and 1"),
        (lambda lm: lm.generator(conditions={"mood": "glad"}), "takes no conditions"),
    ],
)
def test_bad_input_is_one_line(call, message: str) -> None:
    with pytest.raises(MoshiError, match=message) as caught:
        call(model("lm_moshi"))
    assert "\n" not in str(caught.value)


def test_sessions(nano: moshi_mlx.Moshi) -> None:
    pcm = np.zeros(1920, np.float32)
    with nano.session(seed=5, text_temperature=0.5, audio_top_k=20) as session:
        assert session.seed == 5
        replies = [session.step(pcm) for _ in range(nano.config.max_delay + 2)]
    first = nano.config.max_delay
    assert all(r.pcm is None and r.codes is None for r in replies[:first])
    for reply in replies[first:]:
        assert reply.pcm is not None and reply.codes is not None
        assert reply.pcm.dtype == np.float32 and reply.pcm.shape == (1920,)
        assert reply.codes.dtype == np.int32 and reply.codes.shape == (nano.config.dep_q,)
        assert type(reply.text) is str and type(reply.text_token) is int
    with pytest.raises(MoshiError, match="this session is closed"):
        session.step(pcm)


def test_seeds(nano: moshi_mlx.Moshi) -> None:
    drawn = {nano.session().seed for _ in range(4)}
    assert len(drawn) == 4 and all(0 <= seed < 2**32 for seed in drawn)
    rng = np.random.default_rng(0)
    pcm = rng.uniform(-0.3, 0.3, (6, 1920)).astype(np.float32)

    def heard(seed: int | None) -> tuple[int, list]:
        with nano.session(seed=seed, audio_temperature=3.0) as session:  # at 0.7 it is sure
            return session.seed, [session.step(frame).codes for frame in pcm]

    seed, first = heard(None)
    _, again = heard(seed)
    _, other = heard((seed + 1) % 2**32)
    assert repr(first) == repr(again) != repr(other)


def test_the_first_frame_is_not_heard_and_the_encoder_starts_with_the_second(
    nano: moshi_mlx.Moshi,
) -> None:
    rng = np.random.default_rng(1)
    pcm = rng.uniform(-0.3, 0.3, (5, 1920)).astype(np.float32)

    unsure = {"seed": 0, "text_temperature": 3.0, "audio_temperature": 3.0}  # at 0.7 it is sure

    def said(frames: np.ndarray) -> list[Reply]:
        with nano.session(**unsure) as session:
            return [session.step(frame) for frame in frames]

    other = pcm.copy()
    other[0] = rng.uniform(-1, 1, 1920)
    for a, b in zip(said(pcm), said(other), strict=True):
        assert a.text_token == b.text_token
        np.testing.assert_array_equal(a.codes, b.codes)
    # By hand: codes of a stream that never heard frame 0.
    stream, generator = nano.codec.stream(), nano.lm.generator(**unsure)
    user = nano.config.user_q
    codes = [np.zeros(user, np.int32)] + [stream.encode(frame)[:user] for frame in pcm[1:]]
    steps, replies = [generator.step(c) for c in codes], said(pcm)
    assert [s.text_token for s in steps] == [reply.text_token for reply in replies]
    for step, reply in zip(steps, replies, strict=True):
        np.testing.assert_array_equal(step.codes, reply.codes)


@pytest.mark.parametrize(
    "frame",
    [np.zeros(1919, np.float32), np.zeros((1, 1920), np.float32), np.zeros(1920, np.int16)],
)
def test_a_frame_of_another_kind_is_one_line(nano: moshi_mlx.Moshi, frame: np.ndarray) -> None:
    with pytest.raises(MoshiError, match=r"a frame is float32 \[1920\] \(80 ms, mono, 24 kHz\)"):
        nano.session().step(frame)


def test_one_bad_sample_does_not_end_a_session(nano: moshi_mlx.Moshi) -> None:
    frame = np.zeros(1920, np.float32)
    with nano.session(seed=0) as session:
        for bad in (0.0, np.nan, np.inf, 0.0):
            frame[7] = bad
            reply = session.step(frame)
    assert reply.pcm is not None and np.isfinite(reply.pcm).all()


def test_text_is_what_the_pieces_say(nano: moshi_mlx.Moshi) -> None:
    path = Path(moshi_mlx.__file__).parent / "nano" / "tokenizer.model"
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))
    sentence = "What is your name? I am glad, and you"
    ids = pieces.encode(sentence)
    config = nano.config
    stream = nano.tokenizer.stream((config.text_padding_id, config.text_end_padding_id))
    said = [stream.push(token) for token in ids]
    assert "".join(said) == " " + sentence  # the leading space of the first word is kept
    for silent in (config.text_padding_id, config.text_end_padding_id, -1, config.text_card, 10**6):
        assert stream.push(silent) == ""


def test_codec_rust_with_another_mimi_is_one_line() -> None:
    with pytest.raises(MoshiError, match="rustymimi can only load a Mimi of Kyutai's sizes") as e:
        moshi_mlx.load("nano", codec="rust")
    assert "\n" not in str(e.value)
    with pytest.raises(MoshiError, match="no codec 'opus'"):
        moshi_mlx.load("nano", codec="opus")


def test_mimis_config_in_any_form(tmp_path: Path) -> None:
    raw = json.loads((TINY.parent / "mimi_config.json").read_text())
    alone = tmp_path / "mimi.safetensors"
    alone.write_bytes(TINY.read_bytes())
    codes = np.zeros((4, 2), np.int32)
    want = moshi_mlx.load_mimi(TINY, num_codebooks=4).decode(codes)
    for config in (MimiConfig.from_dict(raw), raw, TINY.parent / "mimi_config.json"):
        mimi: Codec = moshi_mlx.load_mimi(alone, config, num_codebooks=4, backend="mlx")
        np.testing.assert_array_equal(mimi.decode(codes), want)
    (tmp_path / "mimi_config.json").write_text(json.dumps(raw))  # None: the one beside the file
    np.testing.assert_array_equal(moshi_mlx.load_mimi(str(alone), None, 4).decode(codes), want)


def test_sampling_defaults_come_from_the_config() -> None:
    assert model("lm_moshi").generator().sampling == SamplingConfig(0.7, 25, 0.0, 0.8, 250, 0.0)
    mine = model("lm_moshi").generator(text_top_k=5, audio_temperature=None).sampling
    assert mine == SamplingConfig(text_top_k=5)


def test_names_of_the_package() -> None:
    assert {"load", "load_lm", "load_mimi", "load_helium", "MoshiError"} <= set(dir(moshi_mlx))
    for name in moshi_mlx.__all__:
        assert getattr(moshi_mlx, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        moshi_mlx.lod  # noqa: B018


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame_rate": 25}, "frames of 960 samples, Moshi needs 1920"),
        ({"bins": 64}, r"64 codes, the language model \d+ \(card\)"),
    ],
)
def test_a_mimi_of_another_model_is_refused_when_it_is_loaded(
    change: dict, message: str, tmp_path: Path
) -> None:
    nano = Path(moshi_mlx.__file__).parent / "nano"
    folder = tmp_path / "nano"
    shutil.copytree(nano, folder, ignore=shutil.ignore_patterns("samples"))
    config = json.loads((folder / "mimi_config.json").read_text())
    quantizer = config["quantizer"] | {k: v for k, v in change.items() if k == "bins"}
    config |= {"quantizer": quantizer} | {k: v for k, v in change.items() if k != "bins"}
    (folder / "mimi_config.json").write_text(json.dumps(config))
    save(folder / "mimi.safetensors", random_mimi(config))
    with pytest.raises(ConfigError, match=message):
        moshi_mlx.load(folder)
