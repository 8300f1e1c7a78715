"""Recordings as people have them: every format, pipes, damaged samples, headers that lie."""

import io
import os
import shutil
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

import moshi_mlx
from moshi_mlx.audio.file import read_mono
from moshi_mlx.audio.system_decoder import FFMPEG
from moshi_mlx.errors import AudioError

HOSTILE = Path(__file__).parents[1] / "golden" / "hostile" / "audio"
QUESTION = Path(moshi_mlx.__file__).parent / "nano" / "samples" / "who_made_you.wav"
RATE = 24_000
SPEECH = soundfile.read(QUESTION, dtype="float32")[0]


def told(source, **options) -> tuple[np.ndarray, list[str]]:
    notes: list[str] = []
    return read_mono(source, notes.append, **options), notes


def refused(source, message: str, **options) -> None:
    with pytest.raises(AudioError, match=message) as caught:
        read_mono(source, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind", "subtype"),
    [
        ("a.aiff", "AIFF", "PCM_16"),
        ("a.caf", "CAF", "PCM_24"),
        ("a.au", "AU", "PCM_16"),
        ("a.w64", "W64", "FLOAT"),
        ("a.rf64", "RF64", "PCM_16"),
        ("a.flac", "FLAC", "PCM_16"),
        ("misnamed.raw", "WAV", "PCM_16"),
        ("no ending", "WAV", "DOUBLE"),
    ],
)
def test_formats_are_told_by_what_is_in_them(tmp_path, name, kind, subtype):
    soundfile.write(tmp_path / name, SPEECH, RATE, format=kind, subtype=subtype)
    heard, notes = told(tmp_path / name)
    np.testing.assert_allclose(heard, SPEECH, atol=1e-4)
    assert notes == []


@pytest.mark.parametrize(("name", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)])
def test_compressed_formats(tmp_path, name, subtype):
    soundfile.write(tmp_path / "a", SPEECH, RATE, format=name, subtype=subtype)
    heard, _ = told(tmp_path / "a")
    assert abs(len(heard) - len(SPEECH)) < RATE / 10 and 0.2 < np.abs(heard).max() < 1


def test_samples_that_are_no_numbers_are_silence_and_told():
    heard, (note,) = told(HOSTILE / "naninf.wav")
    assert "110 samples are no numbers" in note and "the first at 0.04 s" in note
    raw, _ = soundfile.read(HOSTILE / "naninf.wav", dtype="float32")
    np.testing.assert_array_equal(heard, np.where(np.isfinite(raw), raw, 0))


def test_sound_in_the_range_of_integers_is_brought_to_one():
    heard, (note,) = told(HOSTILE / "loud.wav")
    assert "divided by 32768" in note
    raw, _ = soundfile.read(HOSTILE / "loud.wav", dtype="float32")
    np.testing.assert_allclose(heard, raw / 32768, rtol=1e-6)


def test_one_huge_sample_doesn_t_make_the_rest_silent(tmp_path):
    spoilt = SPEECH.copy()
    spoilt[7] = 3e38
    soundfile.write(tmp_path / "a.wav", spoilt, RATE, subtype="FLOAT")
    heard, (note,) = told(tmp_path / "a.wav")
    assert "beyond full scale" in note and heard[7] == 1
    np.testing.assert_array_equal(heard[8:], SPEECH[8:])


@pytest.mark.parametrize("scale", [2.0**7, 33_500, 40_000, 2.0**23, 2.0**31, 4e9, 1e20, 5, 12, 20])
@pytest.mark.parametrize("offset", [0, 1])
def test_sound_of_any_size_is_as_loud_as_sound(tmp_path, scale, offset):
    """Filtered in the range of integers, without a sign, or scaled by chance; a click in it."""
    spoilt = (SPEECH / np.abs(SPEECH).max() + offset) * scale
    spoilt[7] *= 1 if offset else 1000
    soundfile.write(tmp_path / "a.wav", spoilt, RATE, subtype="DOUBLE")
    heard, notes = told(tmp_path / "a.wav")
    assert len(notes) == 1 + offset and "divided by" in notes[-1]
    assert np.corrcoef(heard[8:], SPEECH[8:])[0, 1] > 0.999 and 0.1 < np.abs(heard).max() <= 1


def test_a_constant_below_the_sound_is_taken_out(tmp_path):
    soundfile.write(tmp_path / "a.wav", SPEECH + 0.4, RATE, subtype="FLOAT")
    heard, (note,) = told(tmp_path / "a.wav")
    assert "lie around 0.4 in place of 0: centred" in note
    np.testing.assert_allclose(heard, SPEECH, atol=1e-4)
    soundfile.write(tmp_path / "a.wav", np.full(9, 0.4), RATE, subtype="FLOAT")
    assert told(tmp_path / "a.wav")[1] == []


@pytest.mark.parametrize("case", ["a constant beside", "for a while", "under noise", "in part"])
def test_channels_that_cancel_are_noticed_behind_what_is_left(tmp_path, case):
    left, right = SPEECH.copy(), -SPEECH
    if case == "a constant beside":
        left, right = left + 0.03, right + 0.03
    elif case == "for a while":
        right[: len(right) // 2] *= -1
    elif case == "under noise":
        noise = np.random.default_rng(0).normal(0, SPEECH.std() / 2, len(SPEECH))
        left, right = left + noise, right + noise
    else:
        right = right / 2
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    heard, (note,) = told(tmp_path / "a.wav")
    taken = right if "cancel each other out: channel 2 alone" in note else left
    assert "cancel each other out" in note
    np.testing.assert_array_equal(heard, taken.astype(np.float32))


def test_channels_that_cancel_each_other_out_are_heard(tmp_path):
    heard, (note,) = told(HOSTILE / "antiphase.wav")
    assert "channels cancel each other out: channel 1 alone" in note
    raw, _ = soundfile.read(HOSTILE / "antiphase.wav", dtype="float32")
    np.testing.assert_array_equal(heard, raw[:, 0])
    eight = np.zeros((len(SPEECH), 8), np.float32)
    eight[:, 5] = SPEECH
    soundfile.write(tmp_path / "a.wav", eight, RATE, subtype="FLOAT")
    heard, (note,) = told(tmp_path / "a.wav")
    assert "channel 6 alone" in note
    np.testing.assert_array_equal(heard, SPEECH)


@pytest.mark.parametrize("sides", [(1, 1), (1, 0), (1, 0.5)])
def test_ordinary_stereo_is_averaged_without_a_word(tmp_path, sides):
    both = np.stack([SPEECH * side for side in sides], axis=1)
    soundfile.write(tmp_path / "a.wav", both, RATE, subtype="FLOAT")
    heard, notes = told(tmp_path / "a.wav")
    assert notes == []
    np.testing.assert_allclose(heard, SPEECH * np.mean(sides), atol=1e-6)


@pytest.mark.parametrize("rate", [1, 999, 1_000_000, 2_000_000_000])
def test_a_rate_that_cannot_be_is_refused(tmp_path, rate):
    data = bytearray((HOSTILE / "rate_2e9.wav").read_bytes())
    data[24:28] = struct.pack("<I", rate)
    (tmp_path / "a.wav").write_bytes(data)
    refused(tmp_path / "a.wav", f"claims a rate of {rate} Hz")


def test_a_length_that_is_not_there_is_refused(tmp_path):
    refused(HOSTILE / "flac_claims.flac", "can't be read as sound")
    (tmp_path / "noise.raw").write_bytes(bytes(range(256)) * 40)
    refused(tmp_path / "noise.raw", "can't be read as sound .*give a recording in wav, flac")


def test_names_that_hold_no_sound(tmp_path):
    soundfile.write(tmp_path / "short.wav", SPEECH[:1], 768_000)
    refused(tmp_path / "short.wav", "shorter than a sample")
    refused("x" * 5000, "File name too long")
    for device in ("/dev/null", "/dev/zero"):
        refused(device, f"{device} is a device, no recording")
    refused(io.BytesIO(b"words"), "the open file can't be read as sound")


def test_a_pipe_and_stdin(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(QUESTION.read_bytes()))
    writer.start()
    np.testing.assert_array_equal(read_mono(pipe), SPEECH)
    writer.join(60)
    np.testing.assert_array_equal(read_mono(io.BytesIO(QUESTION.read_bytes())), SPEECH)
    code = "from moshi_mlx.audio.file import read_mono; print(len(read_mono('-')))"
    for given, said in ((QUESTION.read_bytes(), f"{len(SPEECH)}\n"), (b"", "")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            **{"input": given, "capture_output": True, "cwd": Path(__file__).parents[2]},
        )
        assert done.stdout.decode() == said
    assert "nothing came from stdin" in done.stderr.decode()


@pytest.mark.parametrize("name", ["q.m4a", "aac_named.wav"])
def test_what_a_mac_records_is_decoded_by_the_system(name, tmp_path):
    """By a stand-in for afconvert, which gets the two names behind its options."""
    stand_in = tmp_path / "stand-in"
    stand_in.write_text(f'#!/bin/sh\n[ "$1" = -x ] && [ -f "$2" ] && cp "{QUESTION}" "$3"\n')
    stand_in.chmod(0o700)
    heard, notes = told(HOSTILE / name, decoders={"none-of-it": (), str(stand_in): ("-x",)})
    np.testing.assert_array_equal(heard, SPEECH)
    assert notes == []
    refused(HOSTILE / name, "is MPEG-4 .*install ffmpeg, or convert", decoders={"none-of-it": ()})
    refused(HOSTILE / name, "can't decode it", decoders={"false": ()})


def test_a_damaged_sample_dump_writes_nothing_to_stdout(tmp_path, capfd):
    soundfile.write(tmp_path / "a.sds", SPEECH[:3000], RATE, format="SDS", subtype="PCM_16")
    data = (tmp_path / "a.sds").read_bytes()
    (tmp_path / "a.sds").write_bytes(data[:400] + data[403:])
    refused(tmp_path / "a.sds", "is MIDI sample dump, which needs a decoder", decoders={})
    assert capfd.readouterr().out == ""


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_ffmpeg_decodes_m4a():
    recorded = HOSTILE / "q.m4a"
    heard, _ = told(recorded, decoders={"ffmpeg": FFMPEG})
    assert len(heard) == 30_720 and 0.7 < np.abs(heard).max() < 0.9
    piped, _ = told(io.BytesIO(recorded.read_bytes()), decoders={"ffmpeg": FFMPEG})
    np.testing.assert_array_equal(piped, heard)
