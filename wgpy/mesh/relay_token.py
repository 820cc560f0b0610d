"""A relay key as text: what `wgpy coordinator relay create` prints and `wgpy relay serve` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from wgpy.errors import ConfigError
from wgpy.mesh.signing import BearerSecret, IdentityPublicKey, RelayKey
from wgpy.mesh.token import PREFIX as TOKEN_PREFIX
from wgpy.mesh.token import Token

PREFIX: Final = "wgpyrelay1_"


@dataclass(frozen=True, slots=True)
class RelayToken:
    """Which coordinator, where it is, and the relay's private key. Its repr shows no secret.

    Laid out as a token (docs/wire.md §3) with the identity's public key in place of its hash, so that a relay
    can check tickets before it ever reached the coordinator.
    """

    identity: IdentityPublicKey
    key: RelayKey
    urls: tuple[str, ...]
    pinned: bool = True

    def encode(self) -> str:
        """A secret."""
        token = Token(bytes(self.identity), BearerSecret(bytes(self.key)), self.urls, self.pinned)
        return PREFIX + token.encode().removeprefix(TOKEN_PREFIX)

    @classmethod
    def decode(cls, text: str) -> Self:
        """Raises ConfigError, which never repeats the text."""
        text = text.strip()
        if not text.startswith(PREFIX):
            raise ConfigError(
                f"a relay key starts with {PREFIX} (see `wgpy coordinator relay create`); this does not"
            )
        token = Token.decode(TOKEN_PREFIX + text.removeprefix(PREFIX))
        key = RelayKey(bytes(token.secret))
        return cls(IdentityPublicKey(token.identity_hash), key, token.urls, token.pinned)
