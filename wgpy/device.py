"""The running thing: a TUN device, an engine, and the interface whose state it is.

Three things come together here, and each may change alone: the link is up or down (`ip link set`), the
interface is configured (UAPI, a file, the mesh), the engine has something to tell.
"""

from __future__ import annotations

import errno
import logging
import random
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, Self

import trio

from wgpy.clock import boottime, sleep_until, wall_clock_ns
from wgpy.engine import DeviceEngine, cipher, make_engine
from wgpy.errors import HostError, InterfaceGone, sole_error
from wgpy.link import link_mtu, set_link_up, watch_link, watch_routes
from wgpy.link_watch import LinkState
from wgpy.protocol.actions import Control, EngineFailed, Event, OtherDatagram
from wgpy.protocol.constants import DEFAULT_MTU
from wgpy.protocol.interface import Interface
from wgpy.tun import Offload, Tun
from wgpy.tun_device import TunDevice, create_tun
from wgpy.uapi.configuration import Configuration
from wgpy.uapi.messages import DeviceReport, Operation

logger = logging.getLogger(__name__)

RESUME_THRESHOLD: Final = 1.0
"""Seconds by which boot-time runs ahead of the time awake before the host is taken to have slept."""


def open_device(
    name: str,
    *,
    tun: TunDevice | None = None,
    engine: DeviceEngine | None = None,
    mtu: int = DEFAULT_MTU,
    highest_timestamp: bytes | None = None,
) -> Device:
    """A device called `name` (`wg%d`: with the first free number), or on the TUN given, whose name it takes.

    `engine` None: the best of this host. `mtu` is for a TUN made here. `highest_timestamp`: see Interface.
    Raises ConfigError, HostError (InterfaceGone: it was deleted meanwhile); then a TUN given is closed, too.
    """
    try:
        if engine is None:
            engine = make_engine(None)
        if tun is None:
            tun = create_tun(name, vnet_hdr=engine.wants_vnet_hdr, mtu=mtu)
        return Device(tun, engine, highest_timestamp=highest_timestamp)
    except BaseException as error:
        if tun is not None:
            tun.close()
        if isinstance(error, OSError) and error.errno == errno.EBADFD:
            raise InterfaceGone(f"{name} was deleted while it was set up: start it again") from error
        raise


class Device:
    """A WireGuard device. Used as a context manager it is closed at the end; `run` makes it live.

    Whoever changes `interface` directly calls `changed` afterwards.
    """

    def __init__(
        self, tun: TunDevice, engine: DeviceEngine, *, highest_timestamp: bytes | None = None
    ) -> None:
        self.engine = engine
        self.interface = Interface(
            engine, random.SystemRandom(), wall_clock_ns, highest_timestamp=highest_timestamp
        )
        self.on_control: Callable[[Control], None] | None = None
        """Takes control messages of the mesh."""
        self.on_other_datagram: Callable[[OtherDatagram], None] | None = None
        """Takes datagrams that are not WireGuard and that the engine was told to expect."""
        self.mtu = DEFAULT_MTU
        self.fwmark = 0
        self._tun = tun
        self._port = 0
        self._link_is_up = False
        self._wake: Callable[[], None] | None = None
        self._is_changed = False
        self._up_changed = trio.Event()
        self._asleep = _time_asleep()
        self._gone = trio.Event()
        self.mtu = link_mtu(tun) or self.mtu
        if (
            isinstance(tun, Tun)
            and tun.vnet_hdr
            and not any(tun.set_offload(offload) for offload in _OFFLOADS)
        ):
            logger.debug("%s: the kernel knows no offloads of TUN devices", self.name)
        engine.open(tun.fileno(), self.mtu, tun.vnet_hdr)
        _, warning = cipher()
        if warning:
            logger.warning("%s: %s", self.name, warning)

    # --- what it is

    @property
    def name(self) -> str:
        return self._tun.name

    @property
    def is_up(self) -> bool:
        """The link is up and the sockets are bound."""
        return self.interface.is_up

    @property
    def listen_port(self) -> int:
        """The port bound or asked for; 0: none yet."""
        return self._port

    def report(self) -> DeviceReport:
        """What a UAPI `get` tells."""
        interface = self.interface
        return DeviceReport(
            interface.private_key, self.listen_port, self.fwmark, interface.status(boottime())
        )

    # --- settings

    def set_listen_port(self, port: int) -> None:
        """0: any free one. Raises OSError; while up, the port is then as it was."""
        if not self.is_up:
            self._port = port
            if self._link_is_up:
                self._come_up()
        elif port == 0 or port != self.engine.listen_port:
            try:
                self._port = self.engine.bind(port, self.fwmark)
            except OSError:
                # Ours was free a moment ago.
                self._port = self.engine.bind(self._port, self.fwmark)
                raise

    def set_fwmark(self, mark: int) -> None:
        """0: none. Raises OSError; the mark is then as it was."""
        if self.is_up:
            self.engine.set_fwmark(mark)
        self.fwmark = mark

    def configure(self, operations: Iterable[Operation]) -> None:
        """Apply the operations of a UAPI `set`. Raises UapiError; those before it stay applied."""
        configuration = Configuration(self)
        try:
            for operation in operations:
                configuration.apply(operation, boottime())
        finally:
            try:
                configuration.finish(boottime())
            finally:
                self.changed()

    def changed(self) -> None:
        """The interface was changed from outside: its next deadline may be another."""
        self._is_changed = True
        if self._wake is not None:
            self._wake()

    # --- up and down

    def bring_up(self) -> None:
        """Set the link up, and come up with it at once. Raises HostError, OSError (the port is taken)."""
        set_link_up(self._tun)
        self._link_is_up = True
        self._come_up()

    async def wait_up(self, up: bool = True) -> None:
        """Until it is up, or down."""
        while self.is_up != up:
            await self._up_changed.wait()

    def _come_up(self) -> None:
        """Raises OSError when the port or mark cannot be had."""
        if self.is_up:
            return
        self._port = self.engine.bind(self._port, self.fwmark)
        self.interface.up(boottime())
        logger.info("%s: up, listening on port %d", self.name, self._port)
        self._tell_up_changed()

    def _go_down(self) -> None:
        if not self.is_up:
            return
        self.engine.unbind()
        self.interface.down(boottime())
        logger.info("%s: down", self.name)
        self._tell_up_changed()

    def _tell_up_changed(self) -> None:
        event, self._up_changed = self._up_changed, trio.Event()
        event.set()
        self.changed()

    def _link_changed(self, state: LinkState) -> None:
        if state.mtu is not None and state.mtu != self.mtu:
            self.mtu = state.mtu
            self.engine.set_mtu(state.mtu)
            logger.info("%s: MTU %d", self.name, state.mtu)
        self._link_is_up = state.is_up
        if not state.is_up:
            self._go_down()
            return
        try:
            self._come_up()
        except OSError as error:
            # The link stays up, as an administrator set it; another port brings the device up.
            logger.error("%s: cannot listen on port %d: %s", self.name, self._port, error.strerror)

    # --- life

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Move packets, shake hands, follow the link. Returns when the TUN device is deleted.

        Raises HostError when the engine cannot go on.
        """
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.engine.run)
                nursery.start_soon(self._handle_events)
                nursery.start_soon(watch_routes, self.engine, self._tun)
                nursery.start_soon(self._watch_link)
                task_status.started()
                await self._gone.wait()
                logger.info("%s: the TUN device was deleted", self.name)
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            error = sole_error(group)
            if error is group:
                raise
            raise error from None

    async def _watch_link(self) -> None:
        await watch_link(self._tun, self._link_changed)
        self._gone.set()

    async def _handle_events(self) -> None:
        """Design rule 6: drain all events, read the clock, then run timers."""
        while True:
            await self._wait_work()
            self._is_changed = False
            for event in self.engine.drain_events():
                await self._handle_event(event)
            now = boottime()
            if _time_asleep() - self._asleep > RESUME_THRESHOLD:
                self._resume(now)
            self.interface.handle_timeout(now)

    async def _wait_work(self) -> None:
        """Until the engine has events, a deadline is due, or the interface was changed."""
        if self._is_changed:
            await trio.lowlevel.checkpoint()
            return
        deadline = self.interface.next_deadline()
        async with trio.open_nursery() as nursery:
            self._wake = nursery.cancel_scope.cancel
            if deadline is not None:
                nursery.start_soon(self._wait_deadline, deadline)
            await self.engine.wait_events()
            nursery.cancel_scope.cancel()
        self._wake = None

    async def _wait_deadline(self, deadline: float) -> None:
        await sleep_until(deadline)
        if self._wake is not None:
            self._wake()

    async def _handle_event(self, event: Event) -> None:
        match event:
            case Control():
                if self.on_control is not None:
                    self.on_control(event)
            case OtherDatagram():
                if self.on_other_datagram is not None:
                    self.on_other_datagram(event)
            case EngineFailed(reason):
                if self._tun.exists():
                    raise HostError(f"{self.name}: the engine cannot go on: {reason}")
                # Nobody else may tell: a network namespace takes its devices along in silence.
                self._gone.set()
            case _:
                self.interface.handle_event(event, boottime())

    def _resume(self, now: float) -> None:
        """The host slept: whoever has its memory may have its keys, and the peers have forgotten theirs."""
        self._asleep = _time_asleep()
        if self.is_up:
            logger.info("%s: the host slept; sessions begin anew", self.name)
            self.interface.down(now)
            self.interface.up(now)

    def close(self) -> None:
        """Forget all keys, close the sockets and the TUN."""
        if self._tun.fileno() < 0:
            return
        self._go_down()
        self.interface.set_private_key(None, boottime())
        self.interface.remove_all_peers(boottime())
        self.engine.close()
        self._tun.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


_OFFLOADS: Final = (
    Offload.CSUM | Offload.TSO4 | Offload.TSO6 | Offload.USO4 | Offload.USO6,
    Offload.CSUM | Offload.TSO4 | Offload.TSO6,
    Offload.CSUM,
)
"""Tried in turn: USO is Linux 6.2's."""


def _time_asleep() -> float:
    """Seconds that the host has slept since it booted."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
