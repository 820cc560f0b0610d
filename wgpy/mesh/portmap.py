"""A port of the router's for the tunnel: asked for by PCP (RFC 6887) or NAT-PMP (RFC 6886), renewed, given
back. Pure.

PCP is tried first; a router that knows NAT-PMP alone says so, or is silent and is asked that way then. A
mapping is renewed at half its life, and at once when the router has forgotten its own (its epoch went back).
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, Literal

from wgpy.addresses import Endpoint

PORT: Final = 5351
"""Where routers listen for both."""
LIFETIME: Final = 7200
"""Seconds for which a mapping is asked."""
NONCE_SIZE: Final = 12
REQUEST_TIMES: Final = (0.0, 0.25, 0.75)
"""Seconds after the first request at which it is repeated; half a second after the last it is given up."""
ABSENT_INTERVAL: Final = 600.0
"""Seconds until a router that answered nothing is asked again."""
MIN_RENEWAL: Final = 30.0
"""Seconds between two renewals, however short a life a router gives."""

Method = Literal["PCP", "NAT-PMP", "UPnP-IGD"]

_UDP: Final = 17
_PCP_VERSION: Final = 2
_PCP_MAP: Final = 1
_ANSWER: Final = 0x80
_PCP_REQUEST: Final = struct.Struct("!BBxxI16s12sBxxxHH16s")
_PCP_ANSWER: Final = struct.Struct("!BBxBII12x12sBxxxHH16s")
_PMP_MAP: Final = 1
_PMP_REQUEST: Final = struct.Struct("!BBxxHHI")
_PMP_ANSWER: Final = struct.Struct("!BBHIHHI")
_PMP_ADDRESS: Final = struct.Struct("!BBHI4s")
_UNSUPPORTED_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class PortMapping:
    """`external` leads to the tunnel's port until `expires_at`."""

    method: Method
    external: Endpoint
    expires_at: float


class PortMapper:
    """For one router at a time. `random_nonce` gives 12 random octets."""

    def __init__(self, random_nonce: Callable[[], bytes]) -> None:
        self.requests: list[bytes] = []
        """What is to be sent to the router's port; whoever sends it takes it away."""
        self.mapping: PortMapping | None = None
        self._random_nonce = random_nonce
        self._nonce = b""
        self._own: IPv4Address | None = None
        self._port = 0
        self._method: Method = "PCP"
        self._external_address: IPv4Address | None = None
        self._asked = 0
        self._next_at: float | None = None
        self._epoch: tuple[int, float] | None = None

    # --- what is asked --------------------------------------------------------------------------------------

    def begin(self, own: IPv4Address | None, port: int, now: float) -> None:
        """Ask for our `port` at our address `own`; None: there is no router. What was before is forgotten."""
        self.mapping, self._epoch = None, None
        self._own, self._port = own, port
        self._nonce = self._random_nonce()
        self._next_at = None
        if own is not None:
            self._ask_by("PCP", now)

    def release(self) -> bytes | None:
        """The request that gives the mapping back; None: there is none."""
        if self.mapping is None:
            return None
        self.mapping = None
        self._next_at = None
        return self._request(0)

    def _ask_by(self, method: Method, now: float) -> None:
        self._method, self._asked, self._next_at = method, 0, now
        self._ask_due(now)

    def _request(self, lifetime: int) -> bytes:
        assert self._own is not None
        external = None if self.mapping is None else self.mapping.external
        port = self._port if external is None else external.port
        if self._method == "NAT-PMP":
            return _PMP_REQUEST.pack(0, _PMP_MAP, self._port, port if lifetime else 0, lifetime)
        address = IPv4Address(0) if external is None or external.address.version == 6 else external.address
        return _PCP_REQUEST.pack(
            _PCP_VERSION, _PCP_MAP, lifetime, _mapped(self._own),
            self._nonce, _UDP, self._port, port, _mapped(address),
        )  # fmt: skip

    # --- what comes back ------------------------------------------------------------------------------------

    def handle_answer_untrusted(self, data: bytes, now: float) -> bool:
        """Of the router. Whether the mapping is another."""
        if self._own is None or len(data) < 4 or not data[1] & _ANSWER:
            return False
        before = self.mapping
        if data[0] == 0:
            self._handle_nat_pmp(data, now)
        elif data[0] == _PCP_VERSION and self._method == "PCP":
            self._handle_pcp(data, now)
        return (before is None) != (self.mapping is None) or (
            before is not None and self.mapping is not None and before.external != self.mapping.external
        )

    def _handle_pcp(self, data: bytes, now: float) -> None:
        if len(data) < _PCP_ANSWER.size:
            return
        _, opcode, result, lifetime, epoch, nonce, protocol, port, external_port, external = (
            _PCP_ANSWER.unpack_from(data)
        )
        if (opcode, nonce, protocol, port) != (_ANSWER | _PCP_MAP, self._nonce, _UDP, self._port):
            return
        address = ipaddress.IPv6Address(external).ipv4_mapped
        if result or not lifetime or address is None or not external_port:
            self._give_up(now)
            return
        if self._forgot(epoch, now):
            self._nonce = self._random_nonce()
        self._have(Endpoint(address, external_port), lifetime, now)

    def _handle_nat_pmp(self, data: bytes, now: float) -> None:
        if self._method == "PCP":
            # The version that it does not support is ours: RFC 6886 §3.5.
            if self.mapping is None and int.from_bytes(data[2:4], "big") == _UNSUPPORTED_VERSION:
                self._ask_by("NAT-PMP", now)
            return
        if data[1] == _ANSWER and len(data) >= _PMP_ADDRESS.size:
            _, _, result, _, packed = _PMP_ADDRESS.unpack_from(data)
            self._external_address = None if result else IPv4Address(packed)
        elif data[1] == _ANSWER | _PMP_MAP and len(data) >= _PMP_ANSWER.size:
            _, _, result, epoch, port, external_port, lifetime = _PMP_ANSWER.unpack_from(data)
            if port != self._port:
                return
            if result or not lifetime or self._external_address is None or not external_port:
                self._give_up(now)
                return
            self._forgot(epoch, now)
            self._have(Endpoint(self._external_address, external_port), lifetime, now)

    def _have(self, external: Endpoint, lifetime: int, now: float) -> None:
        self.mapping = PortMapping(self._method, external, now + lifetime)
        self._asked = 0
        self._next_at = now + max(MIN_RENEWAL, lifetime / 2)

    def _forgot(self, epoch: int, now: float) -> bool:
        """The router counts seconds since it knows its mappings: fewer than before, and it began anew."""
        before, self._epoch = self._epoch, (epoch, now)
        return before is not None and epoch + 2 < before[0] + (now - before[1]) * 7 / 8

    def _give_up(self, now: float) -> None:
        self.mapping, self._asked, self._next_at = None, 0, now + ABSENT_INTERVAL
        self._method = "PCP"

    # --- time -----------------------------------------------------------------------------------------------

    @property
    def is_asking(self) -> bool:
        """A first answer is waited for."""
        return self.mapping is None and self._asked > 0

    def next_deadline(self) -> float | None:
        return self._next_at

    def handle_timeout(self, now: float) -> bool:
        """Whether the mapping is another: it is over."""
        had = self.mapping is not None
        if self.mapping is not None and now >= self.mapping.expires_at:
            self.mapping = None
        self._ask_due(now)
        return had and self.mapping is None

    def _ask_due(self, now: float) -> None:
        if self._next_at is None or self._next_at > now or self._own is None:
            return
        if self._asked == len(REQUEST_TIMES):
            self._no_answer(now)
            return
        if self._method == "NAT-PMP":
            self.requests.append(bytes(2))
        self.requests.append(self._request(LIFETIME))
        at = REQUEST_TIMES[self._asked]
        self._asked += 1
        following = REQUEST_TIMES[self._asked] if self._asked < len(REQUEST_TIMES) else at + 0.5
        self._next_at = now + following - at

    def _no_answer(self, now: float) -> None:
        if self.mapping is not None:
            # It may be rebooting: the mapping is kept in mind until it is over.
            self._asked, self._next_at = 0, now + MIN_RENEWAL
        elif self._method == "PCP":
            self._ask_by("NAT-PMP", now)
        else:
            self._give_up(now)


def _mapped(address: IPv4Address) -> bytes:
    return bytes(10) + b"\xff\xff" + address.packed
