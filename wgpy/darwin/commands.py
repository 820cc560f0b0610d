"""What brings an interface's addresses and routes about on macOS, as commands of ifconfig(8) and route(8).

Pure: plans are made of what is wanted, and each command knows the one that takes it back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final

from wgpy.addresses import IPAddress, Prefix

Command = tuple[str, ...]

_FAMILY: Final = {4: "-inet", 6: "-inet6"}
_NETSTAT_FAMILY: Final = {4: "inet", 6: "inet6"}
_MTU: Final = re.compile(r"\bmtu ([0-9]+)")


@dataclass(frozen=True, slots=True)
class Step:
    """`stays`: it does not go with the interface, but has to be taken back."""

    do: Command
    undo: Command | None = None
    stays: bool = False


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """An address, and how many bits of it are its network's."""

    address: IPAddress
    prefix_length: int


def add_address(interface: str, address: InterfaceAddress) -> Step:
    """A utun is point to point: IPv4 wants the other end's address, for which our own stands."""
    text = f"{address.address}/{address.prefix_length}"
    if address.address.version == 4:
        own = str(address.address)
        return Step(
            ("ifconfig", interface, "inet", text, own, "alias"),
            ("ifconfig", interface, "inet", own, "-alias"),
        )
    return Step(
        ("ifconfig", interface, "inet6", text, "alias"),
        ("ifconfig", interface, "inet6", str(address.address), "-alias"),
    )


def set_mtu(interface: str, mtu: int) -> Step:
    return Step(("ifconfig", interface, "mtu", str(mtu)))


def add_route(prefix: Prefix, interface: str) -> Step:
    """A route of an interface goes with it; the command that takes it back is for one that stays."""
    words = (_FAMILY[prefix.version], str(prefix), "-interface", interface)
    return Step(("route", "-q", "-n", "add", *words), ("route", "-q", "-n", "delete", *words))


def halves(prefix: Prefix) -> tuple[Prefix, ...]:
    """A default route as two that are more specific: the host's own stays, for when the tunnel ends."""
    if prefix.prefixlen:
        return (prefix,)
    if prefix.version == 4:
        return ip_network("0.0.0.0/1"), ip_network("128.0.0.0/1")
    return ip_network("::/1"), ip_network("8000::/1")


def add_endpoint_route(endpoint: IPAddress, gateway: str | None) -> Step:
    """What goes to an endpoint itself stays outside; without a gateway it goes nowhere, not into the tunnel
    that it carries.
    """
    family = _FAMILY[endpoint.version]
    way = ("-gateway", gateway) if gateway is not None else (_NOWHERE[endpoint.version], "-blackhole")
    host = ("-host", str(endpoint))
    return Step(
        ("route", "-q", "-n", "add", family, *host, *way),
        ("route", "-q", "-n", "delete", family, *host),
        stays=True,
    )


_NOWHERE: Final = {4: "127.0.0.1", 6: "::1"}


def tunnel_steps(
    interface: str,
    addresses: Sequence[InterfaceAddress],
    prefixes: Iterable[Prefix],
    endpoints: Iterable[IPAddress],
    gateways: dict[int, str],
) -> list[Step]:
    """All of a tunnel's: addresses, then endpoints' routes where a default route would catch them, then
    routes, the most specific first. `gateways` are those of the default routes, by version.
    """
    wanted = sorted(
        set(prefixes), key=lambda each: (-each.prefixlen, each.version, each.network_address.packed)
    )
    defaults = {prefix.version for prefix in wanted if not prefix.prefixlen}
    steps = [add_address(interface, address) for address in addresses]
    steps += [
        add_endpoint_route(endpoint, gateways.get(endpoint.version))
        for endpoint in dict.fromkeys(endpoints)
        if endpoint.version in defaults
    ]
    steps += [add_route(part, interface) for prefix in wanted for part in halves(prefix)]
    return steps


def default_gateway_query(version: int) -> Command:
    return ("netstat", "-n", "-r", "-f", _NETSTAT_FAMILY[version])


def parse_default_gateway(text: str) -> str | None:
    """The gateway of the first default route that has one, in what netstat says, with its zone
    (fe80::1%en0).

    A route by an interface alone (`link#4`, a tunnel of somebody else) is no gateway.
    """
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] not in ("default", "0/1", "::/0"):
            continue
        try:
            ip_address(words[1].partition("%")[0])
        except ValueError:
            continue
        return words[1]
    return None


def route_query(endpoint: IPAddress) -> Command:
    return ("route", "-n", "get", _FAMILY[endpoint.version], str(endpoint))


def parse_route_interface(text: str) -> str | None:
    """The interface that `route -n get` names."""
    for line in text.splitlines():
        key, _, value = line.strip().partition(": ")
        if key == "interface":
            return value.strip()
    return None


def ifconfig_query(interface: str) -> Command:
    return ("ifconfig", interface)


def parse_ifconfig_mtu(text: str) -> int | None:
    """Of the first interface in what `ifconfig NAME` says."""
    found = _MTU.search(text)
    return int(found[1]) if found else None
