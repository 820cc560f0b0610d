"""A node's part of the host besides its link: being a gateway, leaving by an exit node. What is wanted is
worked out by pure modules; here the host is looked at, and brought to it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import trio

from wgpy.addresses import IPAddress, Prefix, is_inside
from wgpy.agent import marked
from wgpy.agent.advertise import EXIT_RANGES
from wgpy.agent.choices import LocalChoices
from wgpy.agent.client_filter import ClientPart, client_setting, clients_interface
from wgpy.agent.exit_node import OwnLink, exit_setting
from wgpy.agent.gateway import GatewayPlan, HostFacts, gateway_setting, plan_gateway
from wgpy.agent.state_file import State
from wgpy.device import Device
from wgpy.errors import WgpyError
from wgpy.host.footprint import Footprint
from wgpy.host.kernel import has_nft, list_nft, read_sysctl
from wgpy.host.neighbours import ForwardGuard, forward_guards
from wgpy.host.setting import NOTHING, HostSetting
from wgpy.mesh.forward import MAX_REASON, Forward, Offer, is_default
from wgpy.mesh.ingress import read_mark
from wgpy.mesh.netmap import AnyNode, Map, Node
from wgpy.netlink import RT_TABLE_MAIN, Netlink, NetlinkError
from wgpy.netlink.nft_news import NftNews

logger = logging.getLogger(__name__)

LONGEST_PAUSE: Final = 60.0
"""Seconds between putting things right at most, against somebody who does not rest."""
_FIRST_PAUSE: Final = 0.2
_FIGHT_PAUSE: Final = 3.0
"""Seconds of pause from which on it is said that there is a fight."""


class HostPart:
    """Of one network, by its name. `plan` is what we forward of what we were given."""

    def __init__(self, name: str, interface: str) -> None:
        self.footprint = Footprint(name)
        self.plan = GatewayPlan()
        self.clients: ClientPart | None = None
        """What external clients take, where this node is a gateway of theirs."""
        self.connected: tuple[Prefix, ...] = ()
        """The networks that this host reaches directly."""
        self._name = name
        self._interface = interface
        self._guards: tuple[ForwardGuard, ...] = ()
        self._notes: list[str] = []
        self._setting = NOTHING
        self._is_fought = False
        self.offered: Offer | None = None
        """What the coordinator has taken of what we would forward."""

    def wanted(
        self,
        choices: LocalChoices,
        self_node: AnyNode | None,
        ranges: Sequence[Prefix],
        addresses: Iterable[IPAddress],
        *,
        index: int,
    ) -> HostSetting:
        """What the host is to be like. `ranges` and `addresses` are the network's and our own; `index` is our
        interface's.
        """
        given = self_node.forwards if isinstance(self_node, Node) else ()
        mark = read_mark(self_node.extra) if isinstance(self_node, Node) else None
        pools = () if mark is None else mark.ranges
        places = [forward for forward in given if forward.range not in pools]
        facts = look_at_ways(
            places,
            self._interface,
            choices.mark if choices.exit_node else 0,
            for_clients=bool(pools),
            online=self._has_online,
        )
        self.plan = self._with_clients(
            plan_gateway(places, choices.advertise, facts, self._interface),
            [forward.range for forward in given if forward.range in pools],
        )
        outward = self._plan_internet(choices, facts)
        self.connected = facts.connected
        self._guards = facts.guards if self.plan.ranges else ()
        tag = f"wgpy {self._name}" if choices.opens_firewall else None
        setting = gateway_setting(self.plan, ranges, facts, self._interface, tag)
        if self.clients is not None and self.plan.clients:
            part = replace(self.clients, outward=outward)
            setting = setting.joined(client_setting(part, self.plan, facts, self._interface, tag))
        if choices.exit_node:
            link = OwnLink(self._interface, index, tuple(addresses))
            setting = setting.joined(
                exit_setting(
                    link,
                    choices.mark,
                    keeps_lan=choices.keeps_lan,
                    kill_switch=choices.kill_switch,
                    connected=facts.connected,
                    keeps_names=choices.dns,
                )
            )
        self._notes = self._take_notes(choices)
        return _clipped(setting, choices)

    def _with_clients(self, plan: GatewayPlan, pools: Sequence[Prefix]) -> GatewayPlan:
        """With the ranges of external clients, if they can come in."""
        if not pools:
            return plan
        reason = "it has not got the group's key yet" if self.clients is None else self.clients.problem
        if reason:
            problems = (*plan.problems, *((pool, reason) for pool in pools))
            return replace(plan, problems=problems)
        return replace(plan, clients=tuple(pools))

    @property
    def _has_online(self) -> bool:
        """Whether a client may use the internet."""
        return self.clients is not None and bool(self.clients.online)

    def _plan_internet(self, choices: LocalChoices, facts: HostFacts) -> Mapping[int, tuple[str, ...]]:
        """By which interfaces clients leave for it, by IP version. If by none, the plan says why."""
        if not self._has_online or not self.plan.clients:
            return {}
        ways: dict[int, tuple[str, ...]] = {
            prefix.version: (self._interface,) if choices.exit_node else facts.ways.get(prefix, ())
            for prefix in EXIT_RANGES
        }
        reason = ""
        if not choices.advertise.as_exit:
            reason = "this host has not agreed: wgpy set --advertise exit,ingress"
        elif not any(ways.values()):
            reason = "this host has no default route"
        if not reason:
            return ways
        text = f"clients have no internet here: {reason}"
        told = ((pool, text) for pool in self.plan.clients)
        self.plan = replace(self.plan, problems=(*self.plan.problems, *told))
        return {}

    def bring_about(self, state: State, netmap: Map, device: Device, index: int) -> None:
        """As `wanted`, and do it; what nothing came of is told. Our own packets are marked before anything
        could catch them.
        """
        choices, own = state.choices, [address.network_address for address in state.addresses]
        mark = marked.set_mark(choices.mark if choices.exit_node else 0)
        if device.fwmark != mark:
            device.set_fwmark(mark)
        ranges = netmap.network.ranges
        try:
            self._setting = self.wanted(choices, netmap.self_node, ranges, own, index=index)
            self.footprint.apply(self._setting)
        except WgpyError as error:
            logger.error("%s: %s", self._name, error)

    def look_again(self) -> bool:
        """Somebody has changed nftables: put right what was ours → whether there was something."""
        self.footprint.suspect()
        try:
            return bool(self.footprint.apply(self._setting))
        except WgpyError as error:
            logger.error("%s: %s", self._name, error)
            return False

    async def watch_firewall(self) -> None:
        """Somebody has changed nftables: our tables are looked at, and made anew when they are not as they
        were. Against a program that does it again and again we wait longer and longer. Never returns.
        """
        pause = _FIRST_PAUSE
        try:
            news = NftNews()
        except NetlinkError as error:
            logger.debug("nftables is not watched: %s", error)
            await trio.sleep_forever()
        with news:
            while True:
                waited = trio.current_time()
                await news.wait()
                if trio.current_time() - waited > LONGEST_PAUSE:
                    pause = _FIRST_PAUSE
                if self.look_again():
                    pause = min(pause * 2, LONGEST_PAUSE)
                self._is_fought = pause > _FIGHT_PAUSE
                await trio.sleep(pause)

    @property
    def is_exit(self) -> bool:
        """Whether others leave by this host."""
        return any(map(is_default, self.plan.ranges))

    def leave(self) -> None:
        """Take all of it back."""
        self.footprint.roll_back()

    def _take_notes(self, choices: LocalChoices) -> list[str]:
        notes = []
        if choices.exit_node and choices.dns and not choices.firewall:
            notes.append(
                "the firewall is off: programs that ask a name server in the LAN by themselves are not "
                "held back"
            )
        clients = self.plan.clients  # those that do come in, and what of it does not work
        notes += dict.fromkeys(
            reason if target in clients else f"{target} is not forwarded: {reason}"
            for target, reason in self.plan.problems
        )
        if self._guards and not choices.opens_firewall:
            owners = ", ".join(dict.fromkeys(map(str, self._guards)))
            notes.append(
                f"{owners} drops what this host forwards; to let one rule of ours in: "
                "wgpy set --open-firewall on"
            )
        if self.plan.forwards and not choices.firewall:
            notes.append(
                "the firewall is off: forwarding is not filtered or masqueraded by us, but yours to see to"
            )
        elif self.plan.forwards and not has_nft():
            notes.append("nft is not installed (the package is called nftables): nothing can be forwarded")
        return notes

    def problems(self) -> list[str]:
        """In sentences."""
        refused = (f"cannot {step}: {text}" for step, text in self.footprint.problems.items())
        fought = ["something on this host changes our nftables again and again"] if self._is_fought else []
        return [*self._notes, *fought, *refused]

    def _offer(self, choices: LocalChoices) -> Offer:
        problems = tuple((target, reason[:MAX_REASON]) for target, reason in self.plan.problems)
        return Offer(choices.advertise.offered, problems)

    def next_offer(self, choices: LocalChoices, self_node: AnyNode | None) -> Offer | None:
        """What to tell the coordinator of; None: it knows, or there is nothing to tell."""
        offer = self._offer(choices)
        is_known = isinstance(self_node, Node) and bool(self_node.forwards)
        if offer == self.offered or (self.offered is None and offer == Offer() and not is_known):
            self.offered = offer
            return None
        return offer

    def has_news(self, choices: LocalChoices, self_node: AnyNode | None) -> bool:
        """Whether the coordinator is to hear of another offer, or record, than it has."""
        if self.offered is not None and self._offer(choices) != self.offered:
            return True
        return isinstance(self_node, Node) and self_node.record.ranges != self.plan.ranges


def _clipped(setting: HostSetting, choices: LocalChoices) -> HostSetting:
    """Without what the host wants to see to itself."""
    if choices.firewall and choices.routes:
        return setting
    return HostSetting(
        setting.sysctls if choices.firewall else {},
        setting.tables if choices.firewall else {},
        setting.routes if choices.routes else frozenset(),
        setting.rules if choices.routes else frozenset(),
        setting.guests if choices.firewall else frozenset(),
    )


def look_at_ways(
    given: Iterable[Forward], own: str, mark: int, *, for_clients: bool = False, online: bool = False
) -> HostFacts:
    """How this host reaches what it is to forward to. `mark`: as our own packets have it; `for_clients`: it
    is to forward between tunnels, too, and with `online` to the internet.
    """
    targets = [*(forward.target for forward in given), *(EXIT_RANGES if online else ())]
    with Netlink() as netlink:
        links = {link.index: link.name for link in netlink.links()}
        reached = [
            (address.address.network, links[address.index])
            for address in netlink.addresses()
            if links.get(address.index) not in (own, clients_interface(own), "lo", None)
            and not address.address.network.is_link_local
        ]
        ways = {}
        for target in targets:
            inside = () if is_default(target) else (n for prefix, n in reached if is_inside(prefix, target))
            way = _way(netlink, links, target, mark)
            ways[target] = tuple(dict.fromkeys((*(() if way is None else (way,)), *inside)))
        connected = tuple(dict.fromkeys(prefix for prefix, _ in reached))
    guards = tuple(forward_guards(list_nft("chains"))) if (targets or for_clients) and has_nft() else ()
    return HostFacts(
        ways=ways,
        links=frozenset(links.values()),
        connected=connected,
        by_advertisement=tuple(
            name for name in links.values() if read_sysctl(f"net/ipv6/conf/{name}/accept_ra") == "1"
        ),
        force_forwarding=read_sysctl("net/ipv6/conf/all/force_forwarding") is not None,
        guards=guards,
    )


def _way(netlink: Netlink, links: dict[int, str], target: Prefix, mark: int) -> str | None:
    if is_default(target):
        routes = netlink.routes(target.version, table=RT_TABLE_MAIN)
        return next((links.get(r.interface) for r in routes if r.prefix == target and r.interface), None)
    first, last = target.network_address, target.broadcast_address
    # One of them may be our own address, which is no way to anywhere.
    tried = [first] if first == last else [first + 1, last - 1, first + 2]
    for address in tried:
        if address in target and (route := netlink.route_to(address, mark=mark)) is not None:
            return links.get(route.interface)
    return None
