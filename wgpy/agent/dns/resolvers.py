"""What resolves names on this host, and how it is told of ours."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from wgpy.addresses import Endpoint, IPAddress
from wgpy.agent.dns import shared_file
from wgpy.agent.dns.claims import Claim, Claims
from wgpy.agent.dns.resolv_conf import parse_nameservers
from wgpy.agent.dns.upstream import at_port
from wgpy.darwin import IS_DARWIN
from wgpy.darwin.names import announce_script, withdraw_script
from wgpy.errors import HostError

logger = logging.getLogger(__name__)

_TIMEOUT: Final = 20.0
_RESOLVED: Final = Path("/run/systemd/resolve")
_STUBS: Final = ("127.0.0.53", "127.0.0.54")
_OPENWRT: Final = Path("/etc/openwrt_release")
_DNSMASQ: Final = Path("/etc/init.d/dnsmasq")
_RESOLVCONF_INTERFACES: Final = (Path("/run/resolvconf/interfaces"), Path("/run/resolvconf/interface"))


@dataclass(frozen=True, slots=True)
class Resolver:
    """`announce` tells it of a claim, `withdraw` takes back what was said of an interface; both raise
    HostError, and are called with the claims' lock held.

    `asks_others` is whether it asks other servers by itself for names that are not in a claim's domains,
    unless the claim is for those, too; `upstreams` says who those are. `needs_port_53` is whether it can be
    told a port.
    """

    name: str
    announce: Callable[[Claims, Claim], None]
    withdraw: Callable[[Claims, str], None]
    asks_others: bool
    needs_port_53: bool
    upstreams: Callable[[], Sequence[IPAddress]]


def find_resolver() -> Resolver:
    """The one that this host's programs ask."""
    if IS_DARWIN:
        return SCUTIL
    if has_resolved() and _programs_ask_resolved():
        return RESOLVED
    if _OPENWRT.exists() and _DNSMASQ.exists():
        return DNSMASQ
    if _has_resolvconf() and _resolvconf_upstreams():
        return RESOLVCONF
    return SHARED_FILE


def find_exclusive_resolver() -> Resolver:
    """For name servers that are to be asked for everything, as `DNS =` of a file wants it."""
    if IS_DARWIN:
        return SCUTIL
    if has_resolved() and _programs_ask_resolved():
        return RESOLVED
    return RESOLVCONF if _has_resolvconf() else SHARED_FILE


class Announcement:
    """What a resolver was told of an interface, until `withdraw`; of a killed one, until `repair_names`."""

    def __init__(self, resolver: Resolver, claim: Claim) -> None:
        """Raises HostError, and nothing was told then."""
        self.resolver = resolver
        self.claim = replace(claim, resolver=resolver.name)
        with Claims() as claims:
            self._held = claims.hold(self.claim)
            try:
                resolver.announce(claims, self.claim)
            except HostError:
                self._held.release()
                raise

    def change(self, claim: Claim) -> None:
        """Tell it of this in the place of the other. Raises HostError."""
        self.claim = replace(claim, resolver=self.resolver.name)
        with Claims() as claims:
            self._held.write(self.claim)
            self.resolver.announce(claims, self.claim)

    def withdraw(self) -> None:
        """Raises HostError; the claim is given up all the same."""
        with Claims() as claims:
            self._held.release()
            self.resolver.withdraw(claims, self.claim.interface)


def repair_names() -> list[str]:
    """Take back what killed processes have told the host's resolver → what was done, in sentences. Raises
    HostError.
    """
    done = []
    with Claims() as claims:
        for claim in claims.take_left_behind():
            resolver = BY_NAME.get(claim.resolver)
            if resolver is not None and resolver is not SHARED_FILE:
                resolver.withdraw(claims, claim.interface)
                done.append(f"{resolver.name}: took back the names of {claim.interface}")
        if shared_file.update(claims):
            done.append(f"{shared_file.RESOLV_CONF} is as it was before, or as the networks that run want it")
    return done


def needs_repair_of_names() -> bool:
    """Whether this host asks a responder that is gone."""
    with Claims() as claims:
        if any(claim.resolver == shared_file.NAME for claim in claims.live()):
            return False
    return shared_file.has_ours()


# --- systemd-resolved -----------------------------------------------------------------------------


def has_resolved() -> bool:
    """Whether systemd-resolved runs and can be told."""
    return shutil.which("resolvectl") is not None and _RESOLVED.is_dir()


def _programs_ask_resolved() -> bool:
    """By its stub, or by what it writes."""
    if os.path.realpath(shared_file.RESOLV_CONF).startswith(f"{_RESOLVED}/"):
        return True
    return any(str(address) in _STUBS for address in shared_file.upstreams())


def _announce_to_resolved(claims: Claims, claim: Claim) -> None:
    del claims
    servers = [
        str(address) if claim.port == 53 else str(Endpoint(address, claim.port)) for address in claim.servers
    ]
    routed = [f"~{domain}" for domain in claim.domains if domain not in claim.search]
    asks_all = claim.is_exclusive or claim.is_default
    everything = ["~."] if asks_all else []
    run_command(["resolvectl", "dns", claim.interface, *servers])
    run_command(["resolvectl", "domain", claim.interface, *everything, *claim.search, *routed])
    if not claim.is_exclusive:
        run_command(["resolvectl", "default-route", claim.interface, "yes" if asks_all else "no"])


def _withdraw_from_resolved(claims: Claims, interface: str) -> None:
    """It forgets what belongs to an interface with the interface, which may be gone by now."""
    del claims
    if os.path.exists(f"/sys/class/net/{interface}"):
        run_command(["resolvectl", "revert", interface])


def _resolved_upstreams() -> list[IPAddress]:
    """What it has heard of servers, ours among them."""
    return parse_nameservers(_text_of(_RESOLVED / "resolv.conf"))


def resolved_servers() -> list[tuple[IPAddress, bool]]:
    """Each server that it knows, with whether it is a link's, and asked by that alone. Raises HostError."""
    found: dict[tuple[IPAddress, bool], None] = {}
    for line in run_command(["resolvectl", "dns"]).splitlines():
        where, _, texts = line.partition(": ")
        for text in texts.split():
            with contextlib.suppress(ValueError):  # #NAME for TLS, a port
                address = ipaddress.ip_address(text.partition("#")[0])
                found[address, where.startswith("Link ")] = None
    return list(found)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


# --- dnsmasq of OpenWrt ---------------------------------------------------------------------------


def _dnsmasq_files(interface: str) -> list[Path]:
    """A snippet in the directory of each instance: /tmp/dnsmasq.d, or /tmp/dnsmasq.INSTANCE.d since 24.10."""
    directories = [path for path in Path("/tmp").glob("dnsmasq*.d") if path.is_dir()]
    return [path / f"wgpy-{interface}.conf" for path in directories]


def _announce_to_dnsmasq(claims: Claims, claim: Claim) -> None:
    del claims
    lines = ["# Written by wgpy; gone when the network is down."]
    lines += [
        f"server=/{domain}/{address}#{claim.port}" for domain in claim.domains for address in claim.servers
    ]
    # Addresses of a mesh are private ones, which its protection against rebinding would drop.
    lines += [f"rebind-domain-ok=/{domain}/" for domain in claim.domains]
    if claim.is_default:
        lines += ["no-resolv", *(f"server={address}#{claim.port}" for address in claim.servers)]
    text = "\n".join(lines) + "\n"
    files = _dnsmasq_files(claim.interface)
    if not files:
        raise HostError("dnsmasq has no directory /tmp/dnsmasq*.d to be told in; is it running?")
    changed = False
    for path in files:
        try:
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
                changed = True
        except OSError as error:
            raise HostError(f"cannot write {path}: {error.strerror}") from None
    if changed:
        run_command([str(_DNSMASQ), "restart"])


def _withdraw_from_dnsmasq(claims: Claims, interface: str) -> None:
    del claims
    present = [path for path in _dnsmasq_files(interface) if path.exists()]
    for path in present:
        path.unlink(missing_ok=True)
    if present:
        run_command([str(_DNSMASQ), "restart"])


def _dnsmasq_upstreams() -> list[IPAddress]:
    texts = map(_text_of, (Path("/tmp/resolv.conf.d/resolv.conf.auto"), Path("/tmp/resolv.conf.auto")))
    return parse_nameservers("\n".join(texts))


# --- resolvconf(8) --------------------------------------------------------------------------------


def _has_resolvconf() -> bool:
    """A real one: systemd-resolved has a link of that name."""
    found = shutil.which("resolvconf")
    return found is not None and os.path.basename(os.path.realpath(found)) != "resolvectl"


def _resolvconf_upstreams() -> list[IPAddress]:
    with Claims() as claims:
        ours = {claim.interface for claim in claims.live()}
    found: dict[IPAddress, None] = {}
    for directory in _RESOLVCONF_INTERFACES:
        if directory.is_dir():
            for path in sorted(directory.iterdir()):
                if path.name not in ours and path.is_file():
                    found |= dict.fromkeys(parse_nameservers(path.read_text(errors="replace")))
    return list(found)


def _announce_to_resolvconf(claims: Claims, claim: Claim) -> None:
    del claims
    search = f"search {' '.join(claim.search)}\n" if claim.search else ""
    text = "".join(f"nameserver {server}\n" for server in claim.servers) + search
    run_command(["resolvconf", "-a", claim.interface, "-m", "0", "-x"], text)


def _withdraw_from_resolvconf(claims: Claims, interface: str) -> None:
    del claims
    run_command(["resolvconf", "-d", interface, "-f"])


# --- the dynamic store of macOS -------------------------------------------------------------------


def _announce_to_scutil(claims: Claims, claim: Claim) -> None:
    del claims
    run_command(["scutil"], announce_script(claim))


def _withdraw_from_scutil(claims: Claims, interface: str) -> None:
    del claims
    run_command(["scutil"], withdraw_script(interface))


# --- all of them ----------------------------------------------------------------------------------


def _update_file(claims: Claims, what: object) -> None:
    del what
    shared_file.update(claims)


RESOLVED: Final = Resolver(
    "systemd-resolved",
    _announce_to_resolved,
    _withdraw_from_resolved,
    asks_others=True,
    needs_port_53=False,
    upstreams=_resolved_upstreams,
)
DNSMASQ: Final = Resolver(
    "dnsmasq",
    _announce_to_dnsmasq,
    _withdraw_from_dnsmasq,
    asks_others=True,
    needs_port_53=False,
    upstreams=_dnsmasq_upstreams,
)
RESOLVCONF: Final = Resolver(
    "resolvconf",
    _announce_to_resolvconf,
    _withdraw_from_resolvconf,
    asks_others=False,
    needs_port_53=True,
    upstreams=_resolvconf_upstreams,
)
SCUTIL: Final = Resolver(
    "scutil",
    _announce_to_scutil,
    _withdraw_from_scutil,
    asks_others=True,
    needs_port_53=False,
    upstreams=lambda: (),
)
SHARED_FILE: Final = Resolver(
    shared_file.NAME,
    _update_file,
    _update_file,
    asks_others=False,
    needs_port_53=True,
    upstreams=shared_file.upstreams,
)
BY_NAME: Final = {each.name: each for each in (RESOLVED, DNSMASQ, RESOLVCONF, SCUTIL, SHARED_FILE)}


def upstream_endpoints(resolver: Resolver) -> list[Endpoint]:
    """Who knows the rest of the world, without the responders of this host."""
    with Claims() as claims:
        ours = {server for claim in claims.live() for server in claim.servers}
    return at_port([address for address in resolver.upstreams() if address not in ours])


def run_command(command: list[str], text: str | None = None) -> str:
    """What it wrote. Raises HostError with the last line of that."""
    try:
        done = subprocess.run(
            command, input=text, text=True, capture_output=True, check=False, timeout=_TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{command[0]} does not run: {error}") from error
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()
        raise HostError(f"{' '.join(command)}: {reason[-1] if reason else f'status {done.returncode}'}")
    return done.stdout
