"""JSON on the wire: octets as base64url, canonical text, and readers that check every field of an untrusted
object.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

from wgpy.addresses import Endpoint, Prefix
from wgpy.errors import ConfigError, WgpyError
from wgpy.keys import PublicKey

JsonObject = dict[str, object]
"""A JSON object made by us: keys are text, values whatever `json` writes."""

MAX_INTEGER: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps exact."""
MAX_NAME: Final = 63
"""Octets in a name: a DNS label."""
MAX_ENDPOINTS: Final = 16
MAX_PREFIXES: Final = 512
"""Addresses or ranges of one node or network."""

_IDENTIFIER: Final = re.compile(r"[0-9a-f]{32}")
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class MalformedMessage(WgpyError):
    """JSON from the other side that is not what docs/wire.md says: the field, what was expected, what kind
    came.

    The text never repeats a value, which may be a secret.
    """


def encode_b64u(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_b64u(text: str) -> bytes:
    """The inverse of `encode_b64u`; only the one canonical spelling is taken. Raises ValueError."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if encode_b64u(data) != text:
        raise ValueError("not the canonical spelling")
    return data


_PLAIN: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_CANONICAL: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, sort_keys=True).encode
"""Made once: json.dumps would make an encoder for each value."""


def canonical_json(value: object) -> bytes:
    """Keys sorted, no spaces, ASCII only: what the map hash is taken over."""
    return _CANONICAL(value).encode()


def encode_json(value: object) -> bytes:
    """For a body or a line of a stream."""
    return _PLAIN(value).encode()


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def decode_json(data: bytes, limit: int) -> object:
    """Parse at most `limit` octets of JSON. Raises MalformedMessage."""
    if len(data) > limit:
        raise MalformedMessage(f"expected at most {limit} octets of JSON, got {len(data)}")
    try:
        return json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise MalformedMessage(f"expected JSON in UTF-8, got {len(data)} octets that are not") from None


def _kind(value: object) -> str:
    """The kind of a JSON value in a word, never its content."""
    kinds = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a fraction",
    }
    return "null" if value is None else kinds.get(type(value), "something else")


def is_label(text: str) -> bool:
    """Whether it is a DNS label of lower-case letters, digits and inner hyphens: what names here are."""
    return _LABEL.fullmatch(text) is not None


class Fields:
    """One JSON object under examination. Each method gives a field in its right type or raises
    MalformedMessage.

    `where` is the path to the object in what was received ("map.peers"), for the error's text.
    """

    __slots__ = ("_object", "_where")

    def __init__(self, value: object, where: str = "") -> None:
        if not isinstance(value, dict):
            raise MalformedMessage(f"{where or 'the body'}: expected an object, got {_kind(value)}")
        self._object: dict[str, object] = value
        self._where = where

    def path(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name

    def _fail(self, name: str, expected: str, got: str | None = None) -> MalformedMessage:
        what = got or (_kind(self._object[name]) if name in self._object else "nothing")
        return MalformedMessage(f"{self.path(name)}: expected {expected}, got {what}")

    def has(self, name: str) -> bool:
        return name in self._object

    def is_null(self, name: str) -> bool:
        """Null or missing."""
        return self._object.get(name) is None

    def raw(self, name: str) -> object:
        if name not in self._object:
            raise self._fail(name, "a value")
        return self._object[name]

    def extra(self, known: frozenset[str]) -> Mapping[str, object]:
        """The fields that this version does not know: kept, since the map hash covers them."""
        return {name: value for name, value in self._object.items() if name not in known}

    def text(self, name: str, limit: int = 256) -> str:
        """Printable text of at most `limit` octets in UTF-8, not empty: it may go to a terminal."""
        value = self._object.get(name)
        if not isinstance(value, str):
            raise self._fail(name, "text")
        # isprintable() is false for surrogates and controls, so what passes can be encoded.
        if not value or not value.isprintable() or len(value.encode()) > limit:
            raise self._fail(name, f"1 to {limit} octets of printable text", "other text")
        return value

    def _matching(self, name: str, pattern: re.Pattern[str], expected: str) -> str:
        value = self._object.get(name)
        if not isinstance(value, str):
            raise self._fail(name, expected)
        if not pattern.fullmatch(value):
            raise self._fail(name, expected, "other text")
        return value

    def identifier(self, name: str) -> str:
        """The id of a network or node."""
        return self._matching(name, _IDENTIFIER, "an id of 32 lower-case hexadecimal digits")

    def label(self, name: str) -> str:
        """A name that is a DNS label: lower-case letters, digits and inner hyphens, at most 63."""
        return self._matching(name, _LABEL, "a DNS label (a-z, 0-9, inner hyphens, at most 63)")

    def word(self, name: str) -> str:
        """A word for programs: an epoch, a code, a capability."""
        return self._matching(name, _WORD, "a word of at most 64 letters, digits, '_', '.' or '-'")

    def integer(self, name: str, low: int = 0, high: int = MAX_INTEGER) -> int:
        value = self._object.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._fail(name, f"an integer from {low} to {high}")
        if not low <= value <= high:
            raise self._fail(name, f"an integer from {low} to {high}", "one out of range")
        return value

    def boolean(self, name: str) -> bool:
        value = self._object.get(name)
        if not isinstance(value, bool):
            raise self._fail(name, "true or false")
        return value

    def octets(self, name: str, size: int | None = None, limit: int = 4096) -> bytes:
        """base64url text: exactly `size` octets, or 1 to `limit`."""
        expected = f"{size} octets" if size is not None else f"1 to {limit} octets"
        value = self._object.get(name)
        if not isinstance(value, str):
            raise self._fail(name, f"{expected} in base64url")
        return self._octets(value, name, size, limit, expected)

    def _octets(self, value: str, name: str, size: int | None, limit: int, expected: str) -> bytes:
        try:
            if len(value) > 2 * limit:
                raise ValueError
            data = decode_b64u(value)
        except ValueError:
            raise self._fail(name, f"{expected} in base64url", "other text") from None
        if (size is not None and len(data) != size) or not 1 <= len(data) <= limit:
            raise self._fail(name, f"{expected} in base64url", f"{len(data)} octets")
        return data

    def octets_list(self, name: str, size: int, limit: int) -> tuple[bytes, ...]:
        expected = f"{size} octets"
        return tuple(self._octets(text, name, size, size, expected) for text in self.texts(name, limit))

    def wireguard_key(self, name: str) -> PublicKey:
        """Standard base64, as `wg` shows keys."""
        value = self._object.get(name)
        if not isinstance(value, str):
            raise self._fail(name, "a WireGuard public key in base64")
        try:
            key = PublicKey.from_base64(value)
        except ConfigError:
            key = None
        if key is None or str(key) != value:
            raise self._fail(name, "a WireGuard public key in base64", "other text")
        return key

    def fields(self, name: str) -> Fields:
        """An object inside this one."""
        return Fields(self.raw(name), self.path(name))

    def items(self, name: str, limit: int) -> Iterator[tuple[object, str]]:
        """The members of a list, each with its path."""
        value = self._object.get(name)
        if not isinstance(value, list):
            raise self._fail(name, "a list")
        if len(value) > limit:
            raise self._fail(name, f"a list of at most {limit}", f"one of {len(value)}")
        path = self.path(name)
        return ((item, f"{path}[{number}]") for number, item in enumerate(value))

    def members(self, name: str) -> Iterator[tuple[str, object, str]]:
        """The entries of an object whose keys are ids: id, value, path."""
        value = self._object.get(name)
        if not isinstance(value, dict):
            raise self._fail(name, "an object with ids as keys")
        path = self.path(name)
        if not all(_IDENTIFIER.fullmatch(key) for key in value):
            raise self._fail(name, "an object with ids as keys", "another key")
        return ((key, item, f"{path}.{key}") for key, item in value.items())

    def texts(self, name: str, limit: int) -> tuple[str, ...]:
        found = []
        for item, path in self.items(name, limit):
            if not isinstance(item, str) or not item.isprintable() or len(item) > 4096:
                raise MalformedMessage(f"{path}: expected printable text, got {_kind(item)}")
            found.append(item)
        return tuple(found)

    def words(self, name: str, limit: int = 64) -> tuple[str, ...]:
        texts = self.texts(name, limit)
        if not all(_WORD.fullmatch(text) for text in texts):
            raise self._fail(name, "a list of words", "other text")
        return texts

    def identifiers(self, name: str, limit: int) -> tuple[str, ...]:
        texts = self.texts(name, limit)
        if not all(_IDENTIFIER.fullmatch(text) for text in texts):
            raise self._fail(name, "a list of ids", "other text")
        return texts

    def urls(self, name: str) -> tuple[str, ...]:
        texts = self.texts(name, MAX_URLS)
        if not texts or not all(is_coordinator_url(text) for text in texts):
            raise self._fail(name, f"1 to {MAX_URLS} URLs of the form https://HOST[:PORT]", "others")
        return texts

    def prefixes(self, name: str, *, hosts: bool = False) -> tuple[Prefix, ...]:
        """A list of prefixes in canonical text, each once; with `hosts`, single addresses (/32, /128)
        alone.
        """
        found: dict[Prefix, None] = {}
        for text in self.texts(name, MAX_PREFIXES):
            try:
                prefix = ipaddress.ip_network(text)
            except ValueError:
                raise self._fail(name, "prefixes such as 10.1.0.2/32", "other text") from None
            if str(prefix) != text or prefix in found or (hosts and prefix.prefixlen != prefix.max_prefixlen):
                raise self._fail(
                    name, "each prefix once, in canonical form" + (", /32 or /128" if hosts else ""), "others"
                )
            found[prefix] = None
        return tuple(found)

    def endpoints(self, name: str) -> tuple[Endpoint, ...]:
        found = []
        for text in self.texts(name, MAX_ENDPOINTS):
            try:
                endpoint = Endpoint.parse(text)
            except ConfigError:
                raise self._fail(name, "endpoints such as 192.0.2.1:51820", "other text") from None
            if str(endpoint) != text or endpoint.scope_id:
                raise self._fail(name, "endpoints in canonical form, without a zone", "others")
            found.append(endpoint)
        return tuple(found)


MAX_URLS: Final = 8
_URL: Final = re.compile(
    r"https://(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(?::([1-9][0-9]{0,4}))?"
)


def is_coordinator_url(text: str) -> bool:
    """https://HOST or https://HOST:PORT with nothing after it, at most 255 octets of ASCII."""
    match = _URL.fullmatch(text)
    return match is not None and len(text) <= 255 and int(match[1] or 443) <= 65535
