"""Other people's firewalls: chains that drop what is forwarded, whoever of us has accepted it. Pure.

In nftables an accept ends one table's say, a drop everybody's: what Docker, firewalld or ufw drop cannot be
allowed in a table of ours, but only by a rule in theirs, which takes their host's consent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from wgpy.host.setting import GuestRule

_FAMILIES: Final = ("ip", "ip6", "inet")


@dataclass(frozen=True, slots=True)
class ForwardGuard:
    """A base chain of somebody else's that drops what it was not told of. `chain` is where a rule of ours
    belongs.
    """

    owner: str
    family: str
    table: str
    chain: str

    def __str__(self) -> str:
        return f"{self.owner} ({self.family} {self.table})"

    def opening(self, interface: str, others: Iterable[str], tag: str) -> GuestRule:
        """The one rule that lets pass what goes from the tunnel to one of these interfaces, or back. What
        of that is allowed, our own table has judged before.
        """
        names = sorted(set(others))
        pairs = [f'"{interface}" . "{other}", "{other}" . "{interface}"' for other in names]
        text = f"iifname . oifname {{ {', '.join(pairs)} }} accept"
        return GuestRule(self.family, self.table, self.chain, text, tag)


def forward_guards(listing: Iterable[Mapping[str, Any]]) -> list[ForwardGuard]:
    """Those in what `nft --json list chains` shows."""
    chains = [item["chain"] for item in listing if "chain" in item]
    names = {(chain["family"], chain["table"], chain["name"]) for chain in chains}
    found = []
    for chain in chains:
        family, table, name = chain["family"], chain["table"], chain["name"]
        if family not in _FAMILIES or chain.get("hook") != "forward" or table.startswith("wgpy-"):
            continue
        if table == "firewalld":
            found.append(ForwardGuard("firewalld", family, table, name))
        elif chain.get("policy") == "drop":
            if (family, table, "DOCKER-USER") in names:
                found.append(ForwardGuard("Docker", family, table, "DOCKER-USER"))
            elif any(known.startswith("ufw") for _, _, known in names):
                found.append(ForwardGuard("ufw", family, table, name))
            else:
                found.append(ForwardGuard("a firewall", family, table, name))
    return found
