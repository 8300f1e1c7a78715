"""Who may talk to the server: Host, Origin and token checks, and the headers every answer carries.

Any web page in the same browser can open a socket to the user's machine and listen, so the rules
are: a page must come from this server (or a named origin), the name it was reached by must be ours
(against DNS rebinding), and away from loopback a random token must be known.
"""

import base64
import hmac
import ipaddress
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from moshi_mlx.errors import MoshiError, printable

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
OWN_PAGE_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
# another page (--static) may use WebAssembly and inline code, but reaches no other host either
STATIC_PAGE_CSP = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' data: blob:; worker-src 'self' data: "
    "blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
COMMON_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cache-Control": "no-cache",
}


def is_loopback(host: str) -> bool:
    """Whether a name or address to listen on can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_name(netloc: str) -> str:
    """`name:port` or `[::1]:port` -> the name alone, in lower case; "" if it can't be read."""
    try:
        return (urlsplit(f"//{netloc}").hostname or "").lower()
    except ValueError:
        return ""


def normal_origin(url: str) -> str:
    """An origin to compare by: scheme, name, port. Raises MoshiError if it isn't one."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise MoshiError(f"{url!r} isn't an origin; write it like https://example.org:8443")
    port = port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{parts.hostname.lower()}:{port}"


@dataclass(frozen=True)
class Guard:
    """The rules of one server. `token` is None on loopback, where none is needed."""

    token: str | None = None
    allowed_origins: frozenset[str] = frozenset()
    loopback: bool = True
    scheme: str = "http"

    @classmethod
    def make(cls, host: str, origins: Iterable[str] = (), scheme: str = "http") -> "Guard":
        loopback = is_loopback(host)
        token = None if loopback else secrets.token_urlsafe(18)
        allowed = frozenset(normal_origin(origin) for origin in origins)
        return cls(token, allowed, loopback, scheme)

    def refusal(self, headers: Mapping[str, str], tokens: Iterable[str] = ()) -> str | None:
        """Why this request may not use `/api/`, in one line; None if it may."""
        return self.host_refusal(headers) or self.origin_refusal(headers) or self.keyless(tokens)

    def host_refusal(self, headers: Mapping[str, str]) -> str | None:
        """On loopback only our own names are answered: a rebound foreign name isn't one."""
        name = host_name(headers.get("Host", ""))
        if self.loopback and not (name in LOOPBACK_NAMES or is_loopback(name)):
            return "this server answers to localhost only"
        return None

    def origin_refusal(self, headers: Mapping[str, str]) -> str | None:
        origin = headers.get("Origin")
        if origin is None:  # not a browser: Python and Rust clients send none
            if headers.get("Sec-Fetch-Site", "none") in ("cross-site", "same-site"):
                return "another site may not use this server"
            return None
        try:
            asked = normal_origin(origin)
            own = normal_origin(f"{self.scheme}://{headers.get('Host', '')}")
        except MoshiError:
            return "this origin may not use the server"
        if asked == own or asked in self.allowed_origins:
            return None
        pages = f"pages of {printable(asked)}"
        return f"{pages} may not use this server; start it with --allow-origin to let them"

    def keyless(self, tokens: Iterable[str]) -> str | None:
        if self.token is None:
            return None
        wanted = self.token.encode()
        given = (token.encode(errors="surrogateescape") for token in tokens)  # bytes as they came
        if any(hmac.compare_digest(token, wanted) for token in given):
            return None
        return "the token is missing or wrong; use the whole address printed by `moshi web`"


def basic_password(authorization: str) -> str:
    """The password of an `Authorization: Basic` header (`https://moshi:TOKEN@host`), or ""."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except ValueError:  # not base64, not ASCII, not UTF-8
        return ""
