"""What policy routing for a default route needs besides the route: rules, a sysctl, a little firewall."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Sequence
from ipaddress import IPv4Interface, IPv6Interface
from typing import Final

from wgpy.errors import HostError
from wgpy.netlink import Netlink
from wgpy.quick.routes import Policy
from wgpy.quick.undo import Undo

logger = logging.getLogger(__name__)

SRC_VALID_MARK: Final = "/proc/sys/net/ipv4/conf/all/src_valid_mark"
"""Whether a packet's way back is looked up with its mark (rp_filter)."""

STRICT: Final = "with a strict rp_filter replies of the endpoint are dropped"

_TIMEOUT: Final = 20.0


def begin_policy(
    policy: Policy, interface: str, addresses: Sequence[IPv4Interface | IPv6Interface], undo: Undo
) -> None:
    """Raises HostError; what was done by then is in `undo`."""
    if 4 in policy.versions and _read(SRC_VALID_MARK) == "0":
        try:
            _write(SRC_VALID_MARK, "1")
            undo.add("restore src_valid_mark", _restore_src_valid_mark)
        except HostError as error:
            # Containers have a read-only /proc/sys, and mostly no rp_filter.
            logger.warning("%s; %s", error, STRICT)
    undo.add("remove the routing rules", lambda: remove_rules(policy.table))
    with Netlink() as netlink:
        for rule in policy.rules():
            netlink.add_rule(rule)
    if shutil.which("nft") is None:
        logger.warning("nft is not installed; %s", STRICT)
        return
    undo.add("remove the firewall's table", lambda: remove_firewall(interface))
    try:
        run_nft(firewall(policy, interface, addresses))
    except HostError as error:
        logger.warning("%s; %s", error, STRICT)


def remove_rules(table: int) -> None:
    """All that `begin_policy` added for this table, of either IP version."""
    with Netlink() as netlink:
        for version in (4, 6):
            for rule in netlink.rules(version):
                if rule.table == table and rule.invert:
                    # The rule for the main table stands beside each of ours.
                    netlink.delete_rule(rule)
                    for other in Policy(table, [version]).rules()[1:]:
                        netlink.delete_rule(other)


def _restore_src_valid_mark() -> None:
    """Unless another tunnel has policy routing, too."""
    with Netlink() as netlink:
        if not any(rule.suppress_prefix_length == 0 for rule in netlink.rules(4)):
            _write(SRC_VALID_MARK, "0")


def firewall(policy: Policy, interface: str, addresses: Sequence[IPv4Interface | IPv6Interface]) -> str:
    """nft's text: replies to the tunnel's packets get its mark, so that a strict rp_filter finds their way;
    and nobody reaches the tunnel's addresses but through the tunnel.
    """
    guards = "\n".join(
        f'    iifname != "{interface}" {family} daddr {address.ip} fib saddr type != local drop'
        for version, family in ((4, "ip"), (6, "ip6"))
        for address in addresses
        if version in policy.versions and address.version == version
    )
    return f"""table inet {_table_name(interface)} {{
  chain preraw {{
    type filter hook prerouting priority -300; policy accept;
{guards}
  }}
  chain premangle {{
    type filter hook prerouting priority -150; policy accept;
    meta l4proto udp meta mark set ct mark
  }}
  chain postmangle {{
    type filter hook postrouting priority -150; policy accept;
    meta l4proto udp meta mark {policy.table} ct mark set meta mark
  }}
}}
"""


def remove_firewall(interface: str) -> None:
    if shutil.which("nft") is not None:
        # Made before it is deleted, so that deleting one that is not there is no error.
        name = _table_name(interface)
        run_nft(f"table inet {name} {{}}\ndelete table inet {name}\n")


def _table_name(interface: str) -> str:
    return "wgpy-" + "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in interface)


def run_nft(text: str) -> None:
    """Raises HostError."""
    try:
        done = subprocess.run(
            ["nft", "-f", "-"], input=text, text=True, capture_output=True, check=False, timeout=_TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"nft does not run: {error}") from error
    if done.returncode:
        reason = done.stderr.strip().splitlines()
        raise HostError(f"nft refuses the rules: {reason[0] if reason else 'without a word'}")


def _read(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return None


def _write(path: str, value: str) -> None:
    """Raises HostError."""
    try:
        with open(path, "w") as file:
            file.write(value)
    except OSError as error:
        raise HostError(f"cannot set {path} to {value}: {error.strerror}") from error
