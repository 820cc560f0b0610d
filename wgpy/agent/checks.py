"""What this host can and cannot do, in words: the checks of `wgpy doctor`, each for itself."""

from __future__ import annotations

import enum
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wgpy.agent.ask import running_names
from wgpy.agent.dns.resolvers import find_resolver, needs_repair_of_names
from wgpy.agent.dns.shared_file import RESOLV_CONF
from wgpy.agent.places import runtime_directory, state_directory
from wgpy.agent.repair import dead_holders
from wgpy.agent.state_file import known_names, load_state, state_path
from wgpy.engine import cipher, make_engine
from wgpy.engine.native import NativeDeviceEngine, Settings
from wgpy.errors import WgpyError
from wgpy.host.kernel import has_nft, list_nft
from wgpy.host.neighbours import forward_guards
from wgpy.mesh.encoding import JsonObject
from wgpy.netlink import Netlink
from wgpy.tun import Tun
from wgpy.uapi.listener import SOCKET_DIRECTORY

_CAP_NET_ADMIN: Final = 12
_CAP_NET_RAW: Final = 13
_OLDEST_SANE_TIME: Final = 1_750_000_000
"""Unix time (June 2025): no host that runs this lives before it."""
_DAY: Final = 86400


class Verdict(enum.StrEnum):
    GOOD = "good"
    NOTE = "note"
    """Works, with something to know."""
    BAD = "bad"
    """`wgpy up` will not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: what was found, and what to do about it ("": nothing)."""

    check: str
    verdict: Verdict
    text: str
    advice: str = ""

    def to_json(self) -> JsonObject:
        return {"check": self.check, "verdict": str(self.verdict), "text": self.text, "advice": self.advice}


Check = Callable[[], Iterator[Finding]]


def _good(check: str, text: str) -> Finding:
    return Finding(check, Verdict.GOOD, text)


def check_permission() -> Iterator[Finding]:
    """The capabilities that interfaces, routes and echoes take."""
    effective = 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    if not effective >> _CAP_NET_ADMIN & 1:
        advice = "run it as root, or give it CAP_NET_ADMIN"
        yield Finding("permission", Verdict.BAD, "no right to make interfaces and routes", advice)
    elif not effective >> _CAP_NET_RAW & 1:
        yield Finding("permission", Verdict.NOTE, "no CAP_NET_RAW: `wgpy ping` depends on ping_group_range")
    else:
        yield _good("permission", "may make interfaces, addresses and routes")


def check_tun() -> Iterator[Finding]:
    try:
        with Tun.create("wgpy%d", vnet_hdr=True) as tun:
            text = f"/dev/net/tun works (made {tun.name} and removed it)"
            yield _good("TUN", text + (", with offloads" if tun.vnet_hdr else ""))
    except WgpyError as error:
        text, _, advice = str(error).partition("; ")
        yield Finding("TUN", Verdict.BAD, text, advice)


_OFFLOAD_WORDS: Final = {
    "vnet": "virtio headers on the TUN",
    "tso": "TCP superpackets (TSO)",
    "uso": "UDP superpackets (USO)",
    "gso": "sending many datagrams at once (UDP GSO)",
    "gro": "receiving many datagrams at once (UDP GRO)",
}


def check_offloads() -> Iterator[Finding]:
    """What the engine finds on this host, by opening one on a TUN device of its own."""
    engine = make_engine()
    if not isinstance(engine, NativeDeviceEngine):
        yield _good("engine", "portable, as chosen; packets are moved by Python")
        return
    with Tun.create("wgpy%d", vnet_hdr=engine.wants_vnet_hdr) as tun:
        try:
            engine.open(tun.fileno(), 1420, tun.vnet_hdr)
            engine.bind(0, 0)
            found = engine.offloads()
        finally:
            engine.close()
    yield _good("engine", "native; packets are moved by threads of Rust")
    without = Settings.from_environment(os.environ).without
    for name, words in _OFFLOAD_WORDS.items():
        if found[name]:
            yield _good("offloads", words)
        else:
            why = "switched off by the environment" if name in without else "this kernel has none"
            yield Finding("offloads", Verdict.NOTE, f"no {words}: {why}", "slower, and nothing else")


def check_cipher() -> Iterator[Finding]:
    """What seals packets, and whether it is what was asked for."""
    name, warning = cipher()
    yield _good("cipher", f"ChaCha20-Poly1305 by {name}")
    if warning:
        yield Finding("cipher", Verdict.NOTE, warning)


def check_sockets() -> Iterator[Finding]:
    """UDP of both families."""
    for family, name in ((socket.AF_INET, "IPv4"), (socket.AF_INET6, "IPv6")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.bind(("", 0))
        except OSError as error:
            verdict = Verdict.BAD if family == socket.AF_INET else Verdict.NOTE
            advice = "" if verdict == Verdict.BAD else "the mesh goes on with IPv4 outside"
            yield Finding("sockets", verdict, f"no UDP over {name}: {error.strerror}", advice)
        else:
            yield _good("sockets", f"UDP over {name}")


def check_ipv6_inside() -> Iterator[Finding]:
    path = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
    if not path.exists() or path.read_text().strip() != "0":
        advice = "to have it: sysctl net.ipv6.conf.default.disable_ipv6=0"
        yield Finding("IPv6", Verdict.NOTE, "off for new interfaces: no IPv6 in the mesh", advice)


def check_kernel() -> Iterator[Finding]:
    system = os.uname()
    text = f"{system.sysname} {system.release} on {system.machine}"
    has_module = Path("/sys/module/wireguard").exists()
    module = "its own WireGuard is loaded, not used" if has_module else "without WireGuard, which is fine"
    yield _good("kernel", f"{text}; {module}")


def check_clock() -> Iterator[Finding]:
    """A clock in the past is survived (timestamps never go back), but TLS outside of pinned mode is not."""
    now = time.time()
    newest = max((path.stat().st_mtime for path in state_directory().glob("*.json")), default=0.0)
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    if now < _OLDEST_SANE_TIME or newest > now + _DAY:
        advice = "set it, or start NTP; tunnels work all the same, certificates may not"
        yield Finding("clock", Verdict.NOTE, f"the clock says {shown}, which is in the past", advice)
    else:
        yield _good("clock", shown)


def check_state() -> Iterator[Finding]:
    """Every state file can be read, and by us alone."""
    running = set(running_names())
    for name in known_names():
        try:
            state = load_state(name)
        except WgpyError as error:
            yield Finding("state", Verdict.BAD, str(error))
            continue
        text = f"{name}: {state.node_name}, {'running' if name in running else 'not running'}"
        if state_path(name).stat().st_mode & 0o077:
            advice = f"chmod 600 {state_path(name)}; if others read it, leave and join again"
            yield Finding("state", Verdict.BAD, f"{text}; others may read its keys", advice)
        else:
            yield _good("state", text)
    for path in state_directory().glob(".joining-*"):
        if not path.name.endswith(".lock"):
            advice = "run `wgpy up` with the same token again, or remove the file"
            yield Finding("state", Verdict.NOTE, f"a join was cut off ({path})", advice)


def check_others() -> Iterator[Finding]:
    """WireGuard devices that are not ours: they may hold the same ranges."""
    ours = set()
    for name in known_names():
        try:
            ours.add(load_state(name).interface)
        except WgpyError:
            continue
    with Netlink() as netlink:
        links = netlink.links()
    others = {link.name for link in links if link.kind == "wireguard"}
    names = {link.name for link in links}
    for path in Path(SOCKET_DIRECTORY).glob("*.sock"):
        if path.stem in names and path.stem not in ours:
            others.add(path.stem)
    if others:
        text = f"other WireGuard interfaces: {', '.join(sorted(others))}"
        yield Finding("others", Verdict.NOTE, text, "ranges that they route are not taken by a mesh unasked")


def check_names() -> Iterator[Finding]:
    """Whether the host's resolver was left with a responder that is gone, and which resolver it is."""
    if needs_repair_of_names():
        text = f"{RESOLV_CONF} leads to a responder that is gone"
        yield Finding("names", Verdict.NOTE, text, "wgpy doctor --repair, or start the network again")
    else:
        yield _good("names", f"with --dns on, told to {find_resolver().name}")


def check_runtime() -> Iterator[Finding]:
    """Control sockets can be made."""
    path = runtime_directory()
    parent = next(each for each in (path, *path.parents) if each.exists())
    if not os.access(parent, os.W_OK):
        yield Finding("sockets", Verdict.BAD, f"cannot write to {parent}", "set WGPY_RUNTIME_DIR")


def check_left_behind() -> Iterator[Finding]:
    """What processes that were killed have changed on this host and could not take back."""
    for holder in dead_holders():
        advice = "to restore the host: wgpy doctor --repair (the next `wgpy up` does it as well)"
        yield Finding("left behind", Verdict.NOTE, f"{holder} was killed and left changes here", advice)


def check_forwarding() -> Iterator[Finding]:
    """What a gateway or an exit node here would meet."""
    if not has_nft():
        other = "; iptables alone is not enough" if shutil.which("iptables") else ""
        text = f"no nft: a gateway or exit node here can neither filter nor masquerade{other}"
        yield Finding("forwarding", Verdict.NOTE, text, "install the package nftables")
        return
    for guard in forward_guards(list_nft("chains")):
        text = f"{guard} drops what this host forwards and it does not know"
        advice = "a gateway or exit node here needs `wgpy set --open-firewall on`: one rule there, tagged"
        yield Finding("forwarding", Verdict.NOTE, text, advice)


CHECKS: Final[tuple[Check, ...]] = (
    check_kernel,
    check_permission,
    check_tun,
    check_offloads,
    check_cipher,
    check_sockets,
    check_ipv6_inside,
    check_runtime,
    check_clock,
    check_state,
    check_others,
    check_forwarding,
    check_left_behind,
    check_names,
)


def run_checks() -> list[Finding]:
    """All findings; a check that fails itself is one."""
    findings: list[Finding] = []
    for check in CHECKS:
        try:
            findings += check()
        except (OSError, WgpyError) as error:
            name = check.__name__.removeprefix("check_")
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            findings.append(Finding(name, Verdict.NOTE, f"could not be looked at: {reason}"))
    return findings
