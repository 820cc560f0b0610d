"""What a report that strangers read must not say: secrets go, keys and addresses are made short. Pure.

Two nets, one behind the other: the secrets that this host is known to hold go in every spelling, and whatever
looks like 32 octets goes too, unless it is a public key of the mesh.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import ipaddress
import re
from collections.abc import Callable, Collection, Iterator
from typing import Final

SECRET: Final = "[secret removed]"

_WORD: Final = r"[A-Za-z0-9+/_-]"
_TOKEN: Final = re.compile(r"\bwgpy[a-z0-9]{1,3}_[A-Za-z0-9_-]{8,}")
_KEY: Final = re.compile(rf"(?<!{_WORD})(?:[0-9a-fA-F]{{64}}(?![0-9a-fA-F])|{_WORD}{{43}}(?:=|(?!{_WORD})))")
"""32 octets, in hex or base64 of either alphabet."""
_LOGIN: Final = re.compile(r"(?<=://)[^/\s@\"']+@")
_MAC: Final = re.compile(
    r"(?<![0-9A-Fa-f:])((?:[0-9a-f]{2}:){3})(?:[0-9a-f]{2}:){2}[0-9a-f]{2}(?![0-9A-Fa-f:])"
)
_IPV4: Final = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\w)")
_IPV6: Final = re.compile(r"(?<![\w:.])[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?![\w:]*\w)")
_SHOWN: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.168.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "::/127", "fc00::/7", "ff00::/8", "::/0",
    )
)  # fmt: skip
"""Addresses that say nothing of where somebody is."""


class Identifiers(enum.StrEnum):
    """What becomes of public keys, and of addresses on the internet."""

    SHORT = "short"
    """Their first part: enough to tell them apart."""
    HASHED = "hashed"
    """A word that is the same in all of one report, and another one in the next."""
    WHOLE = "whole"


def spellings(secret: bytes) -> Iterator[str]:
    """Every way in which a secret may stand in a text."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(secret).decode()
        yield whole
        yield whole.rstrip("=")
    yield secret.hex()
    yield secret.hex().upper()
    yield ":".join(f"{octet:02x}" for octet in secret)
    yield repr(secret)[2:-1]
    yield str(list(secret))[1:-1]
    yield secret.decode("latin-1")
    yield secret.decode("utf-8", "replace")


class Redactor:
    """`secrets` and `words` (short ones, such as a code) are never to be seen; `public` are keys that may.

    `salt` is new for each report, so that hashes of two reports cannot be compared.
    """

    def __init__(
        self,
        secrets: Collection[bytes],
        words: Collection[str],
        public: Collection[bytes],
        salt: bytes,
        identifiers: Identifiers = Identifiers.SHORT,
    ) -> None:
        found = {text for secret in secrets if len(secret) >= 8 for text in spellings(secret)}
        found |= {word for word in words if len(word) >= 4}
        ordered = sorted(found, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, ordered))) if ordered else None
        self._public = frozenset(public) - frozenset(secrets)
        self._salt = salt
        self._identifiers = identifiers

    def __call__(self, text: str) -> str:
        if self._secrets is not None:
            text = self._secrets.sub(SECRET, text)
        text = _TOKEN.sub(SECRET, text)
        text = _LOGIN.sub("[login removed]@", text)
        text = _KEY.sub(lambda found: self._key(found.group()), text)
        if self._identifiers is Identifiers.WHOLE:
            return text
        text = _MAC.sub(lambda found: f"{found.group(1)}…", text)
        text = _IPV4.sub(lambda found: self._address(found.group()), text)
        return _IPV6.sub(lambda found: self._address(found.group()), text)

    def _key(self, text: str) -> str:
        octets = read_octets(text)
        if octets not in self._public:
            return SECRET
        if self._identifiers is Identifiers.WHOLE:
            return text
        return self._hash("key", octets) if self._identifiers is Identifiers.HASHED else f"{text[:8]}…"

    def _address(self, text: str) -> str:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return text
        if any(
            address in network
            for network in _SHOWN
            if network.prefixlen and network.version == address.version
        ):
            return text
        if int(address) == 0:
            return text
        if self._identifiers is Identifiers.HASHED:
            return self._hash("ip", address.packed)
        if address.version == 4:
            first, second, *_ = text.split(".")
            return f"{first}.{second}.…"
        return ":".join(address.exploded.split(":")[:2]) + ":…"

    def _hash(self, kind: str, octets: bytes) -> str:
        digest = hashlib.blake2b(octets, key=self._salt, digest_size=5).hexdigest()
        return f"{kind}-{digest}"


def read_octets(text: str) -> bytes:
    """Of a word that `_KEY` matched, or that may be the spelling of a secret; b"": it is none."""
    decoders: tuple[Callable[[str], bytes], ...] = (bytes.fromhex, _base64)
    for decode in decoders:
        try:
            found = decode(text)
        except (ValueError, binascii.Error):
            continue
        if len(found) >= 16:
            return found
    return b""


def _base64(text: str) -> bytes:
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)


def octets_in(value: object) -> Iterator[bytes]:
    """All that may be keys in a JSON value."""
    if isinstance(value, dict):
        for each in value.values():
            yield from octets_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from octets_in(each)
    elif isinstance(value, str) and (found := read_octets(value)):
        yield found
