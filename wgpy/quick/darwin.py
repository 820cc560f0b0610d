"""A tunnel by file on macOS: its utun has a number, and addresses, routes and name servers are commands.

It has never run on a Mac (docs/macos.md).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from wgpy.addresses import Endpoint, IPAddress, Prefix
from wgpy.config import NamedEndpoint, TunnelConfig
from wgpy.darwin.commands import (
    InterfaceAddress,
    default_gateway_query,
    ifconfig_query,
    parse_default_gateway,
    parse_ifconfig_mtu,
    parse_route_interface,
    route_query,
    tunnel_steps,
)
from wgpy.darwin.run import Run, run
from wgpy.darwin.utun import Control, Utun
from wgpy.device import Device, open_device
from wgpy.errors import ConfigError, HostError
from wgpy.protocol.constants import DEFAULT_MTU
from wgpy.quick.tunnel import OVERHEAD, Say, Tunnel
from wgpy.uapi import listener


class DarwinTunnel(Tunnel):
    """What a file asks for, on macOS. `control` and `command` are how the host is asked."""

    def __init__(
        self,
        name: str,
        path: Path,
        config: TunnelConfig,
        say: Say,
        *,
        control: Control | None = None,
        command: Run = run,
    ) -> None:
        super().__init__(name, path, config, say)
        self._control = control
        self._command = command
        self._endpoints: list[IPAddress] = []

    def _open_device(self, resolved: Mapping[NamedEndpoint, Endpoint]) -> Device:
        config = self._config
        if config.fwmark:
            raise ConfigError(f"{self._path}: macOS marks no packets: leave out FwMark")
        if config.table not in ("auto", "off"):
            raise ConfigError(f"{self._path}: macOS has one routing table: Table is auto or off")
        self._endpoints = [
            (resolved[peer.endpoint] if isinstance(peer.endpoint, NamedEndpoint) else peer.endpoint).address
            for peer in config.peers
            if peer.endpoint is not None
        ]
        mtu = config.mtu or path_mtu(self._endpoints, self._command)
        device = open_device("utun", tun=Utun.create("utun", mtu=mtu, control=self._control))
        self._undo.add("delete the interface", device.close)
        self._configure(device, resolved, 0)
        self._write_name(device.name)
        return device

    def _write_name(self, interface: str) -> None:
        """Where wg-quick's users look for which utun is this tunnel's. Raises HostError."""
        path = f"{listener.SOCKET_DIRECTORY}/{self._name}.name"
        try:
            os.makedirs(listener.SOCKET_DIRECTORY, mode=0o755, exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"{interface}\n")
        except OSError as error:
            raise HostError(f"cannot write {path}: {error.strerror}") from error
        self._undo.add("remove the name of the interface", partial(_remove, path))

    def _set_up_host(self, device: Device) -> None:
        config = self._config
        self._bring_up(device)
        addresses = [InterfaceAddress(each.ip, each.network.prefixlen) for each in config.addresses]
        prefixes: list[Prefix] = []
        if config.table == "auto":
            prefixes = [prefix for peer in config.peers for prefix in peer.allowed_ips]
        steps = tunnel_steps(device.name, addresses, prefixes, self._endpoints, self._gateways(prefixes))
        for step in steps:
            self._command(step.do)
            if step.stays and step.undo is not None:
                self._undo.add(f"undo {' '.join(step.do)}", partial(self._command, step.undo))
        self._announce_servers(device.name)

    def _gateways(self, prefixes: Iterable[Prefix]) -> dict[int, str]:
        """Of the default routes that ours would cover, by version. Raises HostError."""
        found: dict[int, str] = {}
        for version in {prefix.version for prefix in prefixes if not prefix.prefixlen}:
            gateway = parse_default_gateway(self._command(default_gateway_query(version)))
            if gateway is not None:
                found[version] = gateway
        return found


def path_mtu(endpoints: Iterable[IPAddress], command: Run) -> int:
    """What fits into the smallest MTU towards any endpoint; the usual one where nobody can say."""
    sizes = []
    for endpoint in endpoints:
        with contextlib.suppress(HostError):
            interface = parse_route_interface(command(route_query(endpoint)))
            mtu = interface and parse_ifconfig_mtu(command(ifconfig_query(interface)))
            if mtu:
                sizes.append(mtu)
    return min(sizes, default=DEFAULT_MTU + OVERHEAD) - OVERHEAD


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
