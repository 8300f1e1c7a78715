"""`--tls self`: the certificate that this machine's authority signs, kept and made anew in time."""

from pathlib import Path

from cryptography import x509

from moshi_mlx.errors import MoshiError

from .authority import RENEW_DAYS, Authority, general_name, kept_authority, now, replace, sign
from .tls import LOOPBACK, context_of, names_of


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
