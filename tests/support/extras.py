"""Packages that aren't always there, and the extra that brings each."""

OPTIONAL = {
    **{"sphn": "kyutai", "cryptography": "tls", "pywebrtc_audio": "webrtc", "c2pa": "c2pa"},
    "pyloudnorm": "voice",
}
