"""How a host is, or is to be, as far as we have a say in it. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from wgpy.host.nft import NftTable
from wgpy.netlink.route import Route
from wgpy.netlink.rule import Rule


@dataclass(frozen=True, slots=True)
class GuestRule:
    """One rule of ours at the head of a chain of somebody else's, found again by its comment `tag`."""

    family: str
    table: str
    chain: str
    text: str
    tag: str

    @property
    def place(self) -> str:
        return f"{self.family} {self.table} {self.chain}"


@dataclass(frozen=True, slots=True)
class HostSetting:
    """`sysctls` are values by path below /proc/sys, such as `net/ipv4/conf/eth0/forwarding`; `tables` by
    their names; routes are those of our interfaces, with which they go.
    """

    sysctls: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, NftTable] = field(default_factory=dict)
    routes: frozenset[Route] = frozenset()
    rules: frozenset[Rule] = frozenset()
    guests: frozenset[GuestRule] = frozenset()

    def joined(self, other: HostSetting) -> HostSetting:
        """Both. Of a table that both have, the chains and sets of both."""
        tables = dict(self.tables)
        for name, table in other.tables.items():
            mine = tables.get(name)
            tables[name] = table if mine is None else _joined(mine, table)
        return HostSetting(
            {**self.sysctls, **other.sysctls},
            tables,
            self.routes | other.routes,
            self.rules | other.rules,
            self.guests | other.guests,
        )


def _joined(one: NftTable, other: NftTable) -> NftTable:
    return dataclasses.replace(one, chains=one.chains + other.chains, sets=one.sets + other.sets)


NOTHING = HostSetting()
