"""wg-quick's configuration file: reading, and writing back. Pure.

The format is wg-quick(8)'s and wg(8)'s: [Interface] and [Peer] sections, `Key = value`, keys in any case, `#`
and what follows it is a comment; of a key with one value the last counts, one with a list grows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from typing import Final, Literal

from wgpy.addresses import (
    Endpoint,
    IPAddress,
    Prefix,
    parse_interface_address,
    parse_port,
    parse_prefix,
)
from wgpy.errors import ConfigError
from wgpy.keys import PresharedKey, PrivateKey, PublicKey

_TABLES: Final = {"default": 253, "main": 254, "local": 255}
_HOST: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")
_NO_KEY: Final = PublicKey(bytes(32))
"""Stands for a key that has not come yet; compared by identity."""


@dataclass(frozen=True, slots=True)
class NamedEndpoint:
    """An endpoint that the host has to look up: by name, or with a zone (`fe80::1%eth0`)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(slots=True)
class PeerConfig:
    """A [Peer] section, which begins at `line`. Keepalive in seconds, 0: off."""

    public_key: PublicKey
    preshared_key: PresharedKey = field(default_factory=PresharedKey.zero)
    endpoint: Endpoint | NamedEndpoint | None = None
    persistent_keepalive: int = 0
    allowed_ips: list[Prefix] = field(default_factory=list)
    line: int = field(default=0, compare=False)


@dataclass(slots=True)
class TunnelConfig:
    """A whole file.

    `listen_port` 0: any. `fwmark` 0: none. `mtu` None: from the path to the endpoints. `table` "auto": the
    main table, and policy routing for a default route; "off": no routes.
    """

    private_key: PrivateKey | None = None
    listen_port: int = 0
    fwmark: int = 0
    addresses: list[IPv4Interface | IPv6Interface] = field(default_factory=list)
    dns: list[IPAddress | str] = field(default_factory=list)
    """Servers (addresses) and search domains (names), as they came."""
    mtu: int | None = None
    table: int | Literal["auto", "off"] = "auto"
    pre_up: list[str] = field(default_factory=list)
    post_up: list[str] = field(default_factory=list)
    pre_down: list[str] = field(default_factory=list)
    post_down: list[str] = field(default_factory=list)
    save_config: bool = False
    peers: list[PeerConfig] = field(default_factory=list)


def parse_config(text: str, source: str) -> TunnelConfig:
    """Read a file's text. Raises ConfigError with `source` and the line; it never repeats a key."""
    config = TunnelConfig()
    section: TunnelConfig | PeerConfig | None = None
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = raw.partition("#")[0].strip()
        try:
            if line.startswith("["):
                section = _open_section(line, config, number)
            elif line and section is None:
                raise ConfigError("a file begins with [Interface] or [Peer]; this comes before either")
            elif line and section is not None:
                _read_line(line, section)
        except ConfigError as error:
            raise ConfigError(str(error), source=source, line=number) from None
    for peer in config.peers:
        if peer.public_key is _NO_KEY:
            raise ConfigError("a [Peer] has a PublicKey; this one has none", source=source, line=peer.line)
    return config


def _open_section(line: str, config: TunnelConfig, number: int) -> TunnelConfig | PeerConfig:
    match line.lower():
        case "[interface]":
            return config
        case "[peer]":
            config.peers.append(PeerConfig(_NO_KEY, line=number))
            return config.peers[-1]
    raise ConfigError(f"a section is [Interface] or [Peer]; got {line[:40]!r}")


def _read_line(line: str, section: TunnelConfig | PeerConfig) -> None:
    key, separator, value = (part.strip() for part in line.partition("="))
    if not separator:
        raise ConfigError(f"a line is KEY = VALUE; got {len(line)} characters without =")
    ours, others = (_INTERFACE, _PEER) if isinstance(section, TunnelConfig) else (_PEER, _INTERFACE)
    name = "[Interface]" if isinstance(section, TunnelConfig) else "[Peer]"
    if key.lower() not in ours:
        hint = "; it belongs to the other kind of section" if key.lower() in others else ""
        # What is no word may be a secret on the wrong line.
        shown = repr(key) if re.fullmatch("[A-Za-z]{1,24}", key) else f"of these {len(key)} characters"
        raise ConfigError(f"{name} has no key {shown}{hint}")
    attribute, read = ours[key.lower()]
    try:
        read_value = read(value)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None
    if isinstance(read_value, list):
        getattr(section, attribute).extend(read_value)
    else:
        setattr(section, attribute, read_value)


# --- values ----------------------------------------------------------------------------------------


def _items(value: str) -> Iterator[str]:
    """The parts of a list: commas and spaces part them."""
    return iter(value.replace(",", " ").split())


def _number(
    maximum: int, minimum: int = 0, *, off: bool = False, hexadecimal: bool = False
) -> Callable[[str], int]:
    pattern = re.compile(r"[0-9]{1,10}|0[xX][0-9a-fA-F]{1,8}" if hexadecimal else r"[0-9]{1,10}", re.ASCII)

    def read(value: str) -> int:
        if off and value.lower() == "off":
            return 0
        if pattern.fullmatch(value):
            number = int(value, 16 if value[:2].lower() == "0x" else 10)
            if minimum <= number <= maximum:
                return number
        also = f"{', or 0x and hexadecimal digits' if hexadecimal else ''}{', or off' if off else ''}"
        raise ConfigError(f"a number from {minimum} to {maximum}{also} was expected; got {value[:40]!r}")

    return read


def _private_key(value: str) -> PrivateKey | None:
    key = PrivateKey.from_base64(value)
    return None if key.is_zero() else key


def _addresses(value: str) -> list[IPv4Interface | IPv6Interface]:
    return [parse_interface_address(item) for item in _items(value)]


def _dns(value: str) -> list[IPAddress | str]:
    found: list[IPAddress | str] = []
    for item in _items(value):
        try:
            found.append(ip_address(item))
        except ValueError:
            if not _HOST.fullmatch(item) or not re.search("[A-Za-z]", item):
                raise ConfigError(
                    f"a server's address or a search domain was expected; got {item!r}"
                ) from None
            found.append(item)
    return found


def _table(value: str) -> int | Literal["auto", "off"]:
    match value.lower():
        case "auto":
            return "auto"
        case "off":
            return "off"
        case name if name in _TABLES:
            return _TABLES[name]
    try:
        return _number(0xFFFFFFFF, 1, hexadecimal=True)(value)
    except ConfigError:
        raise ConfigError(f"a table's number, main, auto or off was expected; got {value[:40]!r}") from None


def _command(value: str) -> list[str]:
    return [value] if value else []


def _boolean(value: str) -> bool:
    if value not in ("true", "false"):
        raise ConfigError(f"true or false was expected; got {value[:40]!r}")
    return value == "true"


def _endpoint(value: str) -> Endpoint | NamedEndpoint:
    host, separator, port = value.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not separator or (":" in bare) != (bare != host):
        raise ConfigError(f"HOST:PORT or [IPV6-ADDRESS]:PORT was expected; got {value[:80]!r}")
    number = parse_port(port)
    try:
        return Endpoint.parse(value)
    except ConfigError:
        zoned = re.fullmatch(r"[0-9a-fA-F:.]+%[^\s%/\]]{1,15}", bare)
        named = _HOST.fullmatch(host) and re.search("[A-Za-z]", host)
        if named if bare == host else zoned:
            return NamedEndpoint(bare, number)
        raise ConfigError(f"an address or a name before the port was expected; got {value[:80]!r}") from None


def _prefixes(value: str) -> list[Prefix]:
    return [parse_prefix(item) for item in _items(value)]


_INTERFACE: Final[dict[str, tuple[str, Callable[[str], object]]]] = {
    "privatekey": ("private_key", _private_key),
    "listenport": ("listen_port", _number(65535)),
    "fwmark": ("fwmark", _number(0xFFFFFFFF, off=True, hexadecimal=True)),
    "address": ("addresses", _addresses),
    "dns": ("dns", _dns),
    "mtu": ("mtu", _number(65535, 576)),
    "table": ("table", _table),
    "preup": ("pre_up", _command),
    "postup": ("post_up", _command),
    "predown": ("pre_down", _command),
    "postdown": ("post_down", _command),
    "saveconfig": ("save_config", _boolean),
}
"""Keys of [Interface]: the attribute each sets, and how it is read."""

_PEER: Final[dict[str, tuple[str, Callable[[str], object]]]] = {
    "publickey": ("public_key", PublicKey.from_base64),
    "presharedkey": ("preshared_key", PresharedKey.from_base64),
    "endpoint": ("endpoint", _endpoint),
    "persistentkeepalive": ("persistent_keepalive", _number(65535, off=True)),
    "allowedips": ("allowed_ips", _prefixes),
}
"""Keys of [Peer]."""


# --- writing ----------------------------------------------------------------------------------------


def encode_config(config: TunnelConfig) -> str:
    """The text of a file that says this. It has the private key in it: for a file of mode 0600."""
    return (
        "\n\n".join(
            "\n".join(lines) for lines in [list(_interface_lines(config)), *map(_peer_lines, config.peers)]
        )
        + "\n"
    )


def _interface_lines(config: TunnelConfig) -> Iterator[str]:
    yield "[Interface]"
    for address in config.addresses:
        yield f"Address = {address}"
    for entry in config.dns:
        yield f"DNS = {entry}"
    if config.mtu is not None:
        yield f"MTU = {config.mtu}"
    if config.table != "auto":
        yield f"Table = {config.table}"
    if config.save_config:
        yield "SaveConfig = true"
    for key, commands in (
        ("PreUp", config.pre_up),
        ("PostUp", config.post_up),
        ("PreDown", config.pre_down),
        ("PostDown", config.post_down),
    ):
        for command in commands:
            yield f"{key} = {command}"
    if config.listen_port:
        yield f"ListenPort = {config.listen_port}"
    if config.fwmark:
        yield f"FwMark = {config.fwmark:#x}"
    if config.private_key is not None:
        yield f"PrivateKey = {config.private_key.to_base64()}"


def _peer_lines(peer: PeerConfig) -> list[str]:
    lines = ["[Peer]", f"PublicKey = {peer.public_key}"]
    if not peer.preshared_key.is_zero():
        lines.append(f"PresharedKey = {peer.preshared_key.to_base64()}")
    if peer.allowed_ips:
        lines.append(f"AllowedIPs = {', '.join(map(str, peer.allowed_ips))}")
    if peer.endpoint is not None:
        lines.append(f"Endpoint = {peer.endpoint}")
    if peer.persistent_keepalive:
        lines.append(f"PersistentKeepalive = {peer.persistent_keepalive}")
    return lines
