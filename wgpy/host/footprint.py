"""Our footprint on the host: brought to what is wanted, kept there, and taken back to the last trace."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
from collections.abc import Callable, Sequence

from wgpy.errors import HostError
from wgpy.host import nft
from wgpy.host.kernel import has_nft, list_nft, list_table, read_sysctl, run_nft, write_sysctl
from wgpy.host.ledger import Book, OpenLedger, SysctlEntry, open_ledger, read_ledger
from wgpy.host.nft import NftTable
from wgpy.host.setting import NOTHING, GuestRule, HostSetting
from wgpy.host.steps import (
    AddGuest,
    AddHostRoute,
    AddRule,
    ChangeTables,
    HostStep,
    RemoveGuest,
    RemoveHostRoute,
    RemoveRule,
    RestoreSysctl,
    SetSysctl,
    make_steps,
)
from wgpy.netlink import Netlink, NetlinkError

logger = logging.getLogger(__name__)


class Footprint:
    """Of one holder, the name of a network or tunnel. `problems` is what the host refused of the last
    change, in sentences, by step.
    """

    def __init__(self, holder: str) -> None:
        self.holder = holder
        self.problems: dict[HostStep, str] = {}
        self._setting = NOTHING
        self._listings: dict[str, str | None] = {}
        """Our tables as nft shows them when nobody has touched them."""
        self._is_suspect = False

    def suspect(self) -> None:
        """Somebody has changed nftables: look at our tables before the next change."""
        self._is_suspect = True

    def present(self) -> HostSetting:
        """What of ours is still there as we left it."""
        setting = self._setting
        tables, guests = setting.tables, setting.guests
        if self._is_suspect:
            tables = {
                name: table
                for name, table in tables.items()
                if (listing := list_table(name)) is not None and listing == self._listings.get(name)
            }
            guests = frozenset(guest for guest in guests if _handles(guest))
            self._is_suspect = False
        rules, routes = setting.rules, setting.routes
        if rules or routes:
            with Netlink() as netlink:
                there = {rule for version in (4, 6) for rule in netlink.rules(version)} if rules else set()
                rules &= there
                routes = frozenset(
                    route
                    for route in routes
                    if any(
                        found.prefix == route.prefix
                        for found in netlink.routes(
                            route.prefix.version, table=route.table, interface=route.interface
                        )
                    )
                )
        sysctls = {name: value for name, value in setting.sysctls.items() if read_sysctl(name) == value}
        self._setting = HostSetting(sysctls, tables, routes, rules, guests)
        return self._setting

    def plan(self, wanted: HostSetting) -> list[HostStep]:
        return make_steps(self.present(), wanted)

    def apply(self, wanted: HostSetting) -> list[HostStep]:
        """Make it so → the steps that it took. Each step is for itself: what the host refuses is in
        `problems`. Raises HostError when the ledger cannot be written: then nothing was done.
        """
        gone = {name: value for name, value in self._setting.sysctls.items() if name not in wanted.sysctls}
        steps = self.plan(wanted)
        # Restored by whoever changed them since; still to be let go of.
        steps += [RestoreSysctl(name) for name in gone if RestoreSysctl(name) not in steps]
        self.problems = {step: text for step, text in self.problems.items() if step in steps}
        if not steps:
            return []
        with open_ledger() as ledger:
            self._intend(ledger, steps)
            self._carry_out(steps, ledger.book)
            self._settle(ledger)
        return steps

    def roll_back(self) -> None:
        """Take everything back, also what survives a crash. What fails is told."""
        try:
            self.apply(NOTHING)
        except HostError as error:
            logger.error("%s: %s", self.holder, error)
        for text in self.problems.values():
            logger.warning("%s: %s", self.holder, text)

    # --- the ledger -------------------------------------------------------------------------------

    def _intend(self, ledger: OpenLedger, steps: Sequence[HostStep]) -> None:
        holding = ledger.book.holding(self.holder)
        for step in steps:
            match step:
                case SetSysctl(name, value):
                    before = read_sysctl(name)
                    entry = ledger.book.sysctls.get(name)
                    if entry is None:
                        if before is not None:
                            ledger.book.sysctls[name] = SysctlEntry(before, value, {self.holder})
                    else:
                        entry.holders.add(self.holder)
                        entry.after = value
                case ChangeTables(_, tables):
                    for name, table in tables:
                        if table is not None:
                            (holding.surviving if table.survives else holding.tables).add(name)
                case AddRule(rule):
                    holding.rules.add(rule)
                case AddGuest(guest):
                    holding.guests.add(guest)
        ledger.write()

    def _settle(self, ledger: OpenLedger) -> None:
        holding = ledger.book.holding(self.holder)
        tables = self._setting.tables
        holding.tables = {name for name, table in tables.items() if not table.survives}
        holding.surviving = {name for name, table in tables.items() if table.survives}
        holding.rules = set(self._setting.rules)
        holding.guests = set(self._setting.guests)

    # --- steps ------------------------------------------------------------------------------------

    def _carry_out(self, steps: Sequence[HostStep], book: Book) -> None:
        for step in steps:
            try:
                self._do(step, book)
            except HostError as error:
                self._note(step, str(error))
            else:
                self.problems.pop(step, None)

    def _note(self, step: HostStep, text: str) -> None:
        if self.problems.get(step) != text:
            logger.warning("%s: cannot %s: %s", self.holder, step, text)
        self.problems[step] = text

    def _do(self, step: HostStep, book: Book) -> None:
        setting = self._setting
        match step:
            case SetSysctl(name, value):
                if read_sysctl(name) != value:
                    write_sysctl(name, value)
                self._update(sysctls={**setting.sysctls, name: value})
            case RestoreSysctl(name):
                release_sysctl(book, name, self.holder)
                self._update(sysctls={n: v for n, v in setting.sysctls.items() if n != name})
            case ChangeTables(text, changed):
                self._change_tables(text, changed)
            case AddGuest(guest):
                if not _handles(guest):
                    run_nft(f'insert rule {guest.place} {guest.text} comment "{guest.tag}"\n')
                self._update(guests=setting.guests | {guest})
            case RemoveGuest(guest):
                remove_guest(guest)
                self._update(guests=setting.guests - {guest})
            case _:
                self._do_routing(step)

    def _do_routing(self, step: HostStep) -> None:
        setting = self._setting
        with Netlink() as netlink:
            match step:
                case AddRule(rule):
                    _unless(errno.EEXIST, lambda: netlink.add_rule(rule))
                    self._update(rules=setting.rules | {rule})
                case RemoveRule(rule):
                    netlink.delete_rule(rule)
                    self._update(rules=setting.rules - {rule})
                case AddHostRoute(route):
                    _unless(errno.EEXIST, lambda: netlink.add_route(route))
                    self._update(routes=setting.routes | {route})
                case RemoveHostRoute(route):
                    _unless(errno.ENODEV, lambda: netlink.delete_route(route))
                    self._update(routes=setting.routes - {route})

    def _change_tables(self, text: str, changed: Sequence[tuple[str, NftTable | None]]) -> None:
        run_nft(text)
        tables = dict(self._setting.tables)
        for name, table in changed:
            tables.pop(name, None)
            self._listings.pop(name, None)
            if table is not None:
                tables[name] = table
                self._listings[name] = list_table(name)
        self._update(tables=tables)

    def _update(self, **changes: object) -> None:
        self._setting = dataclasses.replace(self._setting, **changes)  # type: ignore[arg-type]


def _unless(ignored: int, do: Callable[[], object]) -> None:
    try:
        do()
    except NetlinkError as error:
        if error.errno != ignored:
            raise


def _handles(guest: GuestRule) -> list[int]:
    """Where our rule stands in that chain."""
    rules = (item.get("rule", {}) for item in list_nft("chain", *guest.place.split()))
    return [rule["handle"] for rule in rules if rule.get("comment") == guest.tag]


def remove_guest(guest: GuestRule) -> None:
    """Take the rule out of its chain; no error when it, or the chain, is not there. Raises HostError."""
    for handle in _handles(guest):
        run_nft(f"delete rule {guest.place} handle {handle}\n")


def release_sysctl(book: Book, name: str, holder: str) -> None:
    """Let go of a sysctl; by its last holder it is restored, if it is still ours. Raises HostError."""
    entry = book.sysctls.get(name)
    if entry is None:
        return
    entry.holders.discard(holder)
    if entry.holders:
        return
    del book.sysctls[name]
    if entry.before != entry.after and read_sysctl(name) == entry.after:
        write_sysctl(name, entry.before)


# --- after a crash --------------------------------------------------------------------------------


def has_left_behind(holder: str) -> bool:
    """Whether the ledger knows of something of this holder, which is ours to judge dead or alive."""
    return holder in read_ledger().holders()


def clear_left_behind(holder: str, *, lift: bool) -> list[str]:
    """Undo what a process that was killed could not → what was done, in words. With `lift`, also the tables
    that were to survive it (the kill switch). Raises HostError, StateError.
    """
    if not has_left_behind(holder):
        return []
    done: list[str] = []
    with open_ledger() as ledger:
        book = ledger.book
        holding = book.holding(holder)
        with contextlib.suppress(NetlinkError), Netlink() as netlink:
            for rule in list(holding.rules):
                netlink.delete_rule(rule)
                holding.rules.discard(rule)
                done.append(str(RemoveRule(rule)))
        names = sorted(holding.tables | (holding.surviving if lift else set()))
        if names and has_nft():
            run_nft("".join(map(nft.deletion, names)))
            done += [f"delete the nftables table inet {name}" for name in names]
            holding.tables -= set(names)
            holding.surviving -= set(names)
        for guest in list(holding.guests):
            remove_guest(guest)
            holding.guests.discard(guest)
            done.append(str(RemoveGuest(guest)))
        for name, entry in list(book.sysctls.items()):
            if holder in entry.holders:
                release_sysctl(book, name, holder)
                done.append(str(RestoreSysctl(name)))
    return done
