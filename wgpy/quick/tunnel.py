"""A tunnel from its file to its end: the order of things, and that nothing half-made is left."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import re
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from pathlib import Path
from typing import Final

import trio

from wgpy.addresses import Endpoint
from wgpy.agent.dns.resolvers import repair_names
from wgpy.config import NamedEndpoint, TunnelConfig, parse_config
from wgpy.darwin import IS_DARWIN
from wgpy.device import Device, open_device
from wgpy.errors import ConfigError, HostError
from wgpy.host.footprint import Footprint, clear_left_behind
from wgpy.host.nft import NftTable, table_name
from wgpy.host.policy import Policy
from wgpy.host.setting import HostSetting
from wgpy.host.steps import ChangeTables, SetSysctl
from wgpy.netlink import Netlink, Route, add_address
from wgpy.quick.dns import announce_servers
from wgpy.quick.hooks import run_hooks
from wgpy.quick.record import Claim, Record, holder_of
from wgpy.quick.resolve import resolve_endpoints
from wgpy.quick.routes import add_routes, choose_policy
from wgpy.quick.save import save_config
from wgpy.quick.undo import Undo
from wgpy.tun import check_name
from wgpy.uapi.listener import UapiListener
from wgpy.uapi.messages import (
    AddAllowedIp,
    Operation,
    ReplaceAllowedIps,
    SelectPeer,
    SetEndpoint,
    SetFwmark,
    SetListenPort,
    SetPersistentKeepalive,
    SetPresharedKey,
    SetPrivateKey,
    UapiError,
)
from wgpy.uapi.server import serve_uapi

logger = logging.getLogger(__name__)

OVERHEAD: Final = 80
"""Octets that a packet in the tunnel has more on its way: IPv6, UDP, transport data."""

_NAME: Final = re.compile(r"[A-Za-z0-9_=+.-]{1,15}")
Say = Callable[[str], None]


def interface_name(path: Path) -> str:
    """The file's name without .conf. Raises ConfigError."""
    name = path.name.removesuffix(".conf")
    if name == path.name or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{path}: the file is called INTERFACE.conf, the interface 1 to 15 of a-z A-Z 0-9 _ = + . -"
        )
    return check_name(name)


def read_config(path: Path) -> TunnelConfig:
    """Raises ConfigError, with file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: a configuration is UTF-8 text; this is not") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    return parse_config(text, str(path))


def warn_if_readable(path: Path, say: Say) -> None:
    """A file with a private key is for its owner."""
    with contextlib.suppress(OSError):
        if path.stat().st_mode & 0o007:
            say(f"warning: anybody may read {path}, which has a private key in it: chmod 600")


def has_ipv6() -> bool:
    """Whether a new interface may have IPv6 addresses."""
    if IS_DARWIN:
        return True
    try:
        return Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").read_text().strip() == "0"
    except OSError:
        return False


def without_ipv6(config: TunnelConfig) -> TunnelConfig:
    """What of the file's addresses and routes is IPv4."""
    peers = [
        dataclasses.replace(peer, allowed_ips=[prefix for prefix in peer.allowed_ips if prefix.version == 4])
        for peer in config.peers
    ]
    addresses: list[IPv4Interface | IPv6Interface] = [a for a in config.addresses if a.version == 4]
    return dataclasses.replace(config, addresses=addresses, peers=peers)


def operations(
    config: TunnelConfig, resolved: Mapping[NamedEndpoint, Endpoint], mark: int
) -> Iterator[Operation]:
    """What configures a device as the file says."""
    yield SetPrivateKey(config.private_key)
    if config.listen_port:
        yield SetListenPort(config.listen_port)
    if mark:
        yield SetFwmark(mark)
    for peer in config.peers:
        yield SelectPeer(peer.public_key)
        yield SetPresharedKey(peer.preshared_key)
        if peer.endpoint is not None:
            endpoint = peer.endpoint
            yield SetEndpoint(resolved[endpoint] if isinstance(endpoint, NamedEndpoint) else endpoint)
        yield SetPersistentKeepalive(peer.persistent_keepalive)
        yield ReplaceAllowedIps()
        for prefix in peer.allowed_ips:
            yield AddAllowedIp(prefix)


async def run_tunnel(path: Path, say: Say, ready: Callable[[], None]) -> None:
    """Bring the tunnel up and keep it until SIGINT, SIGTERM, or the end of its interface or socket.

    Raises ConfigError, HostError: then all that was done is undone.
    """
    name = interface_name(path)
    warn_if_readable(path, say)
    tunnel = _tunnel_of_host()(name, path, read_config(path), say)
    with (
        trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
        trio.CancelScope() as until_signal,
    ):
        async with trio.open_nursery() as nursery:

            async def stop_at_signal() -> None:
                async for _ in signals:
                    until_signal.cancel()

            nursery.start_soon(stop_at_signal)
            with Claim(name, Record(os.getpid(), str(path))) as claim:
                if claim.left_behind is not None:
                    clear_tunnel(name, claim.left_behind)
                await tunnel.run(ready)
            nursery.cancel_scope.cancel()
    if until_signal.cancelled_caught and not tunnel.was_up:
        raise HostError(f"{name}: stopped before it was up; nothing is left of it")


def clear_tunnel(name: str, record: Record) -> None:
    """Undo what a process that was killed could not; its interface and routes went with it."""
    logger.info("%s: clearing what process %d has left behind", name, record.pid)
    undo = Undo()
    undo.add("restore the name servers", repair_names)
    undo.add("restore the host", lambda: clear_left_behind(holder_of(name), lift=True))
    undo.run()


def _tunnel_of_host() -> type[Tunnel]:
    if not IS_DARWIN:
        return Tunnel
    from wgpy.quick.darwin import DarwinTunnel  # noqa: PLC0415 (which is made of this module)

    return DarwinTunnel


class Tunnel:
    """One tunnel, on Linux; `run` is its life."""

    def __init__(self, name: str, path: Path, config: TunnelConfig, say: Say) -> None:
        self._name = name
        self._path = path
        self._config = config
        self._on_host = config
        """What of it concerns addresses and routes; without IPv6 where the host has none."""
        self._say = say
        self._undo = Undo()
        self._policy: Policy | None = None
        self._footprint = Footprint(holder_of(name))
        self.was_up = False

    async def run(self, ready: Callable[[], None]) -> None:
        config, name = self._config, self._name
        self._say(f"{name}: bringing it up")
        if not has_ipv6() and without_ipv6(config) != config:
            self._on_host = without_ipv6(config)
            self._say(
                f"warning: IPv6 is off on this host: {name} comes up without its IPv6 addresses and routes"
            )
        resolved = await resolve_endpoints(config, str(self._path), self._say)
        await run_hooks("PreUp", config.pre_up, name)
        try:
            device = self._open_device(resolved)
            async with trio.open_nursery() as nursery:

                async def to_the_end(
                    task: Callable[..., Awaitable[None]],
                    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
                ) -> None:
                    await task(task_status=task_status)
                    nursery.cancel_scope.cancel()

                await nursery.start(to_the_end, device.run)
                listener = UapiListener.open(device.name)
                self._undo.add("remove the socket", listener.close)
                await nursery.start(to_the_end, functools.partial(serve_uapi, listener, device))
                self._set_up_host(device)
                await run_hooks("PostUp", config.post_up, name)
                self.was_up = True
                self._say(self._summary(device))
                ready()
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        await self._before_down(device)
        finally:
            self._undo.run()
            if self.was_up:
                with trio.CancelScope(shield=True):
                    await self._run_last_hooks("PostDown", config.post_down)
                self._say(f"{name}: it is down")

    def _open_device(self, resolved: Mapping[NamedEndpoint, Endpoint]) -> Device:
        config = self._config
        with Netlink() as netlink:
            if netlink.find_link(self._name) is not None:
                raise HostError(f"there is an interface {self._name} already")
            self._policy = choose_policy(self._on_host, netlink)
            mtu = config.mtu or path_mtu(config, resolved, netlink) - OVERHEAD
        device = open_device(self._name, mtu=mtu)
        self._undo.add("delete the interface", device.close)
        self._configure(device, resolved, self._policy.table if self._policy is not None else config.fwmark)
        return device

    def _configure(self, device: Device, resolved: Mapping[NamedEndpoint, Endpoint], mark: int) -> None:
        """Raises HostError."""
        try:
            device.configure(operations(self._config, resolved, mark))
        except UapiError as error:
            raise HostError(f"{self._name}: {error}") from error

    def _set_up_host(self, device: Device) -> None:
        """Addresses, the link, rules, routes, name servers: all that others see. Raises HostError."""
        name = self._name
        self._bring_up(device)
        with Netlink() as netlink:
            index = netlink.link(name).index
            addresses = self._on_host.addresses
            netlink.apply(add_address(index, address) for address in addresses)
            if self._policy is not None:
                self._begin_policy(self._policy)
            add_routes(self._on_host, self._policy, index, netlink)
        self._announce_servers(name)

    def _bring_up(self, device: Device) -> None:
        """Raises HostError."""
        try:
            device.bring_up()
        except OSError as error:
            raise HostError(
                f"{self._name}: cannot listen on port {self._config.listen_port}: {error.strerror}"
            ) from error

    def _announce_servers(self, interface: str) -> None:
        """Raises HostError."""
        announced = announce_servers(interface, self._config.dns)
        if announced is not None:
            self._undo.add("restore the name servers", announced.withdraw)

    def _begin_policy(self, policy: Policy) -> None:
        """Rules, a sysctl, a little firewall. Raises HostError when there can be no rules."""
        name = self._name
        chains = policy.chains(name, [address.ip for address in self._on_host.addresses])
        table = NftTable(table_name(name), chains)
        self._undo.add("restore the host", self._footprint.roll_back)
        self._footprint.apply(HostSetting(policy.sysctls(), {table.name: table}, rules=policy.rules()))
        for step, text in self._footprint.problems.items():
            if not isinstance(step, ChangeTables | SetSysctl):
                raise HostError(text)
            # Containers have a read-only /proc/sys, and mostly no rp_filter.
            logger.warning("%s: with a strict rp_filter replies of the endpoint are dropped", name)

    def _summary(self, device: Device) -> str:
        peers = len(device.interface.peers)
        addresses = ", ".join(str(address.ip) for address in self._on_host.addresses) or "no address"
        return (
            f"{self._name}: it is up, {addresses}, port {device.listen_port}, "
            f"{peers} peer{'' if peers == 1 else 's'}"
        )

    async def _before_down(self, device: Device) -> None:
        await self._run_last_hooks("PreDown", self._config.pre_down)
        if self._config.save_config:
            automatic_mark = self._policy.table if self._policy is not None else 0
            try:
                save_config(self._path, self._config, device, automatic_mark)
            except HostError as error:
                logger.warning("%s", error)

    async def _run_last_hooks(self, key: str, commands: list[str]) -> None:
        """One that fails does not keep the tunnel up."""
        try:
            await run_hooks(key, commands, self._name)
        except HostError as error:
            logger.warning("%s", error)


def path_mtu(config: TunnelConfig, resolved: Mapping[NamedEndpoint, Endpoint], netlink: Netlink) -> int:
    """The smallest MTU towards any endpoint; without endpoints, that of the default route, else 1500."""
    endpoints = [
        resolved.get(p.endpoint) if isinstance(p.endpoint, NamedEndpoint) else p.endpoint
        for p in config.peers
    ]
    ways = [
        netlink.route_to(endpoint.address, mark=config.fwmark)
        for endpoint in endpoints
        if endpoint is not None
    ]
    if not any(ways):
        ways = [netlink.route_to(ip_address(anywhere)) for anywhere in ("1.0.0.0", "2001::")]
    sizes = [size for way in ways if way is not None and (size := _mtu_of(way, netlink))]
    return min(sizes, default=1500)


def _mtu_of(way: Route, netlink: Netlink) -> int:
    if way.mtu:
        return way.mtu
    link = netlink.find_link(way.interface) if way.interface else None
    return min(link.mtu, 65535) if link is not None else 0
