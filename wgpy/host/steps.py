"""From how a host is to how it is to be: the steps, each a value that says in words what it does. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from wgpy.host import nft
from wgpy.host.nft import NftTable
from wgpy.host.setting import GuestRule, HostSetting
from wgpy.netlink.route import Route
from wgpy.netlink.rule import Rule

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SetSysctl:
    name: str
    value: str

    def __str__(self) -> str:
        return f"set {self.name.replace('/', '.')} to {self.value}"


@dataclass(frozen=True, slots=True)
class RestoreSysctl:
    """To what it was before us, if it is still what we made of it."""

    name: str

    def __str__(self) -> str:
        return f"restore {self.name.replace('/', '.')}"


@dataclass(frozen=True, slots=True)
class ChangeTables:
    """Changes of our own tables, in one transaction: by name, each as it is to be, None: gone."""

    text: str
    tables: tuple[tuple[str, NftTable | None], ...]

    def __str__(self) -> str:
        words = []
        for name, table in self.tables:
            if table is None:
                words.append(f"delete the nftables table inet {name}")
            elif nft.deletion(name) in self.text:
                words.append(f"make the nftables table inet {name}")
            else:
                words.append(f"change elements of the nftables table inet {name}")
        return "; ".join(words)


@dataclass(frozen=True, slots=True)
class AddRule:
    rule: Rule

    def __str__(self) -> str:
        return f"add the routing rule {self.rule}"


@dataclass(frozen=True, slots=True)
class RemoveRule:
    rule: Rule

    def __str__(self) -> str:
        return f"remove the routing rule {self.rule}"


@dataclass(frozen=True, slots=True)
class AddHostRoute:
    route: Route

    def __str__(self) -> str:
        return f"add the route {self.route}"


@dataclass(frozen=True, slots=True)
class RemoveHostRoute:
    route: Route

    def __str__(self) -> str:
        return f"remove the route {self.route}"


@dataclass(frozen=True, slots=True)
class AddGuest:
    guest: GuestRule

    def __str__(self) -> str:
        return f"insert one rule into the chain {self.guest.place}: {self.guest.text}"


@dataclass(frozen=True, slots=True)
class RemoveGuest:
    guest: GuestRule

    def __str__(self) -> str:
        return f"take our rule out of the chain {self.guest.place}"


HostStep = (
    SetSysctl
    | RestoreSysctl
    | ChangeTables
    | AddRule
    | RemoveRule
    | AddHostRoute
    | RemoveHostRoute
    | AddGuest
    | RemoveGuest
)


def make_steps(present: HostSetting, wanted: HostSetting) -> list[HostStep]:
    """The steps that turn `present` into `wanted`. What lets packets in goes first when it goes, and comes
    last when it comes: the firewall is never behind of what it guards.
    """
    steps: list[HostStep] = [RemoveRule(rule) for rule in _sorted(present.rules - wanted.rules)]
    steps += [RemoveHostRoute(route) for route in _sorted(present.routes - wanted.routes)]
    steps += [RemoveGuest(guest) for guest in _sorted(present.guests - wanted.guests)]
    steps += [RestoreSysctl(name) for name in sorted(present.sysctls.keys() - wanted.sysctls.keys())]
    if (change := _change_tables(present, wanted)) is not None:
        steps.append(change)
    steps += [
        SetSysctl(name, value)
        for name, value in sorted(wanted.sysctls.items())
        if present.sysctls.get(name) != value
    ]
    steps += [AddGuest(guest) for guest in _sorted(wanted.guests - present.guests)]
    steps += [AddHostRoute(route) for route in _sorted(wanted.routes - present.routes)]
    steps += [AddRule(rule) for rule in _sorted(wanted.rules - present.rules)]
    return steps


def _sorted(values: frozenset[T]) -> list[T]:
    return sorted(values, key=repr)


def _change_tables(present: HostSetting, wanted: HostSetting) -> ChangeTables | None:
    changed: list[tuple[str, NftTable | None]] = []
    text = ""
    for name in sorted(present.tables.keys() - wanted.tables.keys()):
        changed.append((name, None))
        text += nft.deletion(name)
    for name, table in sorted(wanted.tables.items()):
        if change := nft.changes(present.tables.get(name), table):
            changed.append((name, table))
            text += change
    return ChangeTables(text, tuple(changed)) if changed else None
