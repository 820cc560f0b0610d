"""`DNS =` of a tunnel's file: name servers for everything while the tunnel is up."""

from __future__ import annotations

from collections.abc import Sequence

from wgpy.addresses import IPAddress
from wgpy.agent.dns.claims import Claim
from wgpy.agent.dns.resolvers import Announcement, find_exclusive_resolver


def announce_servers(interface: str, entries: Sequence[IPAddress | str]) -> Announcement | None:
    """Ask these servers (addresses) alone, and for short names in these search domains (names); until it is
    withdrawn. None: there is no server among them. Raises HostError.
    """
    servers = tuple(entry for entry in entries if not isinstance(entry, str))
    search = tuple(entry for entry in entries if isinstance(entry, str))
    if not servers:
        return None
    claim = Claim(interface, servers, search=search, is_exclusive=True)
    return Announcement(find_exclusive_resolver(), claim)
