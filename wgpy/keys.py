"""Keys of WireGuard, 32 octets each: values that never show a secret and are wiped when dropped.

A private or preshared key lives in a `bytearray` that `__del__` overwrites. Python may have copied it on the
way here (a base64 line, an argument): the wiping is a courtesy, `docs/security.md` says how far it goes.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final, Self

import nacl.bindings
import nacl.exceptions

from wgpy.errors import ConfigError

KEY_SIZE: Final = 32
"""Octets in a Curve25519 or preshared key."""


def _decode_base64(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != KEY_SIZE or len(text) != 44:
        raise ConfigError(f"a {what} is 44 characters of base64; got {len(text)} characters that are not")
    return data


def _decode_hex(text: str, what: str) -> bytes:
    try:
        data = bytes.fromhex(text) if len(text) == 2 * KEY_SIZE else b""
    except ValueError:
        data = b""
    if len(data) == KEY_SIZE:  # fromhex passes over spaces
        return data
    raise ConfigError(f"a {what} is 64 hexadecimal digits; got {len(text)} characters that are not")


class PublicKey:
    """A Curve25519 public key: the name of a peer."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        if len(data) != KEY_SIZE:
            raise ValueError(f"a public key has {KEY_SIZE} octets, not {len(data)}")
        self._data = bytes(data)

    @classmethod
    def from_base64(cls, text: str) -> Self:
        """Raises ConfigError."""
        return cls(_decode_base64(text, "public key"))

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Raises ConfigError."""
        return cls(_decode_hex(text, "public key"))

    def __bytes__(self) -> bytes:
        return self._data

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PublicKey):
            return NotImplemented
        return hmac.compare_digest(self._data, other._data)

    def __hash__(self) -> int:
        return hash(self._data)

    def __lt__(self, other: PublicKey) -> bool:
        return self._data < other._data

    def __str__(self) -> str:
        return base64.b64encode(self._data).decode()

    def __repr__(self) -> str:
        return f"PublicKey({self.short})"

    @property
    def short(self) -> str:
        """The name of the peer in a log line: four characters, an ellipsis, four characters."""
        text = str(self)
        return f"{text[:4]}…{text[39:43]}"


class Secret:
    """32 octets that do not print, compare in constant time and are overwritten when dropped."""

    __slots__ = ("_data",)

    _what = "secret key"

    def __init__(self, data: bytes | bytearray) -> None:
        if len(data) != KEY_SIZE:
            raise ValueError(f"a {self._what} has {KEY_SIZE} octets, not {len(data)}")
        self._data = bytearray(data)

    @classmethod
    def from_base64(cls, text: str) -> Self:
        """Raises ConfigError, which never repeats the text."""
        return cls(_decode_base64(text, cls._what))

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Raises ConfigError, which never repeats the text."""
        return cls(_decode_hex(text, cls._what))

    def to_base64(self) -> str:
        """For writing to a file of mode 0600 or to `wg show … private-key`, never to a log."""
        return base64.b64encode(self._data).decode()

    def to_hex(self) -> str:
        """For the UAPI socket, never for a log."""
        return self._data.hex()

    def __bytes__(self) -> bytes:
        return bytes(self._data)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return hmac.compare_digest(self._data, other._data)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError(f"{type(self).__name__} is not to be pickled")

    def is_zero(self) -> bool:
        """All zeros: "no key" in the UAPI and in wg(8)."""
        return hmac.compare_digest(self._data, bytes(KEY_SIZE))

    def __del__(self) -> None:
        data = getattr(self, "_data", None)
        if data is not None:
            data[:] = bytes(len(data))


class PrivateKey(Secret):
    """A Curve25519 private key, clamped when made."""

    __slots__ = ()

    _what = "private key"

    def __init__(self, data: bytes | bytearray) -> None:
        super().__init__(data)
        if any(data):
            self._data[0] &= 248
            self._data[31] = (self._data[31] & 127) | 64

    def public_key(self) -> PublicKey:
        return PublicKey(nacl.bindings.crypto_scalarmult_base(bytes(self._data)))

    def exchange(self, public: PublicKey) -> bytes:
        """The 32 octets of DH(self, public). Raises ValueError for a point of low order: its product is 0."""
        try:
            return nacl.bindings.crypto_scalarmult(bytes(self._data), bytes(public))
        except nacl.exceptions.CryptoError:
            raise ValueError("the public key is a point of low order") from None


class PresharedKey(Secret):
    """A symmetric key mixed into the handshake; all zeros when there is none."""

    __slots__ = ()

    _what = "preshared key"

    @classmethod
    def zero(cls) -> Self:
        return cls(bytes(KEY_SIZE))
