"""Who is asked for names outside of the mesh while all else leaves by an exit node, and how. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from wgpy.addresses import Endpoint, IPAddress, Prefix
from wgpy.agent.dns.message import Code

PORT: Final = 53
PASSED_OVER_TIME: Final = 30.0
"""Seconds for which an exit node that did not answer is asked after the others, if there are any."""


class Way(StrEnum):
    """How questions for the rest of the world leave."""

    HOST = "host"
    """As everything does: there is no exit node."""
    EXIT = "exit"
    """To the exit node's own resolver."""
    TUNNEL = "tunnel"
    """To a server that the tunnel leads to."""
    LOCAL = "local"
    """To a resolver on this host that is not ours, whose questions go as all else does."""
    OUTSIDE = "outside"
    """Past the exit node."""
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Server:
    """A name server of the host's. `by_tunnel`: routes lead to it by our interface; `is_bound`: the host's
    resolver asks it by its own link, whatever the routes say.
    """

    address: IPAddress
    by_tunnel: bool
    is_bound: bool = False


@dataclass(frozen=True, slots=True)
class ExitNames:
    """`servers` are the exit node's addresses in the mesh, `lan` what this host reaches directly, which
    `keeps_lan` leaves outside; with `kill_switch` nothing else does.
    """

    name: str
    servers: tuple[IPAddress, ...]
    lan: tuple[Prefix, ...] = ()
    keeps_lan: bool = True
    kill_switch: bool = False

    @property
    def endpoints(self) -> list[Endpoint]:
        return [Endpoint(address, PORT) for address in self.servers]

    def is_in_lan(self, address: IPAddress) -> bool:
        return address.is_link_local or any(address in prefix for prefix in self.lan)

    def stays_outside(self, address: IPAddress) -> bool:
        """Whether it is in the LAN, and that is kept: a domain's name server there may be asked."""
        return self.keeps_lan and self.is_in_lan(address)

    def through_tunnel(self, own: Iterable[Endpoint]) -> list[Endpoint]:
        """Of the host's own servers, those that are asked in the exit node's place."""
        return [server for server in own if not self.is_in_lan(server.address)]

    def way_to(self, server: Server) -> Way:
        """Of a question that this host's own resolver asks."""
        if server.address.is_loopback:
            return Way.LOCAL
        in_lan = self.is_in_lan(server.address)
        if server.is_bound or not server.by_tunnel:
            is_let_out = not self.kill_switch or (self.keeps_lan and in_lan)
            return Way.OUTSIDE if is_let_out else Way.LOST
        return Way.LOST if in_lan else Way.TUNNEL


@dataclass(frozen=True, slots=True)
class RestReport:
    """Which resolver answers for the rest of the world: `servers`, by `way`. `by` is the exit node."""

    way: Way = Way.HOST
    servers: tuple[str, ...] = ()
    by: str = ""

    def note(self, *, is_on: bool) -> str:
        """What of it somebody should know, in a sentence; "" for nothing. `is_on`: with names of ours."""
        many = "s" * (len(self.servers) != 1)
        whom = f"questions to the name server{many} {', '.join(self.servers)}"
        remedy = f"wgpy set --dns on has the exit node {self.by} answer them"
        if self.way is Way.OUTSIDE:
            return f"{whom} leave outside of the tunnel: {remedy}"
        if self.way is Way.LOST and is_on:
            return (
                f"the exit node {self.by} answers no names, and this host has no name server that the tunnel "
                "leads to: names outside of the mesh are not found"
            )
        if self.way is Way.LOST:
            lost = f"{whom} are lost, for the tunnel does not lead there" if self.servers else _NO_SERVER
            return f"{lost}: {remedy}"
        return ""


_NO_SERVER: Final = "this host has no name server"
_WORST_FIRST: Final = (Way.OUTSIDE, Way.TUNNEL, Way.LOCAL, Way.LOST)


def report_untold(exit_: ExitNames, servers: Sequence[Server]) -> RestReport:
    """Where this host's own resolver asks, with names of ours off."""
    ways = [(exit_.way_to(server), str(server.address)) for server in servers]
    way = next((each for each in _WORST_FIRST if any(each is found for found, _ in ways)), Way.LOST)
    return RestReport(way, tuple(dict.fromkeys(text for found, text in ways if found is way)), exit_.name)


class ExitOrder:
    """Who is asked in turn: the exit node's resolver, and while that does not answer the others first."""

    def __init__(self) -> None:
        self._passed_over_until = 0.0
        self._is_silent = False

    def servers(self, exit_: ExitNames, own: Sequence[Endpoint], now: float) -> list[Endpoint]:
        first, others = exit_.endpoints, exit_.through_tunnel(own)
        return [*others, *first] if now < self._passed_over_until else [*first, *others]

    def note_answer(
        self, exit_: ExitNames, asked: Sequence[Endpoint], by: Endpoint | None, code: int, now: float
    ) -> None:
        """One of those `asked` in turn has answered with this code, or (None) nobody has."""
        ours = exit_.endpoints
        if by in ours:
            self._is_silent = code == Code.REFUSED
            if not self._is_silent:
                self._passed_over_until = 0.0
        elif asked and asked[0] in ours:
            self._is_silent, self._passed_over_until = True, now + PASSED_OVER_TIME

    def report(self, exit_: ExitNames, own: Sequence[Endpoint]) -> RestReport:
        if exit_.servers and not self._is_silent:
            return RestReport(Way.EXIT, tuple(map(str, exit_.servers)), exit_.name)
        others = tuple(str(server.address) for server in exit_.through_tunnel(own))
        return RestReport(Way.TUNNEL if others else Way.LOST, others, exit_.name)
