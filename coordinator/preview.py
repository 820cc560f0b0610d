"""What a change of a network would do, and to which nodes: told before it is made. Pure.

A change is tried in a transaction that is undone; what this compares is how the network stood before it and
in it, so it knows nothing of single changes and cannot differ from what they do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from coordinator.change import Change
from coordinator.conflicts import Conflict, Place, find_conflicts
from coordinator.policy import Policy, Tags
from coordinator.preview_clients import Outside, outside_changes
from wgpy.addresses import IPAddress, Prefix
from wgpy.mesh.forward import Forward, is_default
from wgpy.mesh.names import NetworkNames


@dataclass(frozen=True, slots=True)
class Standing:
    """A node as far as this goes. `is_in_maps`: it has signed a record and is not kept out."""

    name: str
    addresses: tuple[IPAddress, ...]
    tags: Tags
    is_in_maps: bool
    place: Place


@dataclass(frozen=True, slots=True)
class Published:
    """An approved range at a node. `agreed`: the node's host has said so, too; `for_clients`: it is where
    external clients have their addresses.
    """

    node_id: str
    forward: Forward
    agreed: bool
    for_clients: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """A network at one moment."""

    ranges: tuple[Prefix, ...]
    suffix: str
    names: NetworkNames
    policy: Policy
    nodes: Mapping[str, Standing]
    published: tuple[Published, ...]
    outside: Outside = field(default_factory=Outside)

    def viewers(self, node_id: str) -> tuple[str, ...]:
        """Names of the nodes that see this one."""
        node = self.nodes[node_id]
        if not node.is_in_maps:
            return ()
        seers = (
            other.name
            for id_, other in self.nodes.items()
            if id_ != node_id and other.is_in_maps and self.policy.allows(node.tags, other.tags)
        )
        return tuple(sorted(seers))

    def conflicts(self) -> list[Conflict]:
        gateways: dict[Prefix, list[str]] = {}
        for each in self.published:
            gateways.setdefault(each.forward.range, []).append(each.node_id)
        places = {id_: node.place for id_, node in self.nodes.items() if node.is_in_maps}
        return find_conflicts(gateways, places)


def what_changes(before: State, after: State) -> list[Change]:
    """In the order in which people want to know it: what is done, what follows, what may be amiss."""
    found = [
        *_nodes(before, after),
        *_forwarding(before, after),
        *_routes(before, after),
        *_exits(before, after),
        *_names(before, after),
        *outside_changes(before.outside, after.outside),
    ]
    known = {conflict.text for conflict in before.conflicts()}
    new = [conflict for conflict in after.conflicts() if conflict.text not in known]
    return [*found, *(Change(conflict.text, conflict.sides, is_warning=True) for conflict in new)]


# --- nodes ----------------------------------------------------------------------------------------


def _nodes(before: State, after: State) -> Iterator[Change]:
    for id_, node in before.nodes.items():
        now = after.nodes.get(id_)
        if now is None:
            yield Change(
                f"{node.name} forgets this network, and has to be let in anew to come back", (node.name,)
            )
        elif now.name != node.name:
            old, new = f"{node.name}.{before.suffix}", f"{now.name}.{after.suffix}"
            yield Change(f"{old} is called {new}, and nothing answers to the old name", (now.name,))
        # Who sees whom is told of those alone that have changed themselves: of the others it follows.
        if now is not None and (now.tags, now.is_in_maps) == (node.tags, node.is_in_maps):
            continue
        was_seen, is_seen = set(before.viewers(id_)), set(after.viewers(id_) if now else ())
        if lost := tuple(sorted(was_seen - is_seen)):
            yield Change(f"no tunnel to {node.name} any more", lost)
        if now is not None and (won := tuple(sorted(is_seen - was_seen))):
            yield Change(f"a tunnel to {now.name}", won)


# --- ranges ---------------------------------------------------------------------------------------

_Key = tuple[str, Prefix]


def _forwarding(before: State, after: State) -> Iterator[Change]:
    """On the gateways themselves."""
    old, new = (
        {
            (each.node_id, each.forward.target): each
            for each in state.published
            if not _is_exit(each) and not each.for_clients
        }
        for state in (before, after)
    )
    for key in _ordered(old.keys() | new.keys(), before, after):
        node_id, target = key
        node = after.nodes.get(node_id) or before.nodes[node_id]
        then, now = old.get(key), new.get(key)
        if now is None:
            yield Change(f"{node.name} forwards {target} no longer", (node.name,))
        elif then is None:
            by = f" by {now.forward.interface}" if now.forward.interface else ""
            yield Change(
                f"{node.name} forwards {target}{by}{_shown_as(now.forward)}{_when(now)}; "
                f"{_far_side(node.name, now.forward, after)}",
                (node.name,),
            )
        else:
            yield from _changed(node.name, then.forward, now.forward, after)


def _ordered(keys: set[_Key], before: State, after: State) -> list[_Key]:
    def place(key: _Key) -> tuple[str, int, bytes, int]:
        node = after.nodes.get(key[0]) or before.nodes[key[0]]
        return node.name, key[1].version, key[1].network_address.packed, key[1].prefixlen

    return sorted(keys, key=place)


def _is_exit(each: Published) -> bool:
    return is_default(each.forward.target)


def _shown_as(forward: Forward) -> str:
    return f", which the others see as {forward.range}" if forward.is_virtual else ""


def _when(each: Published) -> str:
    return "" if each.agreed else f", once its host agrees (wgpy set --advertise {each.forward.target})"


def _far_side(name: str, forward: Forward, state: State) -> str:
    if forward.nat:
        return f"machines there see the address of {name}"
    ours = " and ".join(str(each) for each in state.ranges if each.version == forward.target.version)
    return f"without NAT, so the router there needs a route to {ours} by {name}, which is yours to set"


def _changed(name: str, then: Forward, now: Forward, after: State) -> Iterator[Change]:
    if then.nat != now.nat:
        text = f"{now.target} at {name}: {_far_side(name, now, after)}; connections that are open break"
        yield Change(text, (name,))
    if then.interface != now.interface:
        by = now.interface or "the interface that its route names"
        yield Change(f"{name} reaches {now.target} by {by}", (name,))
    if then.range != now.range:
        yield Change(
            f"{now.target} at {name} is seen as {now.range} by the others, no longer as {then.range}", (name,)
        )


def _routes(before: State, after: State) -> Iterator[Change]:
    """On the nodes that see the gateways."""
    old, new = _elected(before), _elected(after)
    for range_ in sorted(old.keys() | new.keys(), key=lambda each: (each.version, each)):
        then, now = old.get(range_), new.get(range_)
        if now is None:
            assert then is not None
            yield Change(f"no route to {range_} any more", before.viewers(then))
        elif then is None:
            agreed = all(
                each.agreed for each in after.published if (each.node_id, each.forward.range) == (now, range_)
            )
            when = "" if agreed else ", once that agrees"
            yield Change(f"{range_} is reached by {after.nodes[now].name}{when}", after.viewers(now))
        elif then != now:
            was, is_ = before.nodes[then].name, after.nodes[now].name
            text = (
                f"{range_} is reached by {is_} in place of {was}: connections that are open through it break"
            )
            yield Change(text, after.viewers(now))
    standing = {(each.node_id, each.forward.range) for each in before.published}
    for each in after.published:
        range_, node = each.forward.range, after.nodes[each.node_id]
        chosen = new.get(range_)
        if (
            (each.node_id, range_) not in standing
            and chosen not in (None, each.node_id)
            and not _is_exit(each)
            and not each.for_clients
        ):
            user = after.nodes[chosen].name if chosen else ""
            yield Change(
                f"{node.name} stands by for {range_}, and takes over when {user} is gone", (node.name,)
            )


def _elected(state: State) -> dict[Prefix, str]:
    return {
        each.forward.range: each.node_id
        for each in state.published
        if each.forward.elected and not _is_exit(each) and state.nodes[each.node_id].is_in_maps
    }


def _exits(before: State, after: State) -> Iterator[Change]:
    old, new = _exit_families(before), _exit_families(after)
    for node_id in sorted(old.keys() | new.keys()):
        gone, come = old.get(node_id, {}), new.get(node_id, {})
        if families := " and ".join(f"IPv{version}" for version in sorted(gone.keys() - come.keys())):
            name = before.nodes[node_id].name
            text = f"{name} is no exit for {families} now: who uses it is cut off until another is chosen"
            yield Change(text, before.viewers(node_id))
        if families := " and ".join(f"IPv{version}" for version in sorted(come.keys() - gone.keys())):
            name = after.nodes[node_id].name
            agreed = "" if all(come.values()) else ", once its host agrees (wgpy set --advertise exit)"
            text = (
                f"{name} forwards to the whole internet by {families}{agreed}; servers there see its address"
            )
            yield Change(text, (name,))
            yield Change(f"it can be chosen as exit: wgpy set --exit-node {name}", after.viewers(node_id))


def _exit_families(state: State) -> dict[str, dict[int, bool]]:
    """By node and IP version whether its host has agreed."""
    found: dict[str, dict[int, bool]] = {}
    for each in state.published:
        if _is_exit(each):
            found.setdefault(each.node_id, {})[each.forward.target.version] = each.agreed
    return found


# --- names ----------------------------------------------------------------------------------------


def _names(before: State, after: State) -> Iterator[Change]:
    if before.names == after.names:
        return
    old, new = _records(before), _records(after)
    for name in sorted(old.keys() | new.keys()):
        then, now = old.get(name), new.get(name)
        if then == now:
            continue
        whole = f"{name}.{after.suffix}"
        if now is None:
            yield Change(f"{whole} is no name any more; it was {_listed(then)}")
        elif then is None:
            yield Change(f"{whole} is {_listed(now)}")
        else:
            yield Change(f"{whole} is {_listed(now)}; it was {_listed(then)}")
        if now is not None:
            yield from _doubts(name, after)
    asked, asks = (
        {each.domain: ", ".join(map(str, each.servers)) for each in state.names.domains}
        for state in (before, after)
    )
    for domain in sorted(asked.keys() | asks.keys()):
        if domain not in asks:
            yield Change(f"names below {domain} are asked of each host's own name servers again")
        elif asked.get(domain) != asks[domain]:
            yield Change(
                f"names below {domain} are asked of {asks[domain]}, by hosts that accept it "
                f"(wgpy set --accept-domain {domain})"
            )


def _records(state: State) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for record in state.names.records:
        value = str(record.address) if record.address else f"{record.target}.{state.suffix}"
        found.setdefault(record.name, []).append(value)
    return {name: tuple(sorted(values)) for name, values in found.items()}


def _listed(values: tuple[str, ...] | None) -> str:
    return " and ".join(values or ())


def _doubts(name: str, state: State) -> Iterator[Change]:
    """What in a record is allowed and yet of no use."""
    by_name = {node.name: node for node in state.nodes.values()}
    if name in by_name:
        text = f"{name} is a node: its own addresses are answered, and this record never"
        yield Change(text, (name,), is_warning=True)
    addresses = {address for node in state.nodes.values() for address in node.addresses}
    for record in state.names.records:
        if record.name != name:
            continue
        if record.target and record.target not in by_name and record.target not in _records(state):
            yield Change(f"{record.target}.{state.suffix} is neither a node nor a record", is_warning=True)
        if (
            record.address
            and record.address not in addresses
            and any(record.address in r for r in state.ranges)
        ):
            yield Change(f"{record.address} is the address of no node", is_warning=True)
