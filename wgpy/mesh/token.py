"""The token: one line of text that lets a host join (docs/wire.md §3)."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final, Self

from wgpy.errors import ConfigError
from wgpy.mesh.encoding import MAX_URLS, decode_b64u, encode_b64u, is_coordinator_url
from wgpy.mesh.signing import HASH_SIZE, BearerSecret

PREFIX: Final = "wgpy1_"
_PINNED: Final = 1
_CHECKSUM_SIZE: Final = 4
_MAX_LENGTH: Final = 4096


@dataclass(frozen=True, slots=True)
class Token:
    """Where the coordinator is, who it is, and the secret that it takes. Its repr shows no secret."""

    identity_hash: bytes
    secret: BearerSecret
    urls: tuple[str, ...]
    pinned: bool = True
    """The TLS leaf is checked against the identity's list; otherwise the system's CAs decide about TLS."""

    def __post_init__(self) -> None:
        if len(self.identity_hash) != HASH_SIZE:
            raise ValueError(f"an identity hash has {HASH_SIZE} octets, not {len(self.identity_hash)}")
        if not 1 <= len(self.urls) <= MAX_URLS or not all(is_coordinator_url(url) for url in self.urls):
            raise ValueError(f"a token has 1 to {MAX_URLS} URLs of the form https://HOST[:PORT]")

    @property
    def id(self) -> str:
        """The public name of the token: 16 hexadecimal digits."""
        return self.secret.id

    def encode(self) -> str:
        body = bytes([_PINNED if self.pinned else 0]) + self.identity_hash + bytes(self.secret)
        for url in self.urls:
            body += bytes([len(url)]) + url.encode("ascii")
        return PREFIX + encode_b64u(body + hashlib.sha256(body).digest()[:_CHECKSUM_SIZE])

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read a token as a person pasted it. Raises ConfigError, which never repeats the text."""
        text = text.strip()
        if not text.startswith(PREFIX):
            raise ConfigError(
                f"a token starts with {PREFIX} (see `wgpy coordinator token create`); this does not"
            )
        if len(text) > _MAX_LENGTH:
            raise ConfigError(f"a token has at most {_MAX_LENGTH} characters; this has {len(text)}")
        try:
            data = decode_b64u(text.removeprefix(PREFIX))
        except ValueError:
            raise ConfigError(
                "the token is damaged (a character that no token has, or one lost): copy it again, whole"
            ) from None
        body, checksum = data[:-_CHECKSUM_SIZE], data[-_CHECKSUM_SIZE:]
        if not hmac.compare_digest(hashlib.sha256(body).digest()[:_CHECKSUM_SIZE], checksum):
            raise ConfigError("the token is damaged (its checksum does not fit): copy it again, whole")
        fixed = 1 + HASH_SIZE + 32
        urls, rest = [], body[fixed:]
        while rest:
            length = rest[0]
            urls.append(rest[1 : 1 + length].decode("ascii", "replace"))
            rest = rest[1 + length :]
        try:
            # Other bits of the flags are for later versions of the coordinator; the two parts that we need
            # stand still.
            secret = BearerSecret(body[1 + HASH_SIZE : fixed])
            return cls(body[1 : 1 + HASH_SIZE], secret, tuple(urls), bool(body[0] & _PINNED))
        except (ValueError, IndexError):
            raise ConfigError(
                "the token has a form that this version of wgpy does not know: is wgpy too old?"
            ) from None
