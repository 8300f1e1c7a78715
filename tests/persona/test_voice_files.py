"""The voices of a model: found in an archive or a folder, listed, and hostile archives refused."""

import gzip
import io
import json
import tarfile
import time

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.cli import main
from moshi_mlx.config.reading import parse_config
from moshi_mlx.errors import MoshiError, WeightsError
from moshi_mlx.persona import voice_files
from moshi_mlx.persona.torch_file import read_torch_file
from moshi_mlx.persona.voice import read_voice
from moshi_mlx.persona.voice_files import archived, find_voice, voices_in
from tests.support.chance import FEW, MAX_CPU_S
from tests.support.fakes.fake_hub import serving
from tests.support.models.talking_folder import PERSONA

VOICE = PERSONA / "personaplex" / "voice.pt"
OTHER = PERSONA / "personaplex" / "voice_bf16.pt"


def archive(path, members):
    """members: (name, bytes or a TarInfo's changes)."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, dict):
                for key, value in content.items():
                    setattr(info, key, value)
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def folder(tmp_path):
    """As NVIDIA's: a folder of voices in an archive."""
    members = [("voices", {"type": tarfile.DIRTYPE})]
    members += [(f"voices/{name}.pt", VOICE.read_bytes()) for name in ("NATM0", "NATF2")]
    archive(tmp_path / "voices.tgz", [*members, ("voices/README.txt", b"these are voices")])
    return tmp_path


def test_an_archives_voices_are_found_by_name(folder):
    voices = voices_in(folder)
    assert list(voices) == ["NATF2", "NATM0"]
    with find_voice("natf2", voices, "it").unpacked() as path:
        assert read_torch_file(path)["embeddings"].shape == (11, 1, 1, 32)
        kept = path
    assert not kept.exists()
    with pytest.raises(MoshiError, match=r"it has no voice NATF \(did you mean NATF2\?\); there"):
        find_voice("natf", voices, "it")
    with pytest.raises(MoshiError, match="it has no voices of its own"):
        find_voice("natf", {}, "it")


def test_files_win_over_the_archive_and_are_left_where_they_are(folder):
    (folder / "voices").mkdir()
    (folder / "voices" / "NATF2.pt").write_bytes(OTHER.read_bytes())
    (folder / "mine.pt").write_bytes(OTHER.read_bytes())
    voices = voices_in(folder)
    assert list(voices) == ["NATF2", "NATM0", "mine"]
    with voices["NATF2"].unpacked() as path:
        assert path == folder / "voices" / "NATF2.pt"
    assert path.exists()
    assert voices_in(folder / "voices" / "none") == {}


DATA = VOICE.read_bytes()


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([("../NATF2.pt", DATA)], "leads elsewhere"),
        ([("/tmp/NATF2.pt", DATA)], "leads elsewhere"),
        ([("voices/../../NATF2.pt", DATA)], "leads elsewhere"),
        ([("voices\\NATF2.pt", DATA)], "leads elsewhere"),
        ([("NATF2.pt", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"})], "is no plain file"),
        ([("NATF2.pt", {"type": tarfile.LNKTYPE, "linkname": "x"})], "is no plain file"),
        ([("NATF2.pt", {"type": tarfile.CHRTYPE})], "is no plain file"),
        ([("NATF2.pt", {"type": tarfile.FIFOTYPE})], "is no plain file"),
        ([("NATF2.pt", {"type": tarfile.GNUTYPE_SPARSE})], "is no plain file"),
        ([("NATF2.pt", DATA), ("voices/NATF2.pt", DATA)], "no name of a voice of its own"),
        ([("\x1b[31m.pt", DATA)], "no name of a voice of its own"),
        ([("x" * 70 + ".pt", DATA)], "no name of a voice of its own"),
        ([(f"{i}.pt", b"") for i in range(2001)], "more than 2000 members"),
    ],
)
def test_a_hostile_archive_is_one_line_and_leaves_nothing(tmp_path, members, why):
    inside = tmp_path / "inside"
    inside.mkdir()
    path = archive(inside / "voices.tgz", members)
    with pytest.raises(WeightsError, match=why) as caught:
        voices_in(inside)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
    assert [p.name for p in tmp_path.rglob("*")] == ["inside", path.name]


def test_an_archive_that_unpacks_to_gigabytes_is_refused_in_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(voice_files, "ARCHIVE_MAX_BYTES", 1 << 20)
    path = archive(tmp_path / "voices.tgz", [("NATF2.pt", bytes(2 << 20))])
    assert path.stat().st_size < 10_000
    with pytest.raises(WeightsError, match="unpacks to more than 1 MB"):
        archived(path)


def test_a_member_that_claims_more_than_there_is_is_refused(tmp_path):
    good = gzip.decompress(archive(tmp_path / "x.tgz", [("NATF2.pt", DATA)]).read_bytes())
    (tmp_path / "voices.tgz").write_bytes(gzip.compress(good[:1024]))
    with pytest.raises(WeightsError, match="is no archive of voices"):
        voices_in(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no gzip", gzip.compress(b"no tar" * 1000, mtime=0)])
def test_what_is_no_archive_is_one_line(tmp_path, content):
    (tmp_path / "voices.tgz").write_bytes(content)
    with pytest.raises(WeightsError, match="is no archive of voices"):
        voices_in(tmp_path)


@settings(FEW, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.integers(0, 3000),
    byte=st.integers(0, 255),
    length=st.integers(1, 40),
    inner=st.booleans(),
)
def test_random_damage_is_one_line_or_harmless(tmp_path_factory, at, byte, length, inner):
    base = tmp_path_factory.getbasetemp()
    data = archive(base / "x.tgz", [("NATF2.pt", DATA), ("NATM0.pt", DATA)]).read_bytes()
    damaged = bytearray(gzip.decompress(data) if inner else data)
    damaged[at : at + length] = bytes([byte]) * min(length, max(0, len(damaged) - at))
    path = base / "damaged.tgz"
    path.write_bytes(gzip.compress(bytes(damaged)) if inner else damaged)
    started_s = time.process_time()
    try:
        assert all(isinstance(voice.archived, bytes) for voice in archived(path).values())
    except WeightsError as error:
        assert "\n" not in str(error)
    assert time.process_time() - started_s < MAX_CPU_S


def test_a_voice_as_safetensors_is_the_same_voice(folder, capsys):
    tensors = {name: mx.array(array) for name, array in read_torch_file(VOICE).items()}
    (folder / "voices").mkdir()
    mx.save_safetensors(str(folder / "voices" / "NATF2.safetensors"), tensors)
    half = {**tensors, "embeddings": tensors["embeddings"].astype(mx.float16)}
    mx.save_safetensors(str(folder / "voices" / "NATF3.safetensors"), half)
    raw = json.loads((PERSONA / "personaplex" / "config.full.json").read_text())
    config = parse_config(raw)
    cards = np.array([config.text_card + 1] + [config.card + 1] * config.n_q)
    found = [
        read_voice(path, config.transformer.dim, config.delays, cards)
        for path in (VOICE, *sorted((folder / "voices").iterdir()))
    ]
    assert np.array_equal(found[0].embeddings, found[1].embeddings)
    assert np.allclose(found[0].embeddings, found[2].embeddings, atol=1e-2)
    assert all(np.array_equal(voice.line, found[0].line) for voice in found)
    assert main(["voices", str(folder)]) == 0
    assert "NATF3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"embeddings": mx.zeros((3, 1, 1, 32))}, "it must hold embeddings and cache"),
        ({"embeddings": mx.zeros((3, 32)), "cache": mx.zeros((1, 17, 4))}, "its embeddings are"),
        (
            {"embeddings": mx.full((3, 1, 1, 32), np.nan), "cache": mx.zeros((1, 17, 4), mx.int64)},
            "aren't finite numbers",
        ),
        ({"embeddings": mx.zeros((1 << 19, 1, 1, 32)), "cache": mx.zeros(1)}, "larger than any"),
        (b"no safetensors", "is not a safetensors file"),
    ],
)
def test_hostile_safetensors_are_no_voices(tmp_path, tensors, why):
    path = tmp_path / "NATF2.safetensors"
    if isinstance(tensors, bytes):
        path.write_bytes(tensors)
    else:
        mx.save_safetensors(str(path), tensors)
    with pytest.raises(WeightsError, match=why):
        read_voice(path, 32, (0, *([0] + [1] * 7) * 2), np.full(17, 100))


def test_moshi_voices_lists_them(folder, capsys):
    assert main(["voices", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "NATF2  a woman's, natural    1.0 s  voices.tgz",
        "NATM0  a man's, natural      1.0 s  voices.tgz",
    ]
    assert main(["voices", str(folder), "--json"]) == 0
    first, _ = json.loads(capsys.readouterr().out)
    assert first == {
        **{"name": "NATF2", "kind": "a woman's, natural", "seconds": 0.96},
        **{"file": "voices.tgz", "damaged": ""},
    }


def test_a_damaged_voice_is_listed_as_such(folder, capsys):
    (folder / "BAD.pt").write_bytes(b"no zip")
    assert main(["voices", str(folder)]) == 1
    bad, *others = capsys.readouterr().out.splitlines()
    assert bad.startswith("BAD") and "can't be used" in bad and len(others) == 2


def test_voices_of_text_to_speech_are_listed_too(tmp_path, capsys):
    voice = mx.zeros((1, 8, 125))
    (tmp_path / "vctk").mkdir()
    path = tmp_path / "vctk" / "p226_023.wav.1e68beda@240.safetensors"
    mx.save_safetensors(str(path), {"speaker_wavs": voice}, {"sig": "1e68beda"})
    mx.save_safetensors(str(tmp_path / "model.safetensors"), {"x": voice})
    (tmp_path / "p227.wav.1e68beda@240.safetensors").write_bytes(b"damaged")
    assert main(["voices", str(tmp_path), "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["p227", "vctk/p226_023"]
    assert rows[1]["seconds"] == 10 and not rows[1]["damaged"] and rows[0]["damaged"]
    assert main(["voices", str(tmp_path), "--names"]) == 1
    assert capsys.readouterr().out == "vctk/p226_023\n"


def test_of_a_repository_the_archive_alone_is_fetched(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    files = {"voices.tgz": (folder / "voices.tgz").read_bytes(), "model.safetensors": b"x" * 1000}
    with serving(monkeypatch) as server:
        server.repositories["nvidia/personaplex-7b-v1"] = files
        server.repositories["kyutai/none"] = {"model.safetensors": b"x"}
        assert main(["voices"]) == 0
        assert "NATF2" in capsys.readouterr().out
        assert not any("model" in path for _, path, _ in server.requests if "/resolve/" in path)
        assert main(["voices", "kyutai/none"]) == 1
        assert "kyutai/none has no voices of its own" in capsys.readouterr().err
        server.requests.clear()
        assert main(["voices", "--offline"]) == 0 and not server.requests
    assert main(["voices", str(PERSONA / "base")]) == 1
    assert "has no voices" in capsys.readouterr().err
    assert main(["voices", "no such"]) == 1
