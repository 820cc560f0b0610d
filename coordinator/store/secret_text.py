"""Secrets that a person or a program brings: a prefix that says what it is, and 256 random bits."""

from __future__ import annotations

from typing import Final

from wgpy.mesh.encoding import decode_b64u, encode_b64u
from wgpy.mesh.signing import BearerSecret

API_KEY: Final = "wgpyk_"
SETUP_LINK: Final = "wgpys_"
CLIENT_LINK: Final = "wgpyc_"


def encode_secret(prefix: str, secret: BearerSecret) -> str:
    return prefix + encode_b64u(bytes(secret))


def parse_secret_untrusted(prefix: str, text: str) -> BearerSecret | None:
    """The secret of what looks like one of this kind."""
    if not text.startswith(prefix) or len(text) > 64:
        return None
    try:
        return BearerSecret(decode_b64u(text.removeprefix(prefix)))
    except ValueError:
        return None
