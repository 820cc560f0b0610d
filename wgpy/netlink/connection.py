"""A connection to the kernel's routing netlink: requests in batches, dumps, errors in words.

Synchronous, also inside a trio program: a request takes some 50 µs (a route in a batch 6) and never waits for
anything but the kernel's lock. A dump of all routes where there are many is the exception: filter it.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection, Iterable, Iterator, Sequence
from ipaddress import IPv4Interface, IPv6Interface
from types import TracebackType
from typing import Final, Self

from wgpy.addresses import IPAddress
from wgpy.errors import HostError
from wgpy.netlink import address as _address
from wgpy.netlink import link as _link
from wgpy.netlink import route as _route
from wgpy.netlink import rule as _rule
from wgpy.netlink.codec import (
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    Message,
    Request,
    parse_error,
    parse_messages,
)
from wgpy.netlink.namespace import enter_to_make

_SOL_NETLINK: Final = 270
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_NETLINK_GET_STRICT_CHK: Final = 12
_BATCH: Final = 100
_DATAGRAM: Final = 1 << 16
_TIMEOUT: Final = 10.0
_DUMP_TRIES: Final = 8


class NetlinkError(HostError):
    """The kernel refuses a request; `errno` says how."""

    def __init__(self, what: str, number: int, detail: str = "") -> None:
        self.errno = number
        advice = "; it takes root or CAP_NET_ADMIN" if number == errno.EPERM else ""
        more = f" ({detail.strip().rstrip('.')})" if detail else ""
        super().__init__(f"{what}: {os.strerror(number)}{more}{advice}")


def open_socket(groups: int = 0, namespace: int | None = None) -> socket.socket:
    """A routing netlink socket, of the network namespace whose descriptor is given. Raises OSError."""

    def make() -> socket.socket:
        connection = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        try:
            connection.bind((0, groups))
        except BaseException:
            connection.close()
            raise
        return connection

    return make() if namespace is None else enter_to_make(namespace, make)


class Netlink:
    """A connection for requests; `namespace` is the descriptor of another network namespace to work in."""

    def __init__(self, namespace: int | None = None) -> None:
        try:
            self._socket = open_socket(namespace=namespace)
        except OSError as error:
            raise NetlinkError("opening a netlink socket", error.errno or errno.EIO) from error
        self._socket.settimeout(_TIMEOUT)
        self._sequence = 0
        for option in (_NETLINK_EXT_ACK, _NETLINK_CAP_ACK, _NETLINK_GET_STRICT_CHK):
            try:
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            except OSError as error:
                # Old kernels have terser errors and filter no dumps; nothing here depends on either.
                if error.errno != errno.ENOPROTOOPT:
                    raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    # --- asking

    def apply(self, requests: Iterable[Request], *, ignore: Collection[int] = ()) -> None:
        """Make all the changes, in order, whichever fail; then raise NetlinkError for the first that did.

        Errors whose errno is in `ignore` are none.
        """
        waiting = list(requests)
        errors = [
            self._apply_batch(waiting[start : start + _BATCH], ignore)
            for start in range(0, len(waiting), _BATCH)
        ]
        failed = next((error for error in errors if error is not None), None)
        if failed is not None:
            raise failed

    def _apply_batch(self, batch: Sequence[Request], ignore: Collection[int]) -> NetlinkError | None:
        first = self._sequence + 1
        self._sequence += len(batch)
        self._socket.send(b"".join(request.encode(first + i) for i, request in enumerate(batch)))
        waiting = len(batch)
        failed = None
        while waiting:
            for message in self._receive(batch[0]):
                place = message.sequence - first
                if message.kind != NLMSG_ERROR or not 0 <= place < len(batch):
                    continue
                waiting -= 1
                number, detail = parse_error(message)
                if number and number not in ignore and failed is None:
                    failed = NetlinkError(batch[place].what, number, detail)
        return failed

    def ask(self, request: Request) -> list[Message]:
        """The messages that answer: one, or all of a dump. Raises NetlinkError."""
        for _ in range(_DUMP_TRIES):
            answer, interrupted = self._ask_once(request)
            if not interrupted:
                return answer
        # Changed under our hands eight times over: a table that busy is never seen whole.
        return answer

    def _ask_once(self, request: Request) -> tuple[list[Message], bool]:
        self._sequence += 1
        self._socket.send(request.encode(self._sequence))
        answer: list[Message] = []
        interrupted = False
        while True:
            for message in self._receive(request):
                if message.sequence != self._sequence:
                    continue
                if message.kind == NLMSG_ERROR:
                    number, detail = parse_error(message)
                    raise NetlinkError(request.what, number, detail)
                interrupted |= bool(message.flags & NLM_F_DUMP_INTR)
                if message.kind == NLMSG_DONE:
                    return answer, interrupted
                answer.append(message)
                if not request.flags & NLM_F_DUMP:
                    return answer, False

    def _receive(self, request: Request) -> Iterator[Message]:
        try:
            return parse_messages(self._socket.recv(_DATAGRAM))
        except TimeoutError as error:
            raise NetlinkError(request.what, errno.ETIMEDOUT) from error

    # --- links

    def links(self) -> list[_link.Link]:
        return [_link.parse_link(message) for message in self.ask(_link.get_links())]

    def find_link(self, name_or_index: str | int) -> _link.Link | None:
        """None when there is none."""
        try:
            return _link.parse_link(self.ask(_link.get_link(name_or_index))[0])
        except NetlinkError as error:
            if error.errno in (errno.ENODEV, errno.ENXIO):
                return None
            raise

    def link(self, name_or_index: str | int) -> _link.Link:
        """Raises NetlinkError when there is none."""
        return _link.parse_link(self.ask(_link.get_link(name_or_index))[0])

    def set_link(
        self, index: int, *, up: bool | None = None, mtu: int | None = None, name: str | None = None
    ) -> None:
        self.apply([_link.set_link(index, up=up, mtu=mtu, name=name)])

    def delete_link(self, index: int) -> None:
        self.apply([_link.delete_link(index)])

    # --- addresses

    def addresses(self, index: int | None = None) -> list[_address.Address]:
        """Of one interface, or of all."""
        found = [_address.parse_address(m) for m in self.ask(_address.get_addresses(index or 0))]
        return [a for a in found if a is not None and index in (None, a.index)]

    def add_address(self, index: int, address: IPv4Interface | IPv6Interface) -> None:
        """One that is there already is no error."""
        self.apply([_address.add_address(index, address)])

    def delete_address(self, index: int, address: IPv4Interface | IPv6Interface) -> None:
        """One that is not there is no error."""
        self.apply([_address.delete_address(index, address)], ignore=[errno.EADDRNOTAVAIL])

    # --- routes

    def routes(
        self, version: int, *, table: int | None = None, interface: int | None = None
    ) -> list[_route.Route]:
        """Unicast routes of one IP version (4 or 6), of one table or interface when they are given."""
        try:
            answer = self.ask(_route.get_routes(version, table=table or 0, interface=interface or 0))
        except NetlinkError as error:
            if error.errno == errno.ENOENT:  # strict checking: there is no such table
                return []
            raise
        found = [_route.parse_route(message) for message in answer]
        return [
            r
            for r in found
            if r is not None and table in (None, r.table) and interface in (None, r.interface)
        ]

    def route_to(self, address: IPAddress, *, mark: int = 0) -> _route.Route | None:
        """How a packet to `address` with that firewall mark would leave; None when it would not."""
        try:
            return _route.parse_route(self.ask(_route.get_route_to(address, mark=mark))[0])
        except NetlinkError as error:
            if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL):
                return None
            raise

    def add_route(self, route: _route.Route) -> None:
        """An equal route (prefix, table, metric) that is there already is an error."""
        self.apply([_route.add_route(route)])

    def replace_route(self, route: _route.Route) -> None:
        self.apply([_route.replace_route(route)])

    def delete_route(self, route: _route.Route) -> None:
        """One that is not there is no error."""
        self.apply([_route.delete_route(route)], ignore=[errno.ESRCH])

    # --- rules

    def rules(self, version: int) -> list[_rule.Rule]:
        found = [_rule.parse_rule(message) for message in self.ask(_rule.get_rules(version))]
        return [rule for rule in found if rule is not None]

    def add_rule(self, rule: _rule.Rule) -> None:
        self.apply([_rule.add_rule(rule)])

    def delete_rule(self, rule: _rule.Rule) -> None:
        """One that is not there is no error."""
        self.apply([_rule.delete_rule(rule)], ignore=[errno.ENOENT])
