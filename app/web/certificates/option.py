"""`moshi web --tls`: the user's own certificate, or what an authority of this machine signs.

Browsers give the microphone to https or localhost only, so a phone in the same network needs this.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

from moshi_mlx.errors import MoshiError, with_extra

from .tls import context_of


@dataclass(frozen=True)
class Tls:
    """A server's TLS context, and the authority that a phone may install (DER), if it is ours."""

    context: ssl.SSLContext
    authority: bytes | None = None


def parse_option(value: str, host: str, folder: Path) -> Tls:
    """`self`, or `cert.pem,key.pem`. Raises MoshiError."""
    if value == "self":
        try:
            from .self_made import self_made
        except ImportError:  # cryptography, an extra
            raise MoshiError(
                f"--tls self needs the extra tls ({with_extra('tls')}); "
                "a certificate of your own doesn't: --tls CERT.pem,KEY.pem"
            ) from None
        cert, key, authority = self_made(folder, host)
        return Tls(context_of(cert, key), authority.der)
    cert, comma, key = value.partition(",")
    if not comma or not cert or not key:
        raise MoshiError(f"--tls {value}: write --tls CERT.pem,KEY.pem, or --tls self")
    return Tls(context_of(Path(cert), Path(key)))
