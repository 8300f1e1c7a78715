"""The key that signs this machine's recordings: made on first use, never leaves, 0600.

A self-made root and a certificate under it, for C2PA: EC P-256, key usage digitalSignature,
extended key usage emailProtection (C2PA Technical Specification 2.2, section 14.5). Nobody is named
in it.
"""

import contextlib
import datetime
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from moshi_mlx.errors import MoshiError

YEARS = 10
NAME = "signing.pem"
ORGANIZATION = "moshi-local"
ROOT_NAME, LEAF_NAME = "moshi-local, self-made root", "moshi-local, self-made key"
MAX_BYTES = 1 << 16


@dataclass(frozen=True)
class SigningKey:
    """PEM: the private key, its certificate and the root's, and the root alone."""

    key: bytes
    chain: bytes
    root: bytes


def folder() -> Path:
    """Where keys and the index live: beside the preferences."""
    root = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(root) / "moshi"


def signing_key(place: Path | None = None) -> SigningKey:
    """This machine's, made now if there is none. MoshiError for one that is of no use."""
    path = (place or folder()) / NAME
    if not path.exists():
        _make(path)
    return read(path)


def read(path: Path) -> SigningKey:
    """MoshiError for a file that is lost, damaged, or readable by others."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            raw = file.read(MAX_BYTES)
    except OSError as error:
        raise MoshiError(f"the signing key {path} can't be read ({error.strerror})") from None
    if mode & 0o077:
        raise MoshiError(f"the signing key {path} can be read by others: chmod 600 {path}")
    end = b"-----END PRIVATE KEY-----\n"
    key, _, chain = raw.partition(end)
    root = chain[chain.rfind(b"-----BEGIN CERTIFICATE-----") :]
    try:
        load_pem_private_key(key + end, None)
        valid = len(x509.load_pem_x509_certificates(chain)) == 2
    except (ValueError, TypeError):
        valid = False
    if not valid:
        raise MoshiError(f"{path} is no signing key; move it away, and a new one is made")
    return SigningKey(key + end, chain, root)


def _make(path: Path) -> None:
    """Whole under its name or not there at all; where two start at once, the first one's stays."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_pem())
            with contextlib.suppress(FileExistsError):
                os.link(name, path)
        finally:
            os.unlink(name)
    except OSError as error:
        raise MoshiError(f"no signing key can be made at {path} ({error.strerror})") from None


def _pem() -> bytes:
    """A new private key, its certificate, the root's. The root's own key is forgotten at once."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    root_key, leaf_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _certificate(ROOT_NAME, ROOT_NAME, root_key.public_key(), root_key, True)
    leaf = _certificate(LEAF_NAME, ROOT_NAME, leaf_key.public_key(), root_key, False)
    private = leaf_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private + leaf + root


def _certificate(subject: str, issuer: str, public, root_key, authority: bool) -> bytes:
    """PEM of a certificate for `public`, signed by the root."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def name(common: str) -> x509.Name:
        pairs = ((NameOID.ORGANIZATION_NAME, ORGANIZATION), (NameOID.COMMON_NAME, common))
        return x509.Name([x509.NameAttribute(kind, value) for kind, value in pairs])

    uses = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
        + ("encipher_only", "decipher_only"),
        False,
    )
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    own_id = x509.SubjectKeyIdentifier.from_public_key(public)
    root_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + YEARS * 365 * day)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(own_id, critical=False)
        .add_extension(root_id, critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True, key_cert_sign=authority, crl_sign=authority, **uses
            ),
            critical=True,
        )
    )
    if not authority:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(usage, critical=True)
    return builder.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
