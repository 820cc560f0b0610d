"""What somebody needs to see who looks for a fault on this host, each part for itself: one that cannot be
read costs itself alone, so a report is made without root, and with the agent dead.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wgpy import __version__
from wgpy.agent.ask import ask, running_names
from wgpy.agent.checks import run_checks
from wgpy.agent.dns.resolvers import find_resolver
from wgpy.agent.places import state_directory
from wgpy.agent.redact import Identifiers, Redactor, octets_in
from wgpy.agent.state_file import known_names, load_state
from wgpy.config import parse_config
from wgpy.engine import cipher
from wgpy.errors import WgpyError
from wgpy.host.kernel import has_nft, list_nft, list_table, read_sysctl
from wgpy.host.ledger import ledger_path
from wgpy.netlink import Netlink
from wgpy.uapi.listener import SOCKET_DIRECTORY

_PATIENCE: Final = 10.0
"""Seconds for an agent, or for a program of the host."""
_MOST: Final = 300_000
"""Characters of one part: its end is kept, which of a log is the new one."""
_PLAIN_VARIABLES: Final = ("WGPY_STATE_DIR", "WGPY_RUNTIME_DIR", "WGPY_ENGINE", "WGPY_AEAD")
_LOG_LINES: Final = 400
_LOG_TAIL: Final = 4_000_000
"""Octets of a log file in which they are looked for."""


@dataclass(frozen=True, slots=True)
class Part:
    """`about` says in a few words what it holds."""

    title: str
    about: str
    text: str


def collect(identifiers: Identifiers = Identifiers.SHORT) -> list[Part]:
    """All parts, with nothing secret in them."""
    redact = _make_redactor(identifiers)
    parts = []
    for title, about, read in _PARTS:
        try:
            text = "\n".join(read())
        except Exception as error:  # a report is for when things are broken
            text = f"could not be read: {_reason(error)}"
        text = redact(text)  # before it is cut, or half of a secret would stay
        parts.append(Part(title, about, text if len(text) <= _MOST else f"[cut]…{text[-_MOST:]}"))
    return parts


def render(parts: list[Part]) -> str:
    return "\n".join(f"==== {part.title}: {part.about} ====\n{part.text.rstrip()}\n" for part in parts)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error) if isinstance(error, WgpyError) else type(error).__name__


# --- what must not be seen ------------------------------------------------------------------------


def _make_redactor(identifiers: Identifiers) -> Redactor:
    secrets: set[bytes] = set()
    public: set[bytes] = set()
    words: set[str] = set()
    for path in _private_files():
        try:
            value = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        if not isinstance(value, dict):
            continue
        if path.name.startswith(".joining-"):
            secrets |= set(octets_in(value))
            asked = value.get("asked")
            words |= {str(asked[name]) for name in ("code",) if isinstance(asked, dict) and asked.get(name)}
        else:
            private = {name: value.get(name) for name in ("keys", "next_key", "tickets", "timestamp")}
            secrets |= set(octets_in(private))
            public |= set(octets_in({name: each for name, each in value.items() if name not in private}))
    for name in known_names():
        try:
            keys = load_state(name).keys
        except WgpyError:
            continue
        public |= {bytes(keys.machine_key.public_key()), bytes(keys.wireguard_key.public_key())}
    for path in Path("/etc/wireguard").glob("*.conf"):
        try:
            config = parse_config(path.read_text(), str(path))
        except (OSError, ValueError, WgpyError):
            continue
        if config.private_key is not None:
            secrets.add(bytes(config.private_key))
        for peer in config.peers:
            public.add(bytes(peer.public_key))
            secrets.add(bytes(peer.preshared_key))
    secrets -= {bytes(32)}  # no preshared key
    return Redactor(secrets, words, public, os.urandom(16), identifiers)


def _private_files() -> list[Path]:
    try:
        return [path for path in state_directory().iterdir() if path.is_file() and ".lock" not in path.name]
    except OSError:
        return []


# --- the parts ------------------------------------------------------------------------------------


def _versions() -> Iterator[str]:
    system = os.uname()
    yield f"wgpy {__version__}, Python {platform.python_version()}, {sys.executable}"
    yield f"{system.sysname} {system.release} {system.version} {system.machine}"
    yield f"cipher: {cipher()[0]}; effective user id {os.geteuid()}; processors {os.cpu_count()}"
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    yield f"{release.get('PRETTY_NAME', 'no /etc/os-release')}; {time.strftime('%FT%TZ', time.gmtime())}"
    for name in sorted(each for each in os.environ if each.startswith("WGPY_")):
        yield f"{name}={os.environ[name]}" if name in _PLAIN_VARIABLES else f"{name} is set"
    for program in ("nft", "iptables", "resolvectl", "resolvconf", "docker", "firewall-cmd", "ufw", "wg"):
        yield f"{program}: {shutil.which(program) or 'not installed'}"


def _doctor() -> Iterator[str]:
    yield from (json.dumps(finding.to_json(), ensure_ascii=False) for finding in run_checks())


def _answers(request: dict[str, Any]) -> Iterator[str]:
    names = sorted({*_known(), *running_names()})
    if not names:
        yield "no network on this host, or none that this user may see"
    for name in names:
        yield f"-- {name}"
        try:
            fields = ask(name, request, timeout=_PATIENCE)
        except WgpyError as error:
            yield str(error)
        else:
            yield json.dumps(dict(fields.extra(frozenset())), indent=1, ensure_ascii=False)


def _known() -> list[str]:
    try:
        return known_names()
    except WgpyError:
        return []


def _memberships() -> Iterator[str]:
    for name in known_names():
        try:
            state = load_state(name)
        except WgpyError as error:
            yield f"{name}: {error}"
            continue
        held = state.held
        shown = {
            "name": name, "node": state.node_name, "interface": state.interface, "boot": state.boot,
            "wireguard_key": str(state.keys.wireguard_key.public_key()),
            "addresses": [str(each) for each in state.addresses], "urls": list(state.urls),
            "pinned": state.pinned, "listen_port": state.listen_port, "choices": state.choices.to_json(),
            "record_seq": state.record_seq, "renewing": state.next_key is not None,
            "map": None if held is None else {
                "epoch": held.epoch, "revision": held.revision, "peers": len(held.map.peers),
                "network": held.map.network.to_json(),
            },
        }  # fmt: skip
        yield json.dumps(shown, indent=1, ensure_ascii=False, default=str)
    yield from (
        f"{path.name}: mode {path.stat().st_mode & 0o777:o}, {path.stat().st_size} octets"
        for path in _private_files()
    )


def _ledger() -> Iterator[str]:
    path = ledger_path()
    yield path.read_text() if path.exists() else "nothing of ours is written down for this host"


def _firewall() -> Iterator[str]:
    if not has_nft():
        yield "nft is not installed"
        return
    for item in list_nft("tables"):
        table = item.get("table", {})
        name = str(table.get("name", ""))
        if name.startswith("wgpy-"):
            yield list_table(name) or f"{name} cannot be listed"
        elif table:
            yield f"somebody else's table: {table.get('family')} {name}"
    for item in list_nft("chains"):
        chain = item.get("chain", {})
        if chain.get("hook"):
            yield " ".join(
                str(chain.get(key)) for key in ("family", "table", "name", "hook", "prio", "policy")
            )


def _network() -> Iterator[str]:
    with Netlink() as netlink:
        for link in netlink.links():
            yield str(link)
        for address in netlink.addresses():
            yield str(address)
        for version in (4, 6):
            yield from map(str, netlink.rules(version))
            yield from map(str, netlink.routes(version))


def _sysctls() -> Iterator[str]:
    names = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/rp_filter"]
    names += ["net/ipv4/conf/all/src_valid_mark", "net/core/rmem_max", "net/core/wmem_max"]
    for family in ("ipv4", "ipv6"):
        names += sorted(
            str(path.relative_to("/proc/sys"))
            for path in Path(f"/proc/sys/net/{family}/conf").glob("*/forwarding")
        )
    yield from (f"{name} = {read_sysctl(name)}" for name in names)


def _resolver() -> Iterator[str]:
    yield f"told of names: {find_resolver().name}"
    path = Path("/etc/resolv.conf")
    yield f"/etc/resolv.conf{' -> ' + os.readlink(path) if path.is_symlink() else ''}"
    yield path.read_text(errors="replace")
    yield from _program("resolvectl", "status", "--no-pager")


def _log() -> Iterator[str]:
    for words in (("-u", "wgpy-*"), ("-t", "wgpy")):
        yield from _program(
            "journalctl", "--no-pager", "-q", "-n", str(_LOG_LINES), "-o", "short-iso", *words
        )
    for path in map(Path, ("/var/log/syslog", "/var/log/messages", "/var/log/daemon.log")):
        if path.exists():
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _LOG_TAIL))
                lines = file.read().decode(errors="replace").splitlines()
            yield from [line for line in lines if "wgpy" in line][-_LOG_LINES:]


def _sockets() -> Iterator[str]:
    yield from (str(path) for path in sorted(Path(SOCKET_DIRECTORY).glob("*.sock")))


def _program(name: str, *words: str) -> list[str]:
    if shutil.which(name) is None:
        return []
    try:
        done = subprocess.run(
            [name, *words], capture_output=True, text=True, errors="replace", timeout=_PATIENCE, check=False,
            stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"{name}: {type(error).__name__}"]
    return [done.stdout or done.stderr]


_PARTS: Final[tuple[tuple[str, str, Callable[[], Iterator[str]]], ...]] = (
    ("versions", "wgpy, kernel, system, programs there are", _versions),
    ("doctor", "what this host can and cannot do", _doctor),
    (
        "status",
        "networks, peers, paths and their reasons, as the agents tell them",
        lambda: _answers({"op": "status"}),
    ),
    ("netcheck", "how this host is seen from outside", lambda: _answers({"op": "netcheck"})),
    (
        "plan",
        "what the agents would change on this host now",
        lambda: _answers({"op": "preview", "choices": {}}),
    ),
    ("memberships", "what was joined here, without its keys", _memberships),
    ("ledger", "what of ours is on this host, and how it was before", _ledger),
    ("firewall", "our nftables tables, and the names of others", _firewall),
    ("network", "links, addresses, routes and rules", _network),
    ("sysctls", "forwarding and buffers", _sysctls),
    ("resolver", "who resolves names here", _resolver),
    ("sockets", "WireGuard interfaces in user space", _sockets),
    ("log", "the last lines that wgpy wrote", _log),
)
