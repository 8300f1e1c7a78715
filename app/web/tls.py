"""Certificates for `moshi web`: the user's own files, or what an authority of this machine signs.

Browsers give the microphone to https or localhost only, so a phone in the same network needs this.
"""

import socket
import ssl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from moshi_mlx.errors import MoshiError

from .authority import (
    LOOPBACK,
    RENEW_DAYS,
    Authority,
    general_name,
    kept_authority,
    now,
    replace,
    sign,
)

SCUTIL = ("/usr/sbin/scutil", "--get", "LocalHostName")


@dataclass(frozen=True)
class Tls:
    """A server's TLS context, and the authority that a phone may install (DER), if it is ours."""

    context: ssl.SSLContext
    authority: bytes | None = None


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


def parse_option(value: str, host: str, folder: Path) -> Tls:
    """`self`, or `cert.pem,key.pem`. Raises MoshiError."""
    if value == "self":
        cert, key, authority = self_made(folder, host)
        return Tls(context_of(cert, key), authority.der)
    cert, comma, key = value.partition(",")
    if not comma or not cert or not key:
        raise MoshiError(f"--tls {value}: write --tls CERT.pem,KEY.pem, or --tls self")
    return Tls(context_of(Path(cert), Path(key)))


def self_made(folder: Path, host: str) -> tuple[Path, Path, Authority]:
    """The kept certificate and key for this machine's names, made anew when they don't serve.

    The authority stays from start to start as long as the machine's name does, so that a phone has
    to be told once only; an address that has changed since is left out, as its name leads there.
    """
    cert, key = folder / "self-made.pem", folder / "self-made-key.pem"
    lasting, passing = names_of(host)
    try:
        authority = kept_authority(folder, [*LOOPBACK, *lasting])
        if not lasting or not authority.may_sign([*LOOPBACK, *lasting, *passing]):
            passing = [name for name in passing if authority.may_sign([name])]
        names = [*LOOPBACK, *lasting, *passing]
        if not still_good(cert, key, names, authority):
            chain, secret = sign(authority, names)
            replace(key, secret)
            replace(cert, chain)
    except OSError as problem:
        raise MoshiError(f"can't keep a certificate in {folder}: {problem.strerror}") from None
    return cert, key, authority


def names_of(host: str) -> tuple[list[str], list[str]]:
    """Names a browser may use to reach a server that listens on `host`: what stays, and addresses
    that the network may change."""
    if host in LOOPBACK:
        return [], []
    if host not in ("0.0.0.0", "::", ""):
        return [host], []
    name = socket.gethostname()
    return sorted({bonjour_name(), name}), local_addresses()


def bonjour_name() -> str:
    """The name that phones find this machine by in its network, whatever its address."""
    if sys.platform == "darwin":
        done = subprocess.run(SCUTIL, capture_output=True, text=True, timeout=5.0, check=False)
        if done.returncode == 0 and done.stdout.strip():
            return f"{done.stdout.strip()}.local"
    return f"{socket.gethostname().partition('.')[0]}.local"


def local_addresses() -> list[str]:
    """This machine's address in its network, as the routing table has it; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1, RFC 5737
        except OSError:
            return []
        return [probe.getsockname()[0]]


def still_good(cert: Path, key: Path, names: list[str], authority: Authority) -> bool:
    try:
        old = x509.load_pem_x509_certificate(cert.read_bytes())
        held = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        old.verify_directly_issued_by(authority.certificate)
        context_of(cert, key)
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound, MoshiError):
        return False
    except Exception:  # cryptography's InvalidSignature: of another authority
        return False
    return (old.not_valid_after_utc - now()).days >= RENEW_DAYS and set(held) == set(
        map(general_name, names)
    )
