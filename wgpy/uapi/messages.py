"""The cross-platform userspace interface's text: `get` replies, `set` requests, errors. Pure.

www.wireguard.com/xplatform; where it is silent, wireguard-go. docs/uapi.md has the whole of it.
"""

from __future__ import annotations

import errno
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final, Protocol

from wgpy.addresses import Endpoint, PackedPrefixes, Prefix, parse_port, parse_prefix
from wgpy.errors import ConfigError
from wgpy.keys import PresharedKey, PrivateKey, PublicKey

MAX_LINE: Final = 4096
"""Octets in a line, at most; the longest that means something has some 90."""

_KEY: Final = re.compile(r"[0-9a-fA-F]{64}")
_NUMBER: Final = re.compile(r"[0-9]{1,20}", re.ASCII)


class UapiError(Exception):
    """A request that cannot be served; `errno` is positive. The text never repeats a key."""

    def __init__(self, number: int, text: str) -> None:
        self.errno = number
        super().__init__(text)


def encode_status(number: int) -> bytes:
    """The end of every reply. wireguard-go's sign: errors are negative."""
    return f"errno={-number}\n\n".encode()


# --- set ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SetPrivateKey:
    """None: the interface loses its key."""

    key: PrivateKey | None


@dataclass(frozen=True, slots=True)
class SetListenPort:
    """0: any free one."""

    port: int


@dataclass(frozen=True, slots=True)
class SetFwmark:
    """0: none."""

    mark: int


@dataclass(frozen=True, slots=True)
class ReplacePeers:
    """Remove all peers."""


@dataclass(frozen=True, slots=True)
class SelectPeer:
    """What follows is about this peer, which is made if it is not there."""

    public_key: PublicKey


@dataclass(frozen=True, slots=True)
class UpdateOnly:
    """A peer that was not there before is not to be made: what follows about it has no effect."""


@dataclass(frozen=True, slots=True)
class RemovePeer:
    """Remove the selected peer: what follows about it has no effect."""


@dataclass(frozen=True, slots=True)
class SetPresharedKey:
    key: PresharedKey


@dataclass(frozen=True, slots=True)
class SetEndpoint:
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class SetPersistentKeepalive:
    """0: off."""

    seconds: int


@dataclass(frozen=True, slots=True)
class ReplaceAllowedIps:
    """The allowed IPs that follow are all the peer has."""


@dataclass(frozen=True, slots=True)
class AddAllowedIp:
    prefix: Prefix


@dataclass(frozen=True, slots=True)
class RemoveAllowedIp:
    prefix: Prefix


@dataclass(frozen=True, slots=True)
class SetProtocolVersion:
    """There is one version: 1."""


DeviceOperation = SetPrivateKey | SetListenPort | SetFwmark | ReplacePeers
PeerOperation = (
    UpdateOnly
    | RemovePeer
    | SetPresharedKey
    | SetEndpoint
    | SetPersistentKeepalive
    | ReplaceAllowedIps
    | AddAllowedIp
    | RemoveAllowedIp
    | SetProtocolVersion
)
Operation = DeviceOperation | SelectPeer | PeerOperation


class SetParser:
    """Reads the lines of one `set` request in their order: device keys first, then a section for each peer.

    `zone_index` gives the interface index of the zone in `[fe80::1%eth0]:51820`, or raises OSError.
    """

    def __init__(self, zone_index: Callable[[str], int]) -> None:
        self._zone_index = zone_index
        self._in_peer = False

    def parse_line(self, line: str) -> Operation:
        """What one line, without its newline, asks for. Raises UapiError: EPROTO, EINVAL."""
        key, separator, value = line.partition("=")
        if not separator:
            raise UapiError(errno.EPROTO, "a line is KEY=VALUE; got one without =")
        if key == "public_key":
            self._in_peer = True
            return SelectPeer(PublicKey(_key(key, value)))
        try:
            return self._peer_line(key, value) if self._in_peer else _device_line(key, value)
        except ConfigError as error:
            raise UapiError(errno.EINVAL, f"{key}: {error}") from error

    def _peer_line(self, key: str, value: str) -> PeerOperation:
        match key:
            case "allowed_ip" if value.startswith("-"):
                return RemoveAllowedIp(_prefix(value[1:]))
            case "allowed_ip":
                return AddAllowedIp(_prefix(value))
            case "endpoint":
                return SetEndpoint(parse_endpoint(value, self._zone_index))
            case "preshared_key":
                return SetPresharedKey(PresharedKey(_key(key, value)))
            case "persistent_keepalive_interval":
                return SetPersistentKeepalive(_number(key, value, 65535))
            case "replace_allowed_ips":
                _check_true(key, value)
                return ReplaceAllowedIps()
            case "update_only":
                _check_true(key, value)
                return UpdateOnly()
            case "remove":
                _check_true(key, value)
                return RemovePeer()
            case "protocol_version" if value == "1":
                return SetProtocolVersion()
            case "protocol_version":
                raise UapiError(errno.EINVAL, "protocol_version: there is only version 1")
        raise UapiError(errno.EINVAL, f"no peer has the key {key[:40]!r}")


def _device_line(key: str, value: str) -> DeviceOperation:
    match key:
        case "private_key":
            private = PrivateKey(_key(key, value))
            return SetPrivateKey(None if private.is_zero() else private)
        case "listen_port":
            return SetListenPort(_number(key, value, 65535))
        case "fwmark":
            return SetFwmark(_number(key, value, 0xFFFFFFFF))
        case "replace_peers":
            _check_true(key, value)
            return ReplacePeers()
    raise UapiError(errno.EINVAL, f"no device has the key {key[:40]!r}")


def _key(key: str, value: str) -> bytes:
    if not _KEY.fullmatch(value):
        raise UapiError(errno.EINVAL, f"{key}: a key is 64 hexadecimal digits; got {len(value)} characters")
    return bytes.fromhex(value)


def _number(key: str, value: str, maximum: int) -> int:
    if not _NUMBER.fullmatch(value) or int(value) > maximum:
        raise UapiError(errno.EINVAL, f"{key}: a number from 0 to {maximum} was expected")
    return int(value)


def _check_true(key: str, value: str) -> None:
    if value != "true":
        raise UapiError(errno.EINVAL, f"{key}: its one value is true")


def _prefix(value: str) -> Prefix:
    if "/" not in value or "%" in value:
        raise UapiError(errno.EINVAL, "allowed_ip: ADDRESS/LENGTH was expected, such as 10.0.0.0/24")
    return parse_prefix(value)


def parse_endpoint(value: str, zone_index: Callable[[str], int]) -> Endpoint:
    """`192.0.2.1:51820`, `[2001:db8::1]:51820`, `[fe80::1%eth0]:51820`; an IPv4-mapped address becomes IPv4.

    Raises ConfigError.
    """
    host, _, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]") and "%" in host:
        address, _, zone = host[1:-1].partition("%")
        try:
            index = int(zone) if zone.isascii() and zone.isdigit() else zone_index(zone)
            endpoint = Endpoint(IPv6Address(address), parse_port(port), index)
        except (OSError, ValueError):
            raise ConfigError("the zone of an endpoint is an interface's name or index") from None
    else:
        endpoint = Endpoint.parse(value)
    if isinstance(endpoint.address, IPv6Address) and endpoint.address.ipv4_mapped is not None:
        return Endpoint(endpoint.address.ipv4_mapped, endpoint.port)
    return endpoint


def encode_set(operations: Iterable[Operation]) -> bytes:
    """The request that asks for these operations."""
    return "".join(["set=1\n", *(f"{_set_line(operation)}\n" for operation in operations), "\n"]).encode()


def _set_line(operation: Operation) -> str:
    match operation:
        case SetPrivateKey(key):
            return f"private_key={key.to_hex() if key is not None else '0' * 64}"
        case SetListenPort(port):
            return f"listen_port={port}"
        case SetFwmark(mark):
            return f"fwmark={mark}"
        case ReplacePeers():
            return "replace_peers=true"
        case SelectPeer(public_key):
            return f"public_key={bytes(public_key).hex()}"
        case UpdateOnly():
            return "update_only=true"
        case RemovePeer():
            return "remove=true"
        case SetPresharedKey(preshared):
            return f"preshared_key={preshared.to_hex()}"
        case SetEndpoint(endpoint):
            return f"endpoint={endpoint}"
        case SetPersistentKeepalive(seconds):
            return f"persistent_keepalive_interval={seconds}"
        case ReplaceAllowedIps():
            return "replace_allowed_ips=true"
        case AddAllowedIp(prefix):
            return f"allowed_ip={prefix}"
        case RemoveAllowedIp(prefix):
            return f"allowed_ip=-{prefix}"
        case SetProtocolVersion():
            return "protocol_version=1"


# --- get ------------------------------------------------------------------------------------------


class PeerView(Protocol):
    """What a `get` reply says of a peer; the core's PeerStatus has it, and so has PeerReport."""

    @property
    def public_key(self) -> PublicKey: ...
    @property
    def preshared_key(self) -> PresharedKey: ...
    @property
    def endpoint(self) -> Endpoint | None: ...
    @property
    def last_handshake_ns(self) -> int: ...
    @property
    def rx_bytes(self) -> int: ...
    @property
    def tx_bytes(self) -> int: ...
    @property
    def persistent_keepalive(self) -> int: ...
    @property
    def allowed_ips(self) -> Sequence[Prefix]: ...


@dataclass(frozen=True, slots=True)
class PeerReport:
    """A peer as a `get` reply tells it. `last_handshake_ns`: Unix time, 0 for never."""

    public_key: PublicKey
    preshared_key: PresharedKey
    endpoint: Endpoint | None
    last_handshake_ns: int
    rx_bytes: int
    tx_bytes: int
    persistent_keepalive: int
    allowed_ips: Sequence[Prefix]


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """A device as a `get` reply tells it. `listen_port` 0: not bound; `fwmark` 0: none."""

    private_key: PrivateKey | None
    listen_port: int
    fwmark: int
    peers: Sequence[PeerView]


def get_lines(device: DeviceReport) -> Iterator[str]:
    """The lines of a `get` reply, without newlines and without the status."""
    if device.private_key is not None:
        yield f"private_key={device.private_key.to_hex()}"
    if device.listen_port:
        yield f"listen_port={device.listen_port}"
    if device.fwmark:
        yield f"fwmark={device.fwmark}"
    for peer in device.peers:
        seconds, nanoseconds = divmod(peer.last_handshake_ns, 1_000_000_000)
        yield f"public_key={bytes(peer.public_key).hex()}"
        yield f"preshared_key={peer.preshared_key.to_hex()}"
        yield "protocol_version=1"
        if peer.endpoint is not None:
            yield f"endpoint={peer.endpoint}"
        yield f"last_handshake_time_sec={seconds}"
        yield f"last_handshake_time_nsec={nanoseconds}"
        yield f"tx_bytes={peer.tx_bytes}"
        yield f"rx_bytes={peer.rx_bytes}"
        yield f"persistent_keepalive_interval={peer.persistent_keepalive}"
        for text in PackedPrefixes.of(peer.allowed_ips).texts():
            yield f"allowed_ip={text}"


def parse_get(reply: str, zone_index: Callable[[str], int]) -> DeviceReport:
    """Read a whole `get` reply, ours or another implementation's; keys we do not know are passed over.

    Raises UapiError with the reply's errno, or EPROTO for a reply that makes no sense.
    """
    device: dict[str, str] = {}
    peers: list[tuple[dict[str, str], list[Prefix]]] = []
    fields = device
    try:
        for line in reply.splitlines():
            key, separator, value = line.partition("=")
            if not line or not separator:
                continue
            if key == "public_key":
                peers.append(({}, []))
                fields = peers[-1][0]
            if key == "allowed_ip" and peers:
                peers[-1][1].append(ipaddress.ip_network(value, strict=False))
            elif key == "errno" and int(value):
                raise UapiError(abs(int(value)), "the device refused")
            else:
                fields[key] = value
        private = PrivateKey.from_hex(device.get("private_key", "0" * 64))
        return DeviceReport(
            private_key=None if private.is_zero() else private,
            listen_port=int(device.get("listen_port", 0)),
            fwmark=int(device.get("fwmark", 0)),
            peers=[_parse_peer(fields, prefixes, zone_index) for fields, prefixes in peers],
        )
    except (ValueError, ConfigError) as error:
        raise UapiError(errno.EPROTO, f"the device's reply makes no sense: {error}") from error


def _parse_peer(
    fields: dict[str, str], prefixes: list[Prefix], zone_index: Callable[[str], int]
) -> PeerReport:
    seconds, nanoseconds = (int(fields.get(f"last_handshake_time_{unit}", 0)) for unit in ("sec", "nsec"))
    return PeerReport(
        public_key=PublicKey.from_hex(fields["public_key"]),
        preshared_key=PresharedKey.from_hex(fields.get("preshared_key", "0" * 64)),
        endpoint=parse_endpoint(fields["endpoint"], zone_index) if "endpoint" in fields else None,
        last_handshake_ns=seconds * 1_000_000_000 + nanoseconds,
        rx_bytes=int(fields.get("rx_bytes", 0)),
        tx_bytes=int(fields.get("tx_bytes", 0)),
        persistent_keepalive=int(fields.get("persistent_keepalive_interval", 0)),
        allowed_ips=prefixes,
    )
