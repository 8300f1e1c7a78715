"""Kyutai's messages, sound both ways, query parameters and rates, as plain objects."""

import struct
import time

import numpy as np
import pytest
import sphn
from hypothesis import given, settings
from hypothesis import strategies as st

from app.web import params, protocol
from app.web.limits import Bucket, InputLimit, Pacer
from app.web.protocol import Kind, OpusCodec, PcmCodec, ProtocolError

# what Kyutai's web client sends on every connection (hooks/useModelParams.ts)
KYUTAI_QUERY = {
    "text_temperature": "0.7",
    "text_topk": "25",
    "audio_temperature": "0.8",
    "audio_topk": "250",
    "pad_mult": "0",
    "text_seed": "123456",
    "audio_seed": "654321",
    "repetition_penalty_context": "64",
    "repetition_penalty": "1",
}


def tone(samples: int, hz: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(samples) / 24_000)).astype(np.float32)


def heard(codec: protocol.WireCodec, payload: bytes) -> np.ndarray:
    """What a visit does with a payload."""
    codec.measure(payload)
    return codec.decode(payload)


def test_handshake_is_nine_bytes_of_version_zero():
    assert protocol.handshake() == bytes(9)


def test_messages_start_with_their_type():
    assert protocol.text(" café")[0] == 2
    assert protocol.text(" café")[1:].decode() == " café"
    assert protocol.error("busy") == b"\x05busy"
    assert protocol.metadata({"a": 1})[0] == 4


def test_unknown_types_are_named_as_such_and_empty_or_huge_messages_refused():
    assert protocol.split(b"\x63abc") == (None, b"abc")
    assert protocol.split(b"\x06") == (Kind.PING, b"")
    with pytest.raises(ProtocolError, match="empty"):
        protocol.split(b"")
    with pytest.raises(ProtocolError, match="at most"):
        protocol.split(bytes(protocol.MAX_MESSAGE_BYTES + 1))


def test_opus_sound_arrives_at_a_client_that_uses_sphn():
    sent, reader, got = tone(20 * 1920), sphn.OpusStreamReader(24_000), []
    codec = OpusCodec()
    for frame in range(20):
        message = codec.encode(sent[frame * 1920 : (frame + 1) * 1920], frame, 0.0, 0.0)
        assert message[0] == Kind.AUDIO
        got.append(reader.append_bytes(message[1:]))
    heard = np.concatenate(got)
    assert len(heard) == len(sent)
    spectrum = np.abs(np.fft.rfft(heard[4800:28_800]))
    assert int(spectrum.argmax()) == 440  # one bin is 1 Hz over one second
    assert 0.15 < np.sqrt(np.mean(heard[4800:] ** 2)) < 0.3


@pytest.mark.parametrize("block", [480, 960, 1920])
def test_opus_sound_of_a_client_is_decoded_whatever_its_block_size(block):
    writer, codec = sphn.OpusStreamWriter(24_000), OpusCodec()
    sound = tone(24 * 1920)
    parts = [
        heard(codec, writer.append_pcm(sound[i : i + block])) for i in range(0, len(sound), block)
    ]
    assert sum(map(len, parts)) == len(sound)
    assert np.sqrt(np.mean(np.concatenate(parts)[4800:] ** 2)) > 0.15


def test_a_client_may_send_each_ogg_page_alone():
    """Kyutai's web client sends OpusHead and OpusTags as messages of their own."""
    writer, codec, sound = sphn.OpusStreamWriter(24_000), OpusCodec(), tone(10 * 1920)
    stream = b"".join(writer.append_pcm(sound[i : i + 960]) for i in range(0, len(sound), 960))
    pages = [b"OggS" + page for page in stream.split(b"OggS")[1:]]
    assert b"OpusHead" in pages[0] and b"OpusTags" in pages[1]
    parts = [heard(codec, page) for page in pages]
    assert len(parts[0]) == len(parts[1]) == 0
    assert sum(map(len, parts)) == len(sound)


def test_after_broken_audio_the_next_good_page_is_heard():
    writer, codec = sphn.OpusStreamWriter(24_000), OpusCodec()
    assert len(heard(codec, writer.append_pcm(tone(1920)))) == 1920
    page = bytearray(writer.append_pcm(tone(1920)))
    page[4] = 120  # Ogg version
    with pytest.raises(ProtocolError):
        heard(codec, bytes(page))
    cut = writer.append_pcm(tone(1920))[:-5]
    with pytest.raises(ProtocolError):
        heard(codec, cut)
    parts = [heard(codec, writer.append_pcm(tone(1920))) for _ in range(3)]
    assert sum(map(len, parts)) >= 2 * 1920


def test_a_small_message_cannot_unfold_into_minutes_of_sound():
    with pytest.raises(ProtocolError, match="s of sound in one message"):
        heard(OpusCodec(), ogg_page(bytes([1] * 255), bytes(255)))  # 255 packets of 10 ms


def ogg_page(lacing: bytes, body: bytes, serial: int = 42, continued: bool = False) -> bytes:
    head = struct.pack("<4sBBqIII", b"OggS", 0, continued, 0, serial, 2, 0)
    return head + bytes([len(lacing)]) + lacing + body


def test_a_packet_that_never_ends_is_given_up():
    endless, codec = ogg_page(b"\xff" * 255, bytes(255 * 255), continued=True), OpusCodec()
    codec.measure(endless)
    with pytest.raises(ProtocolError, match="an Opus packet of more than 65536 bytes"):
        codec.measure(endless)
    codec.measure(endless)  # what came before is forgotten


def test_one_talk_is_one_ogg_stream():
    """A decoder keeps something of every stream that it has seen."""
    codec = OpusCodec()
    codec.measure(ogg_page(b"\x01", b"\xff"))
    with pytest.raises(ProtocolError, match="a second Ogg stream"):
        codec.measure(ogg_page(b"\x01", b"\xff", serial=43))


@pytest.mark.parametrize("samples", [120, 240, 480, 960, 1920, 2880])
def test_the_length_of_opus_sound_is_told_without_decoding_it(samples):
    writer, codec = sphn.OpusStreamWriter(24_000), OpusCodec()
    for i in range(12):
        page = writer.append_pcm(tone(samples))
        told, got = codec.measure(page), len(codec.decode(page)) / 24_000
        assert abs(told - got) <= (0.3 if i == 0 else 1e-6), "a header counts as a packet or two"


def test_no_message_that_is_let_in_takes_long_to_decode():
    """CPU time, so that a busy machine says the same; the event loop stands still meanwhile."""
    writer, codec, pages = sphn.OpusStreamWriter(24_000), OpusCodec(), []
    noise = np.random.default_rng(0).standard_normal(24_000).astype(np.float32) / 4
    for i in range(0, 24_000, 60):
        pages.append(writer.append_pcm(noise[i : i + 60]))
    stream = b"".join(pages)
    codec.measure(stream)
    begun_s = time.thread_time()
    codec.decode(stream)
    assert time.thread_time() - begun_s < 0.05


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_break_the_codecs(payload):
    for codec in (OpusCodec(), PcmCodec()):
        for start in (b"", b"OggS\0"):
            try:
                assert heard(codec, start + payload).dtype == np.float32
            except ProtocolError as problem:
                assert "\n" not in str(problem)


def test_raw_sound_goes_both_ways_with_its_figures():
    sound = tone(1920)
    message = PcmCodec().encode(sound, 7, 1.5, 42.0)
    kind, payload = protocol.split(message)
    assert kind is Kind.PCM
    assert protocol.PCM_HEADER.unpack(payload[:12]) == (7, 1.5, 42.0)
    assert np.abs(heard(PcmCodec(), payload[12:]) - sound).max() < 1e-4
    loud = PcmCodec().encode(np.array([9.0, -9.0], np.float32), 0, 0, 0)
    assert np.frombuffer(loud[13:], "<i2").tolist() == [32767, -32767]
    for bad in (b"abc", bytes(2 * 24_001)):
        with pytest.raises(ProtocolError):
            heard(PcmCodec(), bad)


def test_kyutais_web_client_gets_what_it_asks_for():
    query = params.parse(KYUTAI_QUERY)
    assert query.sampling == {
        "text_temperature": 0.7,
        "text_top_k": 25,
        "audio_temperature": 0.8,
        "audio_top_k": 250,
    }
    assert query.codec == "opus"
    assert query.seed == params.parse(KYUTAI_QUERY).seed
    other = params.parse({**KYUTAI_QUERY, "audio_seed": "654322"})
    assert other.seed != query.seed


def test_nothing_asked_means_the_models_defaults_and_a_new_seed():
    query = params.parse({})
    assert (query.seed, query.sampling, query.takeover, query.record) == (None, {}, False, False)


@pytest.mark.parametrize(
    "query",
    [
        {"text_temperature": "hot"},
        {"text_temperature": "nan"},
        {"text_temperature": "-0.1"},
        {"audio_temperature": "inf"},
        {"audio_topk": "0"},
        {"audio_topk": "2.5"},
        {"text_top_k": "²"},
        {"text_topk": "9" * 400},
        {"seed": "-1"},
        {"seed": "1", "text_seed": "2"},
        {"pad_mult": "1"},
        {"repetition_penalty": "1.2"},
        {"codec": "mp3"},
        {"takeover": "yes"},
        {"temperature": "0.5"},
        {"<script>\n": "1"},
    ],
)
def test_what_cannot_be_honoured_is_refused_in_one_line(query):
    with pytest.raises(params.RefusedError) as refused:
        params.parse(query)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_bucket_allows_its_average_and_its_burst_only():
    bucket = Bucket(per_s=10, burst=5)
    assert [bucket.take(1, 100.0) for _ in range(6)] == [True] * 5 + [False]
    assert bucket.take(1, 100.11)
    assert not bucket.take(1, 100.11)


def test_a_talking_client_never_meets_the_limit_and_a_flood_does():
    limit = InputLimit()
    assert all(limit.allows(961, n / 50) for n in range(50 * 60))
    assert not all(limit.allows(100, 60.0) for _ in range(2000))


def test_pacer_lets_single_frames_through_at_once_and_spreads_bursts():
    pacer = Pacer()
    for n in range(100):
        assert pacer.wait_s(n * 0.08) == 0
        pacer.sent(n * 0.08)
    times, now = [], 100.0
    for _ in range(5):
        now += pacer.wait_s(now)
        pacer.sent(now)
        times.append(now)
    gaps = np.diff(times)
    assert (gaps > 0.07).all() and (gaps < 0.08).all()
