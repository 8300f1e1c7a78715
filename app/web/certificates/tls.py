"""What TLS needs to know of a server: its certificate's files, and the names that lead to it."""

import socket
import ssl
import subprocess
import sys
from pathlib import Path

from moshi_mlx.errors import MoshiError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
SCUTIL = ("/usr/sbin/scutil", "--get", "LocalHostName")


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
