"""Mimi in MLX against PyTorch run offline: whole files, frame by frame, past the window."""

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.errors import ConfigError, MoshiError, WeightsError
from moshi_mlx.mimi import MimiConfig
from tests.support.models.mimi_goldens import ALL, TINY, frames_of, golden, snr_db, tiny

EQUAL_CODES = 0.995
DECODE_DB = 80.0


def test_the_goldens_go_far_past_the_window() -> None:
    config = tiny().config
    positions = golden()["codes"].shape[1] * config.frame_positions
    assert positions >= 4 * config.transformer.context


def test_codes_of_a_whole_file_equal_pytorchs() -> None:
    codes = tiny().encode(golden()["pcm"])
    assert codes.dtype == np.int32 and codes.shape == golden()["codes"].shape
    assert np.mean(codes == golden()["codes"]) >= EQUAL_CODES


def test_codes_frame_by_frame_equal_pytorchs_whole_file() -> None:
    stream = tiny().stream()
    codes = [stream.encode(frame) for frame in frames_of(tiny(), golden()["pcm"])]
    assert codes[0].dtype == np.int32 and codes[0].shape == (ALL,)
    assert np.mean(np.stack(codes, axis=1) == golden()["codes"]) >= EQUAL_CODES


def test_sound_of_a_whole_file_and_of_frames_equals_pytorchs() -> None:
    codes, want = golden()["codes"], golden()["decoded"]
    whole = tiny().decode(codes)
    assert whole.dtype == np.float32 and whole.shape == want.shape
    assert snr_db(whole, want) >= DECODE_DB
    stream = tiny().stream()
    assert snr_db(np.concatenate([stream.decode(c) for c in codes.T]), want) >= DECODE_DB


def test_fewer_codebooks_equal_pytorchs_with_as_many() -> None:
    few = golden()["codes_few"]
    mimi = tiny(len(few))
    assert np.mean(mimi.encode(golden()["pcm"]) == few) >= EQUAL_CODES
    for decoder in (mimi, tiny()):  # loaded with as many, or given fewer than loaded
        assert snr_db(decoder.decode(few), golden()["decoded_few"]) >= DECODE_DB


@pytest.mark.parametrize("num_codebooks", range(1, ALL + 1))
def test_any_number_of_codebooks_is_the_start_of_all(num_codebooks: int) -> None:
    pcm = golden()["pcm"][:9600]
    np.testing.assert_array_equal(
        tiny(num_codebooks).encode(pcm), tiny().encode(pcm)[:num_codebooks]
    )


def test_an_odd_length_is_padded_to_a_frame() -> None:
    odd = int(golden()["odd"][0])
    assert odd % tiny().frame_samples
    codes = tiny().encode(golden()["pcm"][:odd])
    assert codes.shape == golden()["codes_odd"].shape
    assert np.mean(codes == golden()["codes_odd"]) >= EQUAL_CODES


def test_nothing_in_nothing_out() -> None:
    assert tiny().encode(np.zeros(0, np.float32)).shape == (ALL, 0)
    assert tiny().decode(np.zeros((ALL, 0), np.int32)).shape == (0,)


def test_two_streams_in_turn_equal_each_alone() -> None:
    first, second = golden()["pcm"], golden()["pcm"][::-1].copy()
    a, b = tiny().stream(), tiny().stream()
    pairs = zip(frames_of(tiny(), first), frames_of(tiny(), second), strict=True)
    codes = np.stack([(a.encode(x), b.encode(y)) for x, y in pairs])
    np.testing.assert_array_equal(codes[:, 0].T, tiny().encode(first))
    np.testing.assert_array_equal(codes[:, 1].T, tiny().encode(second))


def test_a_bad_sample_spoils_its_own_frame_only() -> None:
    """The window past, codes are again what they would be had the frame been silent there."""
    pcm = golden()["pcm"][: 12 * 1920].copy()
    pcm[2 * 1920 + 5] = 0.0
    silent = tiny().encode(pcm)
    pcm[2 * 1920 + 5] = np.nan
    stream = tiny().stream()
    codes = np.stack([stream.encode(frame) for frame in frames_of(tiny(), pcm)], axis=1)
    np.testing.assert_array_equal(codes, silent)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.encode(np.zeros((2, 1920), np.float32)), "one channel"),
        (lambda m: m.encode(np.zeros(1920, np.int16)), "divide int16 by 32768"),
        (lambda m: m.encode(np.full(1920, np.nan, np.float32)), "finite"),
        (lambda m: m.decode(np.zeros((ALL, 2), np.float32)), "codes must be integers"),
        (lambda m: m.decode(np.zeros((ALL + 1, 2), np.int32)), "7 codebooks given"),
        (lambda m: m.decode(np.full((ALL, 2), 32, np.int32)), "must be from 0 to 31"),
        (lambda m: m.decode(np.full((ALL, 2), -1, np.int32)), "must be from 0 to 31"),
        (lambda m: m.stream().encode(np.zeros(1919, np.float32)), "a frame has 1920 samples"),
        (lambda m: m.stream().decode(np.zeros(0, np.int32)), "0 codebooks given"),
    ],
)
def test_bad_input_is_one_line(call, message: str) -> None:
    with pytest.raises(MoshiError, match=message) as caught:
        call(tiny())
    assert "\n" not in str(caught.value)


def test_loading_says_what_does_not_fit(tmp_path) -> None:
    with pytest.raises(MoshiError, match="num_codebooks is 7; this Mimi has 1 to 6"):
        moshi_mlx.load_mimi(TINY, num_codebooks=7)
    with pytest.raises(MoshiError, match="no codec 'rusty'"):
        moshi_mlx.load_mimi(TINY, num_codebooks=4, backend="rusty")
    with pytest.raises(MoshiError, match="rustymimi can only load a Mimi of Kyutai's sizes"):
        moshi_mlx.load_mimi(TINY, num_codebooks=4, backend="rust")
    with pytest.raises(WeightsError, match="where the config asks for"):
        moshi_mlx.load_mimi(TINY, MimiConfig())
    with pytest.raises(WeightsError, match="no weights at"):
        moshi_mlx.load_mimi(tmp_path / "none.safetensors", MimiConfig())
    (tmp_path / "mimi_config.json").write_text('{"sample_rat": 24000}')
    with pytest.raises(ConfigError, match="did you mean 'sample_rate'"):
        moshi_mlx.load_mimi(tmp_path / "none.safetensors")


def test_auto_takes_mlx_where_the_sizes_are_not_kyutais() -> None:
    mimi = moshi_mlx.load_mimi(TINY, num_codebooks=4, backend="auto")
    assert type(mimi) is type(tiny())
