"""Home routers of every kind, made of a network namespace and nftables each.

    with Lab("nat") as lab:
        internet = Internet(lab)
        home = Home(internet, "home1", Nat.SYMMETRIC)
        node = home.host("node1")

        node ──┐ 192.168.1.0/24        198.51.100.0/24
        node ──┴─ br0 [ router ] eth0 ───────────────── internet

A home may hang on another: `Carrier(internet, "isp")` has homes where others have hosts. All homes have
the same addresses inside, as homes have, and IPv4 alone. New packets from outside are dropped without an
answer unless a home `is_open`: then the router itself answers, and what arrives first takes the port.
"""

from __future__ import annotations

import enum
import ipaddress
import sys
import zlib
from typing import Final

from tests.netns.hosts import Host, Internet, Lab
from tests.netns.processes import Process

LAN: Final = ipaddress.IPv4Network("192.168.1.0/24")
CARRIER: Final = ipaddress.IPv4Network("100.64.0.0/24")
NARROW_MTU: Final = 1280


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
    PORT_MOVED = "port moved"
    """Port-restricted, and the port outside is another than inside."""
    SYMMETRIC = "symmetric"
    MAPPED = "port mapping"
    """Symmetric, and maps ports for who asks (miniupnpd)."""
    DOUBLE = "double NAT"
    """Port-restricted twice: a home behind a carrier's router."""
    NARROW = "MTU 1280"
    """Port-restricted, on a line that carries packets of 1280 octets."""
    UDP_BLOCKED = "UDP blocked"
    """Port-restricted, and lets TCP alone out."""
    TCP_443_ONLY = "TCP 443 only"
    """The same, to one port alone."""
    IPV6_ONLY = "IPv6 only"
    """A host on the internet without IPv4 that drops what it did not ask for."""
    BROKEN_IPV6 = "broken IPv6"
    """A host on the internet that drops what it did not ask for. It has IPv6, and nothing comes through."""

    @property
    def has_router(self) -> bool:
        return self not in (Nat.NONE, Nat.FIREWALL, Nat.IPV6_ONLY, Nat.BROKEN_IPV6)

    @property
    def passes_udp(self) -> bool:
        return self not in (Nat.UDP_BLOCKED, Nat.TCP_443_ONLY)

    @property
    def admits_any_port(self) -> bool:
        """What comes from another port of an address that was sent to is let in, once who is inside saw to
        it.
        """
        return self in (Nat.NONE, Nat.FULL_CONE, Nat.ADDRESS_RESTRICTED, Nat.MAPPED)


def allows_direct(one: Nat, other: Nat) -> bool:
    """Whether two homes behind such routers can talk without anybody between them, guessing no ports."""
    if not (one.passes_udp and other.passes_udp):
        return False
    if Nat.IPV6_ONLY in (one, other):
        return all(nat in (Nat.IPV6_ONLY, Nat.NONE, Nat.FIREWALL) for nat in (one, other))
    if one is Nat.SYMMETRIC:
        return other.admits_any_port
    return other is not Nat.SYMMETRIC or one.admits_any_port


class Home:
    """A router and the hosts behind it; `uplink` is the internet, or a home whose host the router is.

    `router` is None where there is none. `hairpins`: hosts inside reach each other by the address outside
    (full cones alone).
    """

    lan = LAN

    def __init__(
        self,
        uplink: Internet | Home,
        name: str,
        nat: Nat,
        *,
        is_open: bool = False,
        hairpins: bool = False,
    ) -> None:
        if nat is Nat.DOUBLE:
            uplink = Carrier(uplink, f"{name}-isp", Nat.PORT_RESTRICTED)
        self.uplink, self.name, self.nat = uplink, name, nat
        self.router: Host | None = None
        self._count = 0
        if not nat.has_router:
            return
        router = self.router = uplink.host(name)
        router.ip(
            "link add br0 type bridge mcast_snooping 0",
            "link set br0 up",
            f"address add {self.lan[1]}/{self.lan.prefixlen} dev br0",
            *([f"link set eth0 mtu {NARROW_MTU}"] if nat is Nat.NARROW else []),
        )
        router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        router.run("nft", "-f", "-", input=_ruleset(nat, router, is_open, hairpins))
        if nat is Nat.MAPPED:
            self.offer_ports("natpmp", "upnp")

    @property
    def lab(self) -> Lab:
        return self.uplink.lab

    def host(self, name: str) -> Host:
        """One more host of this home."""
        if self.router is None:
            return self._host_without_router(name)
        host = self.lab.host(name)
        self._count += 1
        port = f"lan{self._count}"
        self.router.ip(
            f"link add {port} type veth peer name eth0 netns {host.pid}",
            f"link set {port} master br0",
            f"link set {port} up",
        )
        address = self.lan[10 + self._count]
        host.ip(
            "link set eth0 up",
            f"address add {address}/{self.lan.prefixlen} dev eth0",
            f"route add default via {self.lan[1]}",
        )
        host.ipv4 = address
        return host

    def _host_without_router(self, name: str) -> Host:
        host = self.uplink.host(name)
        if self.nat is not Nat.NONE:
            host.run("nft", "-f", "-", input=_FIREWALL)
        if self.nat is Nat.IPV6_ONLY:
            host.ip("address flush dev eth0 scope global", f"address add {host.ipv6}/64 dev eth0 nodad")
            host.ipv4 = None
        if self.nat is Nat.BROKEN_IPV6:
            host.run("nft", "-f", "-", input=_NO_IPV6)
        return host

    def offer_ports(self, *protocols: str) -> Process:
        """Let hosts inside have ports mapped, by miniupnpd: `natpmp` (and PCP), `upnp`."""
        assert self.router is not None
        self.router.run("nft", "-f", "-", input=_OFFERED)
        configuration = self.router.path / "miniupnpd.conf"
        offered = "".join(
            f"enable_{name}={'yes' if name in protocols else 'no'}\n" for name in ("natpmp", "upnp")
        )
        configuration.write_text(_MINIUPNPD + offered)
        daemon = self.router.start("miniupnpd", "-d", "-f", str(configuration))
        daemon.wait_text("starting")
        return daemon

    def reboot(self) -> None:
        """The router forgets its mappings: no packet from outside finds its way in any more."""
        assert self.router is not None
        self.router.run(sys.executable, "-c", _FLUSH)
        if self.nat in (Nat.FULL_CONE, Nat.ADDRESS_RESTRICTED):
            self.router.run("nft", "flush map ip cone inside; flush set ip cone allowed")

    def block_udp(self, *, blocked: bool = True) -> None:
        """From now on the router drops all UDP, or lets it pass again."""
        assert self.router is not None
        if blocked:
            self.router.run("nft", "-f", "-", input=_UDP_BLOCKED)
        else:
            self.router.run("nft", "delete table inet blocked")


class RoutableInternet(Internet):
    """miniupnpd maps no ports where its own address is one of documentation or of benchmarks."""

    IPV4 = ipaddress.IPv4Network("23.1.1.0/24")


class Carrier(Home):
    """A provider's router, whose hosts are the routers of homes."""

    lan = CARRIER


_OFFERED: Final = """
table inet offered {
    chain forward { type filter hook forward priority filter; }
    chain miniupnpd { }
    chain prerouting { type nat hook prerouting priority dstnat; jump prerouting_miniupnpd; }
    chain postrouting { type nat hook postrouting priority srcnat - 1; jump postrouting_miniupnpd; }
    chain prerouting_miniupnpd { }
    chain postrouting_miniupnpd { }
}
"""

_MINIUPNPD: Final = """
ext_ifname=eth0
listening_ip=br0
secure_mode=yes
uuid=bfaf9795-396d-4d8f-bf6e-5feae6bcea87
upnp_table_name=offered
upnp_nat_table_name=offered
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
allow 1024-65535 0.0.0.0/0 1024-65535
"""

_FLUSH: Final = """
import socket, struct
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netfilter:
    netfilter.send(struct.pack("=IHHIIBBH", 20, 0x102, 0x5, 1, 0, 0, 0, 0))
    size, kind, _, _, _, error = struct.unpack_from("=IHHIIi", netfilter.recv(4096))
    raise SystemExit(0 if (kind, error) == (2, 0) else f"conntrack: {kind} {error}")
"""
"""What `conntrack -F` does (ctnetlink's IPCTNL_MSG_CT_DELETE of everything)."""

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

_NO_IPV6: Final = """
table ip6 broken {
    chain output {
        type filter hook output priority filter;
        oifname eth0 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        oifname eth0 drop
    }
}
"""

_FILTER: Final = """
table inet filter {
    chain input {
        type filter hook input priority filter;
        iifname eth0 ct state new drop
    }
    chain forward {
        type filter hook forward priority filter + 10;
        iifname eth0 ct state new ct status & dnat == 0 drop
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

_TCP_443_ONLY: Final = """
table inet only {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname br0 tcp dport 443 accept
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

_PORT: Final = "jhash ip saddr . udp sport mod 20000 seed {seed:#x} offset 30000"
"""The port outside: the same for all destinations, and another than inside."""

_MOVED: Final = """
table ip nat {{
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        oifname eth0 meta l4proto udp snat ip to {address} : {port}
        oifname eth0 masquerade
    }}
}}
"""

_CONE: Final = """
table ip cone {{
    map inside {{
        type inet_service : ipv4_addr . inet_service
        flags dynamic,timeout
        timeout 5m
        size 1000
    }}
    set allowed {{
        type ipv4_addr . ipv4_addr . inet_service
        flags dynamic,timeout
        timeout 5m
        size 1000
    }}
    chain prerouting {{
        type nat hook prerouting priority dstnat;
        iifname eth0 meta l4proto udp dnat ip to udp dport map @inside
        {hairpin_in}
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        oifname eth0 meta l4proto udp snat ip to {address} : {port}
        oifname eth0 masquerade
        {hairpin_out}
    }}
    chain outgoing {{
        type filter hook forward priority filter;
        oifname eth0 meta l4proto udp update @inside {{ {port} : ip saddr . udp sport }}
        oifname eth0 meta l4proto udp update @allowed {{ ip daddr . ip saddr . udp sport }}
        {condition}
    }}
}}
"""
"""A mapping is learnt from the first packet out."""


def _ruleset(nat: Nat, router: Host, is_open: bool, hairpins: bool) -> str:
    rules = "" if is_open else _FILTER
    port, address = _PORT.format(seed=zlib.crc32(router.name.encode())), router.ipv4
    match nat:
        case Nat.FULL_CONE:
            hairpin_in = f"iifname br0 ip daddr {address} dnat ip to udp dport map @inside"
            hairpin_out = f"oifname br0 ct status dnat meta l4proto udp snat ip to {address} : {port}"
            return rules + _CONE.format(
                condition="",
                address=address,
                port=port,
                hairpin_in=hairpin_in if hairpins else "",
                hairpin_out=hairpin_out if hairpins else "",
            )
        case Nat.ADDRESS_RESTRICTED:
            return rules + _CONE.format(
                condition="iifname eth0 ct state new ip saddr . ip daddr . udp dport != @allowed drop",
                address=address,
                port=port,
                hairpin_in="",
                hairpin_out="",
            )
        case Nat.PORT_MOVED:
            return rules + _MOVED.format(address=address, port=port)
        case Nat.SYMMETRIC | Nat.MAPPED:
            return rules + _MASQUERADE % "random,fully-random"
        case Nat.UDP_BLOCKED:
            return rules + _UDP_BLOCKED + _MASQUERADE % ""
        case Nat.TCP_443_ONLY:
            return rules + _TCP_443_ONLY + _MASQUERADE % ""
        case _:
            return rules + _MASQUERADE % ""
