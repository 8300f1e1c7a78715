"""Signed files: what the independent reader says, that nobody is named, bad keys and files."""

import json
import os
import resource
import stat
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cryptography import x509

from app.provenance.asking import credentials_of
from app.provenance.credentials import available, manifest, sign
from app.provenance.manifest_reader import told
from app.provenance.origin import HUMAN, MACHINE, Origin
from app.provenance.signing_key import NAME, SigningKey, signing_key
from moshi_mlx.errors import MoshiError
from tests.support.rooms import voice

pytestmark = pytest.mark.skipif(not available(), reason="the extra c2pa isn't installed")
TALK = Origin("kyutai/moshiko-mlx-q4", (HUMAN, MACHINE), 7, "0123abc", mark="public key")


@pytest.fixture(scope="module")
def key(tmp_path_factory) -> SigningKey:
    return signing_key(tmp_path_factory.mktemp("key"))


@pytest.fixture
def talk(tmp_path) -> Path:
    pcm = voice("voice_awb")[:48_000]
    soundfile.write(tmp_path / "talk.wav", np.stack([pcm, pcm[::-1]], axis=1), 24_000)
    return tmp_path / "talk.wav"


def asked(path: Path, key: SigningKey | None = None, tmp: Path | None = None) -> dict:
    """What c2pa's own reader says; with `key`, on the machine that it belongs to."""
    own = Path("/nowhere")
    if key is not None:
        assert tmp is not None
        own = tmp / "own.pem"
        own.write_bytes(key.key + key.chain)
        own.chmod(0o600)
    return credentials_of(path, own)


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_a_signed_file_is_valid_and_its_samples_are_the_same(ending, talk, key, tmp_path):
    path = talk.with_suffix(f".{ending}")
    before, rate_hz = soundfile.read(talk, dtype="int16")
    soundfile.write(path, before, rate_hz)
    sign(path, TALK, key)
    after, _ = soundfile.read(path, dtype="int16")
    np.testing.assert_array_equal(after, before)
    stranger, owner = asked(path), asked(path, key, tmp_path)
    assert (stranger["state"], owner["state"]) == ("Valid", "Trusted")
    assert stranger["problems"] == ["signingCredential.untrusted"] and owner["problems"] == []
    assert stranger["source_types"] == ["compositeWithTrainedAlgorithmicMedia"]
    facts = stranger["generation"]
    assert facts["model"] == "kyutai/moshiko-mlx-q4" and facts["seed"] == "7"
    assert facts["revision"] == "0123abc" and facts["mark"] == "public key"
    assert facts["channels"] == f"{HUMAN}, {MACHINE}"


def test_a_link_stays_one_and_its_file_is_signed(talk, key, tmp_path):
    link = tmp_path / "link.wav"
    link.symlink_to(talk.name)
    sign(link, TALK, key)
    assert link.is_symlink() and asked(talk)["state"] == "Valid"


def test_the_standard_library_reads_a_signed_wav(talk, key):
    sign(talk, TALK, key)
    with wave.open(str(talk)) as file:
        assert (file.getnchannels(), file.getnframes()) == (2, 48_000)


def test_one_changed_bit_is_seen(talk, key):
    sign(talk, TALK, key)
    raw = bytearray(talk.read_bytes())
    raw[100_000] ^= 1
    talk.write_bytes(raw)
    told_ = asked(talk)
    assert told_["state"] == "Invalid" and "assertion.dataHash.mismatch" in told_["problems"]


def test_sound_of_a_machine_alone_is_called_so(talk, key):
    sign(talk, Origin("nano"), key)
    assert asked(talk)["source_types"] == ["trainedAlgorithmicMedia"]


def test_nobody_is_named(talk, key, tmp_path):
    """Neither folders nor users nor machines: in the file's bytes and in the key's certificates."""
    sign(talk, Origin("/Users/anna/models/my-moshi", (MACHINE,), adapter="~/anna/voice"), key)
    told_ = asked(talk)["generation"]
    assert told_["model"] == "my-moshi" and told_["adapter"] == "voice"
    secrets = [b"anna", b"Users", str(tmp_path).encode()]
    if len(machine := os.uname().nodename) > 5:  # a shorter one stands in base64 by chance
        secrets.append(machine.encode())
    for raw in (talk.read_bytes(), key.chain):
        assert [secret for secret in secrets if secret in raw] == []
    (certificate, *_) = x509.load_pem_x509_certificates(key.chain)
    names = {"moshi-local", "moshi-local, self-made key", "moshi-local, self-made root"}
    for name in (certificate.subject, certificate.issuer):
        assert {str(part.value) for part in name} <= names


def test_a_key_is_made_once_for_its_owner_alone(tmp_path):
    first = signing_key(tmp_path)
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600
    assert signing_key(tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    (tmp_path / NAME).unlink()  # lost: a new one
    assert signing_key(tmp_path) != first


@pytest.mark.parametrize(
    "raw", [b"", b"not a key", b"\xff" * 100, b"-----BEGIN PRIVATE KEY-----\n"]
)
def test_a_damaged_key_is_one_line(tmp_path, raw):
    (tmp_path / NAME).write_bytes(raw)
    (tmp_path / NAME).chmod(0o600)
    with pytest.raises(MoshiError, match="is no signing key; move it away") as error:
        signing_key(tmp_path)
    assert "\n" not in str(error.value)


def test_half_a_key_and_one_that_others_can_read(tmp_path, key):
    (tmp_path / NAME).write_bytes(key.key + key.chain[:-200])
    (tmp_path / NAME).chmod(0o600)
    with pytest.raises(MoshiError, match="is no signing key"):
        signing_key(tmp_path)
    (tmp_path / NAME).write_bytes(key.key + key.chain)
    (tmp_path / NAME).chmod(0o644)
    with pytest.raises(MoshiError, match="read by others: chmod 600"):
        signing_key(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(MoshiError, match="no signing key can be made"):
        signing_key(tmp_path / "file")


def test_what_cant_be_signed_stays_as_it_was(talk, key, tmp_path):
    other = talk.rename(talk.with_suffix(".ogg"))
    with pytest.raises(MoshiError, match=r"unsigned: \.ogg files"):
        sign(other, TALK, key)
    for content in (b"", b"RIFF", b"\0" * 1000):
        path = tmp_path / "odd.wav"
        path.write_bytes(content)
        with pytest.raises(MoshiError, match="unsigned: ") as error:
            sign(path, TALK, key)
        assert "\n" not in str(error.value) and path.read_bytes() == content
    with pytest.raises(MoshiError, match="unsigned: "):
        sign(tmp_path / "gone.wav", TALK, key)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["odd.wav", "talk.ogg"]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from app.provenance.credentials import sign
from app.provenance.origin import Origin
from app.provenance.signing_key import signing_key
from moshi_mlx.errors import MoshiError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
key = signing_key(Path(sys.argv[2]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    sign(Path(sys.argv[1]), Origin("nano"), key)
except MoshiError as error:
    print(error)
"""


def test_a_disk_that_fills_up_loses_nothing(talk, tmp_path):
    before = talk.read_bytes()
    command = [sys.executable, "-c", FULL_DISK, str(talk), str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "unsigned: " in said.stdout and said.stdout.count("\n") == 1, said
    assert talk.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, "talk.wav"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000


def test_hostile_manifests_are_one_line(talk, key):
    """Bytes of the manifest changed at random: whatever the reader does, an answer comes."""
    sign(talk, TALK, key)
    raw = talk.read_bytes()
    start = raw.rfind(b"C2PA")
    rng = np.random.default_rng(0)
    states = []
    for n in range(6):
        changed = bytearray(raw)
        if n == 5:  # a chunk that says it is longer than the file
            changed[start + 4 : start + 8] = b"\xff\xff\xff\x7f"
        for at in rng.integers(start + 8, len(raw), 0 if n == 5 else 1 + 20 * n):
            changed[at] ^= 0xFF
        talk.write_bytes(changed)
        told_ = asked(talk)
        states.append(told_["state"])
        assert len(json.dumps(told_)) < 10_000
    # A single byte may have been padding; with more of them no file is valid.
    assert set(states[1:]) <= {"Invalid", "unreadable", "none"}, states


@pytest.mark.parametrize(
    "store",
    [
        {},
        {"active_manifest": "x", "manifests": {}},
        {"active_manifest": "x", "manifests": {"x": {"claim_generator_info": []}}},
        {
            "active_manifest": "x",
            "manifests": {
                "x": {
                    "assertions": [
                        {"label": "org.moshi-local.generation", "data": {"model": "\x1b[2J" * 999}},
                        {"label": "c2pa.actions.v2", "data": {"actions": [{}] * 999}},
                    ],
                    "signature_info": {"issuer": "a\nb"},
                }
            },
        },
    ],
)
def test_what_strangers_write_is_short_and_printable(store):
    text = json.dumps(told(store), ensure_ascii=False)
    assert text.isprintable() and len(text) < 3000


def test_files_without_credentials_say_none(talk):
    assert asked(talk) == {"state": "none"}
    assert asked(talk.with_suffix(".ogg")) == {"state": "none"}


def test_the_manifest_says_which_channel_is_human():
    data = manifest(TALK, "audio/wav")
    assert data["assertions"][1]["data"]["channels"] == [HUMAN, MACHINE]
    assert "channel" in TALK.note() and "AI-generated: the right channel" in TALK.note()
    assert Origin("nano").note().startswith("AI-generated. Synthetic speech by nano")
