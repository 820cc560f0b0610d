"""What a change does to external clients and the gateways that they come in by. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from coordinator.change import Change
from wgpy.mesh.ingress import Reach


@dataclass(frozen=True, slots=True)
class WayIn:
    """An ingress group. `gateways` are names, with whether their hosts have agreed; `key` is the group's,
    b"" while nobody has made it.
    """

    name: str
    endpoint: str
    listen_port: int
    dns: bool
    key: bytes
    gateways: Mapping[str, bool]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.gateways)


@dataclass(frozen=True, slots=True)
class Outsider:
    """An external client. `reach` has nodes by their ids; `end` is for people to read, "" for none."""

    name: str
    group: str
    key: bytes
    addresses: tuple[str, ...]
    reach: Reach
    is_disabled: bool
    end: str
    is_expired: bool


@dataclass(frozen=True, slots=True)
class Outside:
    """Of one network, by id. `names` are those of nodes."""

    ways_in: Mapping[str, WayIn] = field(default_factory=dict)
    clients: Mapping[str, Outsider] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    def gateways_of(self, client: Outsider) -> tuple[str, ...]:
        way = self.ways_in.get(client.group)
        return () if way is None else way.names

    def nodes_of(self, client: Outsider) -> list[str]:
        """The ids of nodes that there are, of those that it may reach."""
        return [id_ for id_ in client.reach.nodes if id_ in self.names]

    def reach_of(self, client: Outsider) -> str:
        """`whatever its gateway reaches`, or what alone in words."""
        internet = ["the internet"] if client.reach.internet else []
        if client.reach.everything:
            return _listed(["whatever its gateway reaches", *internet])
        names = [self.names[id_] for id_ in self.nodes_of(client)]
        return _listed([*names, *map(str, client.reach.ranges), *internet]) or "nothing any more"


def outside_changes(before: Outside, after: Outside) -> Iterator[Change]:
    """The gateways first, then the clients."""
    for id_, way in before.ways_in.items():
        if id_ not in after.ways_in:
            yield Change(f"no client comes in by {way.endpoint} any more", way.names)
    for id_, way in after.ways_in.items():
        then = before.ways_in.get(id_)
        if then is None:
            first = way.names[:1]
            agreed = "".join(_once_agreed(way, name) for name in first)
            yield Change(f"clients come in by {way.endpoint}, at {_listed(first)}{agreed}", first)
            yield from _standbys(way, way.names[1:])
        elif then != way:
            count = sum(client.group == id_ for client in before.clients.values())
            yield from _way_changed(then, way, count)
    for id_, client in before.clients.items():
        now = after.clients.get(id_)
        if now is None:
            free = _listed(client.addresses)
            text = f"{client.name} does not come in any more; {free} {_is(client.addresses)} free"
            yield Change(text, before.gateways_of(client))
        elif now != client or before.nodes_of(client) != after.nodes_of(now):
            yield from _client_changed(before, client, after, now)
    for id_, client in after.clients.items():
        if id_ not in before.clients:
            end = f", until {client.end}" if client.end else ""
            reach = after.reach_of(client)
            text = f"{client.name} comes in as {_listed(client.addresses)}, and reaches {reach}{end}"
            yield Change(text, after.gateways_of(client))


def _way_changed(then: WayIn, way: WayIn, count: int) -> Iterator[Change]:
    """`count` clients come in by it."""
    if then.name != way.name:
        yield Change(f"the gateways that are called {then.name} together are called {way.name}")
    if then.endpoint != way.endpoint:
        yield Change(f"clients connect to {way.endpoint}, no longer to {then.endpoint}", way.names)
        if count:
            files = f"the file{'s' * (count > 1)} of {_counted(count)}"
            text = f"{files} lead{'s' * (count == 1)} to {then.endpoint}, and need that to stay where it is"
            yield Change(text, is_warning=True)
    if then.listen_port != way.listen_port:
        yield Change(f"UDP port {way.listen_port} is listened on, no longer {then.listen_port}", way.names)
    if then.dns != way.dns:
        say = "names are answered for clients" if way.dns else "names are answered for clients no longer"
        yield Change(f"{say}; files that are out stay as they are", way.names)
    gone = tuple(name for name in then.names if name not in way.gateways)
    if gone:
        yield Change(f"no client of {way.name} comes in at {_listed(gone)} any more", gone)
    yield from _standbys(way, tuple(name for name in way.names if name not in then.gateways))
    if then.key and not way.key:
        text = f"no gateway of {way.name} is left that has its key: it makes another"
        files = f", and the file{'s' * (count > 1)} of {_counted(count)} {_is(range(count))} of no use"
        yield Change(text + (files if count else ""), way.names, is_warning=True)


def _standbys(way: WayIn, names: tuple[str, ...]) -> Iterator[Change]:
    for name in names:
        text = f"{name} stands by for {way.name}: it takes over when {way.endpoint} leads to it"
        yield Change(text + _once_agreed(way, name), (name,))


def _once_agreed(way: WayIn, name: str) -> str:
    return "" if way.gateways[name] else ", once its host agrees (wgpy set --advertise ingress)"


def _client_changed(before: Outside, then: Outsider, after: Outside, now: Outsider) -> Iterator[Change]:
    where = after.gateways_of(now)
    if then.name != now.name:
        yield Change(f"the client {then.name} is called {now.name}")
    if then.key != now.key:
        yield Change(f"{now.name} gets another key: the file that it has is of no use any more", where)
    if then.is_disabled != now.is_disabled:
        does = "is kept out" if now.is_disabled else "may come in again, with the file that it has"
        yield Change(f"{now.name} {does}", where)
    if (then.end, then.is_expired) != (now.end, now.is_expired):
        yield Change(_end(now), where)
    if then.reach != now.reach or before.nodes_of(then) != after.nodes_of(now):
        text = f"{now.name} reaches {after.reach_of(now)}; it was {before.reach_of(then)}"
        yield Change(text, where)
        if _leads_further(then.reach, now.reach):
            text = f"the file that {now.name} has does not lead there: give it the new one"
            yield Change(f"{text} (clients show --config)", is_warning=True)
        if then.reach.internet and not now.reach.internet:
            text = f"the file that {now.name} has leads all that it sends here: give it the new one"
            yield Change(f"{text} (clients show --config)", is_warning=True)


def _end(client: Outsider) -> str:
    if not client.end:
        return f"{client.name} may come in for good"
    if client.is_expired:
        return f"{client.name} is kept out: its time is over"
    return f"{client.name} may come in until {client.end}"


def _leads_further(then: Reach, now: Reach) -> bool:
    """Whether it does so in the file: with the internet that leads everywhere."""
    if then.internet or now.internet:
        return now.internet and not then.internet
    if then.everything or now.everything:
        return now.everything and not then.everything
    return not (set(now.nodes) <= set(then.nodes) and set(now.ranges) <= set(then.ranges))


def _listed(words: list[str] | tuple[str, ...]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _is(many: tuple[str, ...] | range) -> str:
    return "are" if len(many) != 1 else "is"


def _counted(count: int) -> str:
    return f"{count} client{'s' * (count != 1)}"
