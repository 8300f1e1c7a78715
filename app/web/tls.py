"""Certificates for `moshi web`: the user's own files, or a self-made one kept in a cache folder.

Browsers give the microphone to https or localhost only, so a phone in the same network needs this.
"""

import datetime
import ipaddress
import os
import socket
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from moshi_mlx.errors import MoshiError

VALID_DAYS = 397  # the longest that all browsers accept
RENEW_DAYS = 7


def context_of(cert: Path, key: Path) -> ssl.SSLContext:
    """A server's TLS context from two PEM files. Raises MoshiError if they can't be used."""
    for path in (cert, key):
        if not path.is_file():
            raise MoshiError(f"no such file: {path}; give --tls CERT.pem,KEY.pem, or --tls self")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:  # an empty password: a locked key is an error, not a question on the terminal
        context.load_cert_chain(cert, key, password="")
    except (ssl.SSLError, OSError, ValueError) as problem:
        raise MoshiError(f"{cert} and {key} aren't a certificate and its key: {problem}") from None
    return context


def parse_option(value: str, host: str, folder: Path) -> ssl.SSLContext:
    """`self`, or `cert.pem,key.pem` -> TLS context."""
    if value == "self":
        return context_of(*self_made(folder, host))
    cert, comma, key = value.partition(",")
    if not comma or not cert or not key:
        raise MoshiError(f"--tls {value}: write --tls CERT.pem,KEY.pem, or --tls self")
    return context_of(Path(cert), Path(key))


def self_made(folder: Path, host: str) -> tuple[Path, Path]:
    """The kept certificate and key for this machine's names, made anew when they don't serve.

    The same files are used from start to start, so a browser has to be told once only.
    """
    cert, key = folder / "self-made.pem", folder / "self-made-key.pem"
    names = sorted({"localhost", "127.0.0.1", "::1", *names_of(host)})
    if not still_good(cert, key, names):
        try:
            write(cert, key, names)
        except OSError as problem:
            raise MoshiError(f"can't keep a certificate in {folder}: {problem.strerror}") from None
    return cert, key


def names_of(host: str) -> set[str]:
    """Names and addresses a browser may use to reach a server that listens on `host`."""
    if host not in ("0.0.0.0", "::", ""):
        return {host}
    name = socket.gethostname()
    names = {name, name if name.endswith(".local") else f"{name}.local"}
    return names | set(local_addresses())


def local_addresses() -> list[str]:
    """This machine's address in its network, as the routing table has it; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1, RFC 5737
        except OSError:
            return []
        return [probe.getsockname()[0]]


def still_good(cert: Path, key: Path, names: list[str]) -> bool:
    try:
        old = x509.load_pem_x509_certificate(cert.read_bytes())
        held = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        context_of(cert, key)
    except (OSError, ValueError, x509.ExtensionNotFound, MoshiError):
        return False
    left = old.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return left.days >= RENEW_DAYS and set(held) >= set(map(general_name, names))


def general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def write(cert: Path, key: Path, names: list[str]) -> None:
    """Make an ECDSA P-256 certificate; the key is readable by its owner only."""
    secret = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "moshi web (self-made)")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS - 1))
        .add_extension(x509.SubjectAlternativeName(map(general_name, names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(secret, hashes.SHA256())
    )
    cert.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = secret.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    replace(key, pem)
    replace(cert, made.public_bytes(serialization.Encoding.PEM))


def replace(path: Path, data: bytes) -> None:
    """Write beside and rename, so that no half-written file is ever seen."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
