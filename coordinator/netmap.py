"""The map of a node as a pure function of the rows at one revision.

Whatever the feed sends in steps must lead to exactly this: the tests hold it to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coordinator.policy import Policy, Tags, visible
from wgpy.mesh.forward import Forward
from wgpy.mesh.ingress import Mark
from wgpy.mesh.netmap import Map, Network, Node
from wgpy.mesh.record import Record


@dataclass(frozen=True, slots=True)
class Member:
    """A node's row, as far as maps and sessions need it.

    `record` is None until it has signed one; `visible_from` is the last revision at which its view of all
    others changed: it first signed, has other tags, or was kept out or let in. `is_disabled`: kept out of all
    maps, because an admin said so or its time is over. `needs_key`: it is to make itself a new WireGuard key.
    `forwards` are the ranges that it was given to forward, `mark` its part in an ingress group.
    """

    id: str
    name: str
    key_epoch: int
    record: Record | None
    visible_from: int | None
    tags: Tags = frozenset()
    is_disabled: bool = False
    forwards: tuple[Forward, ...] = ()
    needs_key: bool = False
    mark: Mark | None = None

    @property
    def is_in_maps(self) -> bool:
        """Whether others may see it, and it them."""
        return self.record is not None and not self.is_disabled

    @property
    def node(self) -> Node | None:
        """Its entry in maps. What is asked of itself stands there, too."""
        if self.record is None:
            return None
        asked = {"disabled": self.is_disabled, "rotate": self.needs_key}
        extra: dict[str, object] = {name: True for name, is_so in asked.items() if is_so}
        if self.mark is not None:
            extra["ingress"] = self.mark.to_json()
        return Node(self.id, self.name, self.record, self.forwards, extra)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The rows of one network at one revision. `notices` counts what no map shows."""

    revision: int
    network: Network
    members: Mapping[str, Member]
    policy: Policy = field(default_factory=Policy)
    notices: int = 0


@dataclass(frozen=True, slots=True)
class Changes:
    """What the log says about the revisions after `since` up to `revision`; `complete` unless part of it is
    gone.

    `nodes` are the ids of those touched, `network` whether its own row was, `visibility` whether who sees
    whom was.
    """

    since: int
    revision: int
    complete: bool = True
    nodes: frozenset[str] = frozenset()
    network: bool = False
    visibility: bool = False

    def followed_by(self, later: Changes) -> Changes:
        """Both, as one. `later` may begin before this ends: what it names in excess does no harm."""
        return Changes(
            since=self.since,
            revision=later.revision,
            complete=self.complete and later.complete and later.since <= self.revision,
            nodes=self.nodes | later.nodes,
            network=self.network or later.network,
            visibility=self.visibility or later.visibility,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """How a network came to a later revision: `members` are those touched, None for those gone."""

    changes: Changes
    network: Network
    members: Mapping[str, Member | None]
    policy: Policy = field(default_factory=Policy)
    notices: int = 0

    @property
    def revision(self) -> int:
        return self.changes.revision


def map_for(snapshot: Snapshot, node_id: str) -> Map:
    """The map of a member. Raises KeyError for anyone else.

    A node that has not signed its record sees nobody and is seen by nobody, and `self` is null.
    """
    member = snapshot.members[node_id]
    others = snapshot.members.values()
    peers = {other.id: other.node for other in others if visible(snapshot.policy, member, other)}
    return Map.of(
        snapshot.network, member.node, {id_: node for id_, node in peers.items() if node is not None}
    )
