"""Places behind a node: LANs whose machines know nothing of the mesh. And all that we might change."""

from __future__ import annotations

import ipaddress
import json

from tests.netns.hosts import Host, Lab


class Lan:
    """A switch with `ipv4` and `ipv6`, e.g. 192.168.1.0/24. Addresses are given by number."""

    def __init__(self, lab: Lab, name: str, ipv4: str = "192.168.1.0/24", ipv6: str = "fd12:1::/64") -> None:
        self.ipv4 = ipaddress.IPv4Network(ipv4)
        self.ipv6 = ipaddress.IPv6Network(ipv6)
        self._lab = lab
        self._name = name
        self._ports = 0
        self.switch = lab.host(name)
        self.switch.ip("link add br0 type bridge mcast_snooping 0", "link set br0 up")

    def plug(self, host: Host, number: int, interface: str = "eth1") -> None:
        """A link of the host into this LAN."""
        self._ports += 1
        port = f"port{self._ports}"
        self.switch.ip(
            f"link add {port} type veth peer name {interface} netns {host.pid}",
            f"link set {port} master br0",
            f"link set {port} up",
        )
        host.ip(
            f"link set {interface} up",
            f"address add {self.ipv4[number]}/{self.ipv4.prefixlen} dev {interface}",
            f"address add {self.ipv6[number]}/{self.ipv6.prefixlen} dev {interface} nodad",
        )

    def machine(self, name: str, number: int) -> Host:
        """One that is on this LAN alone."""
        host = self._lab.host(name)
        self.plug(host, number, "eth0")
        return host


def footprint(host: Host) -> dict[str, str]:
    """All of the host that we might change, without counters, lifetimes and caches."""
    commands = {
        "links": "ls /sys/class/net",
        "addresses": "ip -o address show scope global | sed 's/valid_lft.*//'",
        "rules": "ip rule; ip -6 rule",
        "firewall": "nft -s list ruleset",
        "sysctls": "cd /proc/sys/net; grep -r . ipv4/conf/*/forwarding ipv4/conf/*/rp_filter "
        "ipv4/conf/*/src_valid_mark ipv6/conf/*/forwarding ipv6/conf/*/force_forwarding "
        "ipv6/conf/*/accept_ra ipv4/ip_forward | sort",
        "resolver": "cat /etc/resolv.conf",
    }
    found = {name: host.run("sh", "-c", command).stdout for name, command in commands.items()}
    for family in ("-4", "-6"):
        routes = json.loads(host.run("ip", family, "-j", "route", "show", "table", "all").stdout or "[]")
        for route in routes:
            route.pop("expires", None)
        found[f"routes {family}"] = "\n".join(sorted(json.dumps(route, sort_keys=True) for route in routes))
    return found
