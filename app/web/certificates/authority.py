"""A certificate authority of this machine alone, and the server's certificate that it signs.

A phone can be told to trust an authority for good, but not a certificate that signs itself: Safari
lets one pass for a page after a warning, and never for the page's websocket. What this authority
may sign is limited to this machine's own names and addresses: its key, stolen, opens nothing else.
"""

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .tls import LOOPBACK

Key = ec.EllipticCurvePrivateKey

VALID_DAYS = 397  # of the server's certificate: the longest that all browsers accept
RENEW_DAYS = 7
AUTHORITY_DAYS = 3650


@dataclass(frozen=True)
class Authority:
    """Its certificate and the key that it signs with."""

    certificate: x509.Certificate
    key: Key

    @property
    def der(self) -> bytes:
        """What a phone is given."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def may_sign(self, names: Sequence[str]) -> bool:
        """Whether all of these names lie within its limits, for long enough."""
        left = self.certificate.not_valid_after_utc - now()
        limits = self.certificate.extensions.get_extension_for_class(x509.NameConstraints)
        allowed = limits.value.permitted_subtrees or []
        return left.days > VALID_DAYS and all(limit(name) in allowed for name in names)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def limit(name: str) -> x509.GeneralName:
    """A name as an authority's limit: an address is a network of one."""
    try:
        return x509.IPAddress(ipaddress.ip_network(name))
    except ValueError:
        return x509.DNSName(name)


def kept_authority(folder: Path, names: Sequence[str]) -> Authority:
    """The one in this folder, made anew where it doesn't serve for these names. Raises OSError.

    A phone has to be told of a new one: `names` should be what stays from day to day.
    """
    cert, key = folder / "authority.pem", folder / "authority-key.pem"
    try:
        kept = Authority(
            x509.load_pem_x509_certificate(cert.read_bytes()), _private_key(key.read_bytes())
        )
        if kept.certificate.public_key() == kept.key.public_key() and kept.may_sign(names):
            return kept
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
        pass
    made = new_authority(names)
    replace(key, private_pem(made.key))
    replace(cert, made.certificate.public_bytes(serialization.Encoding.PEM))
    return made


def _private_key(pem: bytes) -> Key:
    found = serialization.load_pem_private_key(pem, None)
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise ValueError("another kind of key")
    return found


def new_authority(names: Sequence[str]) -> Authority:
    secret = ec.generate_private_key(ec.SECP256R1())
    host = next((name for name in names if name not in LOOPBACK), "this machine")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"moshi web on {host}"[:64])])
    identifier = x509.SubjectKeyIdentifier.from_public_key(secret.public_key())
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    limits = x509.NameConstraints(
        permitted_subtrees=list(map(limit, names)), excluded_subtrees=None
    )
    made = (
        _builder(subject, subject, secret, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(limits, critical=True)
        .add_extension(identifier, critical=False)
        .sign(secret, hashes.SHA256())
    )
    return Authority(made, secret)


def sign(authority: Authority, names: Sequence[str]) -> tuple[bytes, bytes]:
    """A server's certificate for these names, the authority's behind it, and its key: PEM each."""
    secret = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "moshi web")])
    issuer = authority.certificate.subject
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    made = (
        _builder(subject, issuer, secret, VALID_DAYS - 1)
        .add_extension(x509.SubjectAlternativeName(map(general_name, names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(signer, critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    chain = [made, authority.certificate]
    pem = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain)
    return pem, private_pem(secret)


def _builder(
    subject: x509.Name, issuer: x509.Name, secret: Key, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - datetime.timedelta(days=1))
        .not_valid_after(now() + datetime.timedelta(days=days))
    )


def private_pem(secret: Key) -> bytes:
    return secret.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def replace(path: Path, data: bytes) -> None:
    """Write beside and rename, so that no half-written file is ever seen; for the owner only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
