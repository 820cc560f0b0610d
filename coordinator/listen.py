"""Where the coordinator listens, and under which URLs nodes are told to reach it."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import socket
import struct
from dataclasses import dataclass
from typing import Final

from wgpy.addresses import Endpoint, IPAddress, parse_port
from wgpy.errors import ConfigError, HostError

PREFERRED_PORT: Final = 443
UNPRIVILEGED_PORT: Final = 8443

_ANYWHERE: Final = {"": None, "*": None, "0.0.0.0": "0.0.0.0", "::": None, "[::]": None}


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """`host` None: every address of both families."""

    host: str | None
    port: int

    @classmethod
    def parse(cls, text: str) -> ListenAddress:
        """ADDRESS:PORT, [ADDRESS]:PORT, :PORT or PORT; port 0 takes any. Raises ConfigError."""
        host, separator, port_text = text.rpartition(":")
        if not separator and not text.isdigit():
            raise ConfigError(f"--listen is ADDRESS:PORT, :PORT or [ADDRESS]:PORT; got {text!r}")
        port = 0 if port_text == "0" else parse_port(port_text)
        if host in _ANYWHERE:
            return cls(_ANYWHERE[host], port)
        try:
            return cls(str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))), port)
        except ValueError:
            raise ConfigError(f"--listen takes an IP address of this host; got {host!r}") from None

    def __str__(self) -> str:
        if self.host is None:
            return f"every address, port {self.port}"
        return (
            str(Endpoint(ipaddress.ip_address(self.host), self.port))
            if self.port
            else f"{self.host}, any port"
        )


def open_listener(wanted: ListenAddress | None) -> tuple[socket.socket, str | None]:
    """A listening TCP socket, and why it is not on port 443, when nothing else was asked for.

    Raises HostError with a line for a person.
    """
    if wanted is not None:
        try:
            return _listen(wanted), None
        except OSError as error:
            raise HostError(f"cannot listen on {wanted}: {_reason(error)}") from None
    try:
        return _listen(ListenAddress(None, PREFERRED_PORT)), None
    except OSError as error:
        why = f"port {PREFERRED_PORT}: {_reason(error)}"
    try:
        return _listen(ListenAddress(None, UNPRIVILEGED_PORT)), why
    except OSError as error:
        raise HostError(
            f"cannot listen on {why}, nor on port {UNPRIVILEGED_PORT}: {_reason(error)}; "
            "name another with --listen"
        ) from None


def _reason(error: OSError) -> str:
    match error.errno:
        case errno.EACCES:
            return "this user may not take ports below 1024"
        case errno.EADDRINUSE:
            return "it is in use by another program"
        case errno.EADDRNOTAVAIL:
            return "this host has no such address"
    return error.strerror or str(error)


def _listen(wanted: ListenAddress) -> socket.socket:
    if wanted.host is not None:
        family = socket.AF_INET6 if ":" in wanted.host else socket.AF_INET
        return _bound(family, wanted.host, wanted.port)
    try:
        return _bound(socket.AF_INET6, "::", wanted.port)
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        return _bound(socket.AF_INET, "0.0.0.0", wanted.port)  # a host without IPv6


_TCP_USER_TIMEOUT: Final = 18
UNANSWERED_TIMEOUT: Final = 20
"""Seconds without a word to what was sent, after which a connection is over."""


def _bound(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Handed on to what is accepted: a host that lost its power would else count as there for a quarter
        # of an hour, for as long as the kernel repeats what we send it.
        listener.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, UNANSWERED_TIMEOUT * 1000)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
        listener.listen(2048)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def local_url(listener: socket.socket, *, tls: bool = True) -> str:
    """How a program on this host reaches the listener."""
    address, port = _bound_to(listener)
    if address.is_unspecified:
        loopback = "::1" if address.version == 6 and not _takes_ipv4(listener) else "127.0.0.1"
        address = ipaddress.ip_address(loopback)
    return _url(address, port) if tls else f"http://{Endpoint(address, port)}"


def guessed_urls(listener: socket.socket) -> tuple[str, ...]:
    """How other hosts may reach it, when nobody told us: the addresses that this host sends from."""
    address, port = _bound_to(listener)
    if not address.is_unspecified:
        return (_url(address, port),)
    found = dict.fromkeys(
        own for own in map(_source_address, ("192.0.2.1", "2001:db8::1")) if own is not None
    )
    if not found:  # no default route: whatever the interfaces have
        found.update(dict.fromkeys(_interface_addresses()))
    usable = [own for own in found if not own.is_loopback and not own.is_link_local]
    return tuple(_url(own, port) for own in usable[:4]) or (local_url(listener),)


def _bound_to(listener: socket.socket) -> tuple[IPAddress, int]:
    host, port = listener.getsockname()[:2]
    return ipaddress.ip_address(host), port


def _takes_ipv4(listener: socket.socket) -> bool:
    return not listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def _url(address: IPAddress, port: int) -> str:
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"https://{host}" if port == PREFERRED_PORT else f"https://{host}:{port}"


def _source_address(towards: str) -> IPAddress | None:
    """The address that the routing table picks; nothing is sent."""
    family = socket.AF_INET6 if ":" in towards else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((towards, 9))
        except OSError:
            return None
        return ipaddress.ip_address(probe.getsockname()[0])


def _interface_addresses() -> list[IPAddress]:
    """IPv4 addresses of the interfaces: what a host without a default route still has."""
    siocgifaddr = 0x8915
    found: list[IPAddress] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _index, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(probe.fileno(), siocgifaddr, request)
            except OSError:
                continue  # it has no IPv4 address
            found.append(ipaddress.IPv4Address(answer[20:24]))
    return found
