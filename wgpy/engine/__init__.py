"""The engines: what moves packets. `protocol/actions.py` has what the core asks of one, here is its life
cycle.

An engine owns the sockets, the TUN, transport keys, allowed IPs and the first line of defence. The core never
sees a packet. docs/engine.md tells where what lives, and which test holds which rule.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from wgpy import _engine
from wgpy.addresses import Endpoint
from wgpy.errors import ConfigError
from wgpy.protocol.actions import Engine, Event

ENGINES: Final = ("native", "portable")
"""Names that `make_engine` knows. The native one is the default on Linux, the portable one elsewhere."""

STUN_TRANSACTION: Final = slice(8, 20)
"""Where a STUN message has its transaction id."""


@dataclass(frozen=True, slots=True)
class DatagramFilter:
    """Datagrams that are not WireGuard and that someone waits for; all others are dropped.

    `stun_transactions` are ids of 12 octets, `remotes` whole endpoints, such as a relay's.
    """

    stun_transactions: frozenset[bytes] = frozenset()
    remotes: frozenset[Endpoint] = frozenset()

    def __bool__(self) -> bool:
        """Whether anything is waited for at all."""
        return bool(self.stun_transactions or self.remotes)

    def matches(self, data: bytes, remote: Endpoint) -> bool:
        return remote in self.remotes or (
            len(data) >= STUN_TRANSACTION.stop and data[STUN_TRANSACTION] in self.stun_transactions
        )


class DeviceEngine(Engine, Protocol):
    """An engine with a TUN and sockets. Its methods but `run` and `wait_events` never wait."""

    wants_vnet_hdr: bool
    """Open the TUN with IFF_VNET_HDR if the host can."""
    listen_port: int
    """The port bound; 0 when none is."""

    def open(self, tun_fd: int, mtu: int, vnet_hdr: bool) -> None:
        """Take the TUN's descriptor, which stays the caller's to close. `vnet_hdr`: it was opened with
        IFF_VNET_HDR."""

    def bind(self, port: int, fwmark: int) -> int:
        """Open the sockets, both families on one port; 0 picks one. Returns the port. Raises OSError."""

    def unbind(self) -> None:
        """Close the sockets and discard the handshake messages that wait."""

    def set_fwmark(self, mark: int) -> None:
        """Mark what the sockets send; 0 for none. Raises OSError."""

    def set_mtu(self, mtu: int) -> None: ...

    def expect(self, datagrams: DatagramFilter) -> None:
        """Report datagrams that match as `OtherDatagram`; replaces what was expected before."""

    def close(self) -> None:
        """Close the sockets, let go of the TUN and wipe all keys. `run` ends."""

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Move packets until closed. Errors of the TUN and sockets come as `EngineFailed`, not from here."""

    async def wait_events(self) -> None:
        """Return when `drain_events` has something to give."""

    def drain_events(self) -> list[Event]:
        """What happened, of handshake messages only the next few: how many wait tells the load. Not empty as
        long as `wait_events` returns."""


def cipher() -> tuple[str, str | None]:
    """What seals and opens transport data in this process, in words, and a warning when that is not what
    $WGPY_AEAD asks for, or not the best that the CPU has.
    """
    return _engine.aead_kernel()


def make_engine(name: str | None = None) -> DeviceEngine:
    """The engine of this name; None: that of $WGPY_ENGINE, else the best of this host. Raises ConfigError.

    $WGPY_OFFLOAD=0 makes it do without superpackets, where a driver or kernel gets them wrong; docs/engine.md
    has more to choose for the native one.
    """
    chosen = name or os.environ.get("WGPY_ENGINE") or ("native" if has_native() else "portable")
    if chosen not in ENGINES:
        raise ConfigError(f"an engine (--engine, WGPY_ENGINE) is one of {', '.join(ENGINES)}; got {chosen!r}")
    # Its sockets and ioctls are imported only where an engine is made.
    if chosen == "portable":
        from wgpy.engine.portable_io import PortableDeviceEngine  # noqa: PLC0415

        return PortableDeviceEngine(offload=os.environ.get("WGPY_OFFLOAD") != "0")
    if not has_native():
        raise ConfigError("the native engine is for Linux; this host has WGPY_ENGINE=portable")
    from wgpy.engine.native import NativeDeviceEngine, Settings  # noqa: PLC0415

    return NativeDeviceEngine(Settings.from_environment(os.environ))


def has_native() -> bool:
    """Whether wgpy was built with the native engine, as it is on Linux."""
    from wgpy import _engine  # noqa: PLC0415

    return hasattr(_engine, "Engine")
