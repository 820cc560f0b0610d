"""Home routers of every kind, made of a network namespace and nftables each.

    with Lab("nat") as lab:
        internet = Internet(lab)
        home = Home(internet, "home1", Nat.SYMMETRIC)
        node = home.host("node1")

        node ──┐ 192.168.1.0/24        198.51.100.0/24
        node ──┴─ br0 [ router ] eth0 ───────────────── internet

All homes have the same addresses inside, as homes have. New packets from outside are dropped without an
answer unless a home `is_open`: then the router itself answers, and what arrives first takes the port.
"""

from __future__ import annotations

import enum
import ipaddress
from typing import Final

from tests.netns.hosts import Host, Internet

LAN: Final = ipaddress.IPv4Network("192.168.1.0/24")


class Nat(enum.Enum):
    """How a router maps, and what it lets in. The names are those of RFC 3489 and RFC 4787."""

    NONE = "none"
    """No router at all: a host on the internet."""
    FIREWALL = "firewall"
    """A host on the internet that drops what it did not ask for."""
    FULL_CONE = "full cone"
    ADDRESS_RESTRICTED = "address-restricted"
    PORT_RESTRICTED = "port-restricted"
    """Linux's masquerade."""
    SYMMETRIC = "symmetric"
    UDP_BLOCKED = "UDP blocked"
    """Port-restricted, and lets TCP alone out."""


class Home:
    """A router and the hosts behind it. `router` is None where there is none."""

    def __init__(self, internet: Internet, name: str, nat: Nat, *, is_open: bool = False) -> None:
        self.internet, self.name, self.nat = internet, name, nat
        self.router: Host | None = None
        self._count = 0
        if nat in (Nat.NONE, Nat.FIREWALL):
            return
        router = self.router = internet.host(name)
        router.ip(
            "link add br0 type bridge mcast_snooping 0",
            "link set br0 up",
            f"address add {LAN[1]}/{LAN.prefixlen} dev br0",
        )
        router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        router.run("nft", "-f", "-", input=_ruleset(nat, is_open))

    def host(self, name: str) -> Host:
        """One more host of this home."""
        if self.router is None:
            host = self.internet.host(name)
            if self.nat is Nat.FIREWALL:
                host.run("nft", "-f", "-", input=_FIREWALL)
            return host
        host = self.internet.lab.host(name)
        self._count += 1
        port = f"lan{self._count}"
        self.router.ip(
            f"link add {port} type veth peer name eth0 netns {host.pid}",
            f"link set {port} master br0",
            f"link set {port} up",
        )
        address = LAN[10 + self._count]
        host.ip(
            "link set eth0 up",
            f"address add {address}/{LAN.prefixlen} dev eth0",
            f"route add default via {LAN[1]}",
        )
        host.ipv4 = address
        return host

    def forget_mappings(self) -> None:
        """As after a reboot of the router: no packet from outside finds its way in any more."""
        assert self.router is not None
        self.router.run("conntrack", "-F")


_FIREWALL: Final = """
table inet firewall {
    chain input {
        type filter hook input priority filter; policy drop;
        iif lo accept
        ct state established,related accept
        meta l4proto { icmp, icmpv6 } accept
        iifname "wg-*" accept
    }
}
"""

_FILTER: Final = """
table inet filter {
    chain input {
        type filter hook input priority filter;
        iifname eth0 ct state new drop
    }
}
"""

_UDP_BLOCKED: Final = """
table inet blocked {
    chain forward {
        type filter hook forward priority filter;
        meta l4proto udp drop
    }
}
"""

_MASQUERADE: Final = """
table ip nat {
    chain postrouting {
        type nat hook postrouting priority srcnat;
        oifname eth0 masquerade %s
    }
}
"""

_CONE: Final = """
table ip cone {
    map inside {
        type inet_service : ipv4_addr . inet_service
        flags dynamic,timeout
        timeout 5m
        size 1000
    }
    set allowed {
        type ipv4_addr . inet_service
        flags dynamic,timeout
        timeout 5m
        size 1000
    }
    chain prerouting {
        type nat hook prerouting priority dstnat;
        iifname eth0 meta l4proto udp %s dnat ip to udp dport map @inside
    }
    chain postrouting {
        type nat hook postrouting priority srcnat;
        oifname eth0 masquerade
    }
    chain outgoing {
        type filter hook forward priority filter;
        oifname eth0 meta l4proto udp update @inside { udp sport : ip saddr . udp sport }
        oifname eth0 meta l4proto udp update @allowed { ip daddr . udp sport }
    }
}
"""
"""A mapping is learnt from the first packet out: the port stays the same outside, so hosts behind one cone
need different ports."""


def _ruleset(nat: Nat, is_open: bool) -> str:
    rules = "" if is_open else _FILTER
    match nat:
        case Nat.FULL_CONE:
            return rules + _CONE % ""
        case Nat.ADDRESS_RESTRICTED:
            return rules + _CONE % "ip saddr . udp dport @allowed"
        case Nat.SYMMETRIC:
            return rules + _MASQUERADE % "random,fully-random"
        case Nat.UDP_BLOCKED:
            return rules + _UDP_BLOCKED + _MASQUERADE % ""
        case _:
            return rules + _MASQUERADE % ""
