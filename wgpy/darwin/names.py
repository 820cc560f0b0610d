"""Name servers on macOS: a key of the dynamic store for each interface, set and removed by scutil(8).

Whoever resolves names there listens to the store: servers for the domains named, or, with the empty one, for
everything. To take it back the key is removed; nothing of the host's own settings is touched, so nothing has
to be remembered.
"""

from __future__ import annotations

import re
from typing import Final

from wgpy.agent.dns.claims import Claim
from wgpy.errors import HostError

EVERYTHING: Final = '""'
_DOMAIN: Final = re.compile(r"[A-Za-z0-9_.-]{1,253}")


def store_key(interface: str) -> str:
    return f"State:/Network/Service/wgpy-{interface}/DNS"


def announce_script(claim: Claim) -> str:
    """Commands for scutil's standard input. Raises HostError for a domain that would be more than a word."""
    domains = [*dict.fromkeys((*claim.domains, *claim.search))]
    for domain in domains:
        if not _DOMAIN.fullmatch(domain):
            raise HostError(f"a domain has letters, digits, dots and dashes; got {domain!r}")
    matched = [EVERYTHING] if claim.is_exclusive else domains
    lines = ["d.init", f"d.add ServerAddresses * {' '.join(map(str, claim.servers))}"]
    if claim.port != 53:
        lines.append(f"d.add ServerPort # {claim.port}")
    if claim.search:
        lines.append(f"d.add SearchDomains * {' '.join(claim.search)}")
    if matched:
        lines.append(f"d.add SupplementalMatchDomains * {' '.join(matched)}")
    lines += [f"set {store_key(claim.interface)}", "quit"]
    return "\n".join(lines) + "\n"


def withdraw_script(interface: str) -> str:
    return f"remove {store_key(interface)}\nquit\n"
