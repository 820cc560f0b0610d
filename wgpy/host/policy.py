"""Policy routing for a default route into a tunnel: what it takes besides the route. Pure.

A default route into a tunnel would catch the tunnel's own packets. So it goes into a table of its own, into
which all packets look but those with the tunnel's mark; and before that everyone looks into the main table
for anything better than a default route. wg-quick(8) does the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from wgpy.addresses import IPAddress
from wgpy.host.nft import Chain
from wgpy.netlink.route import RT_TABLE_MAIN, Route
from wgpy.netlink.rule import Rule

FIRST_POLICY_TABLE: Final = 51820
SRC_VALID_MARK: Final = "net/ipv4/conf/all/src_valid_mark"
"""Whether a packet's way back is looked up with its mark (rp_filter)."""
_FIRST_FREE: Final = 32766
"""The priority of the kernel's own rule for the main table; ours stand before it."""


@dataclass(frozen=True, slots=True)
class Policy:
    """For the default routes of these IP versions: the mark is the number of the table.

    `priority` is that of the rule for the table; the one for the main table stands right before it, if
    `keeps_lan`: what the main table knows better than by its default route stays outside.
    """

    table: int
    versions: Sequence[int]
    priority: int
    keeps_lan: bool = True

    def rules(self) -> frozenset[Rule]:
        found = []
        for version in self.versions:
            found.append(Rule(version, self.table, mark=self.table, invert=True, priority=self.priority))
            if self.keeps_lan:
                main = Rule(version, RT_TABLE_MAIN, suppress_prefix_length=0, priority=self.priority - 1)
                found.append(main)
        return frozenset(found)

    def sysctls(self) -> dict[str, str]:
        return {SRC_VALID_MARK: "1"} if 4 in self.versions else {}

    def chains(self, interface: str, addresses: Iterable[IPAddress]) -> tuple[Chain, ...]:
        """Replies to the tunnel's packets get its mark, so that a strict rp_filter finds their way; and
        nobody reaches the tunnel's addresses but through the tunnel.
        """
        guards = tuple(
            f'iifname != "{interface}" {"ip" if address.version == 4 else "ip6"} daddr {address} '
            "fib saddr type != local drop"
            for address in addresses
            if address.version in self.versions
        )
        mark = f"{self.table:#010x}"
        return (
            Chain("preraw", "filter hook prerouting priority -300; policy accept;", guards),
            Chain(
                "premangle",
                "filter hook prerouting priority -150; policy accept;",
                ("meta l4proto udp meta mark set ct mark",),
            ),
            Chain(
                "postmangle",
                "filter hook postrouting priority -150; policy accept;",
                (f"meta l4proto udp meta mark {mark} ct mark set meta mark",),
            ),
        )


def free_table(routes: Iterable[Route]) -> int:
    """A number that no route's table has."""
    taken = {route.table for route in routes}
    table = FIRST_POLICY_TABLE
    while table in taken:
        table += 1
    return table


def free_priority(rules: Iterable[Rule]) -> int:
    """For a rule that is to stand before all there are but the kernel's first."""
    return min((rule.priority for rule in rules if rule.priority), default=_FIRST_FREE) - 1
