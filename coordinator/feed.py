"""From changes to frames: one network as all of its nodes see it, and the line that brings each of them on.
Pure.

Entities are encoded and hashed once, whatever the number of nodes that hear of them; a node's map hash comes
by adding and subtracting (docs/wire.md §7). Where a node stands is all that is remembered of it, so that
nothing queues up for a slow one: its next frame leads from there to now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from coordinator.netmap import Changes, Member, Snapshot, Step
from coordinator.policy import Policy, Tags
from wgpy.mesh.encoding import encode_json
from wgpy.mesh.frames import KeepaliveFrame
from wgpy.mesh.netmap import encode_map_hash, network_hash, peer_hash, self_hash

REMEMBERED_NODES: Final = 10_000
"""Ids of changed nodes that are kept in memory; who has to catch up further asks the database's log."""

REMEMBERED_POLICIES: Final = 64
"""Changes of who sees whom that streams get as a difference; who has to catch up further gets a whole map."""


class _Group:
    """The nodes with the same tags that are in maps. `hashes` is the sum of their shares of a map hash,
    `seen_hashes` that of all groups in `sees`."""

    __slots__ = ("hashes", "ids", "seen_hashes", "sees", "tags")

    def __init__(self, tags: Tags) -> None:
        self.tags = tags
        self.ids: set[str] = set()
        self.hashes = 0
        self.sees: set[_Group] = set()
        self.seen_hashes = 0


class _Policies:
    """Which policy held at which revision, as far back as is remembered."""

    def __init__(self, revision: int, policy: Policy) -> None:
        self._held: deque[tuple[int, int, Policy]] = deque(
            [(revision, revision, policy)], REMEMBERED_POLICIES
        )

    def change(self, after: int, at: int, policy: Policy) -> None:
        """It changed somewhere in (after, at]."""
        self._held.append((after, at, policy))

    def at(self, revision: int) -> Policy | None:
        """None: not known any more, or only roughly."""
        for after, at, policy in reversed(self._held):
            if revision >= at:
                return policy
            if revision > after:
                return None
        return None


class NetworkView:
    """A network at `revision`, moved on by `apply`. A member that is not in maps is seen by nobody and sees
    nobody.
    """

    def __init__(self, epoch: str, snapshot: Snapshot) -> None:
        self.epoch = epoch
        self.revision = snapshot.revision
        self.network = snapshot.network
        self.notices = snapshot.notices
        self.members: dict[str, Member] = {}
        self.gateways: dict[str, Member] = {}
        """Those of them that were given ranges to forward."""
        self._policy = snapshot.policy
        self._policies = _Policies(snapshot.revision, snapshot.policy)
        self._network_line = encode_json(snapshot.network.to_json())
        self._network_hash = network_hash(snapshot.network)
        self._entries: dict[str, bytes] = {}
        """Each node as it stands in a whole map: "ID":NODE."""
        self._groups: dict[Tags, _Group] = {}
        self._group_of: dict[str, _Group] = {}
        self._peer_hashes: dict[str, int] = {}
        self._self_hashes: dict[str, int] = {}
        self._recent: deque[Changes] = deque()
        self._recent_nodes = 0
        for member in snapshot.members.values():
            self._set_member(member.id, member)

    def is_visible(self, node_id: str) -> bool:
        """Whether it is in maps at all."""
        return node_id in self._group_of

    def sees(self, node_id: str, other_id: str) -> bool:
        """Whether these two are in each other's maps."""
        mine, other = self._group_of.get(node_id), self._group_of.get(other_id)
        return mine is not None and other is not None and node_id != other_id and other in mine.sees

    def apply(self, step: Step) -> None:
        """Go on to `step.changes.revision`. Raises ValueError when the step does not begin where we stand."""
        changes = step.changes
        if changes.since != self.revision or not changes.complete:
            raise ValueError(f"a step from {changes.since} does not lead on from {self.revision}")
        self.notices = step.notices
        if step.network != self.network:
            self.network = step.network
            self._network_line = encode_json(step.network.to_json())
            self._network_hash = network_hash(step.network)
        for node_id, member in step.members.items():
            self._set_member(node_id, member)
        if step.policy != self._policy:
            self._policy = step.policy
            self._policies.change(changes.since, changes.revision, step.policy)
            for group in self._groups.values():
                self._introduce(group)
        self.revision = changes.revision
        if changes.revision > changes.since:
            self._remember(changes)

    def _set_member(self, node_id: str, member: Member | None) -> None:
        self._leave_group(node_id)
        self._self_hashes.pop(node_id, None)
        self._entries.pop(node_id, None)
        self.gateways.pop(node_id, None)
        if member is None:
            self.members.pop(node_id, None)
            return
        self.members[node_id] = member
        if member.forwards:
            self.gateways[node_id] = member
        node = member.node
        if node is not None:
            self._entries[node_id] = b'"%s":%s' % (node_id.encode(), encode_json(node.to_json()))
            if member.is_in_maps:
                self._join_group(member, peer_hash(node))

    def _join_group(self, member: Member, share: int) -> None:
        group = self._groups.get(member.tags)
        if group is None:
            group = self._groups[member.tags] = _Group(member.tags)
            self._introduce(group)
        self._group_of[member.id] = group
        self._peer_hashes[member.id] = share
        group.ids.add(member.id)
        self._add_share(group, share)

    def _leave_group(self, node_id: str) -> None:
        group = self._group_of.pop(node_id, None)
        if group is None:
            return
        self._add_share(group, -self._peer_hashes.pop(node_id))
        group.ids.discard(node_id)
        if not group.ids:
            del self._groups[group.tags]
            for other in group.sees - {group}:
                other.sees.discard(group)

    def _add_share(self, group: _Group, share: int) -> None:
        group.hashes += share
        for other in group.sees:
            other.seen_hashes += share

    def _introduce(self, group: _Group) -> None:
        """Who sees this group, and whom it sees, by the policy of now."""
        others = self._groups.values()
        group.sees = {other for other in others if self._policy.allows(group.tags, other.tags)}
        group.seen_hashes = sum(other.hashes for other in group.sees)
        for other in others:
            if other is not group and (group in other.sees) != (other in group.sees):
                other.sees ^= {group}
                other.seen_hashes += group.hashes if group in other.sees else -group.hashes

    def _remember(self, changes: Changes) -> None:
        self._recent.append(changes)
        self._recent_nodes += 1 + len(changes.nodes)
        while self._recent_nodes > REMEMBERED_NODES:
            self._recent_nodes -= 1 + len(self._recent.popleft().nodes)

    def recall(self, since: int) -> Changes | None:
        """What changed after `since`, as far as memory reaches; None for the log to be asked."""
        found = Changes(self.revision, self.revision)
        for changes in reversed(self._recent):
            if found.since <= since:
                break
            found = changes.followed_by(found)
        if found.since > since:
            return None
        return Changes(since, found.revision, found.complete, found.nodes, found.network, found.visibility)

    def hash_for(self, node_id: str) -> str:
        """The hash of a member's map. Raises KeyError for anyone else."""
        node = self.members[node_id].node
        if node is None:
            return encode_map_hash(self._network_hash)
        own = self._self_hashes.get(node_id)
        if own is None:
            own = self._self_hashes[node_id] = self_hash(node)
        group = self._group_of.get(node_id)
        if group is None:
            return encode_map_hash(self._network_hash + own)
        seen = group.seen_hashes - (self._peer_hashes[node_id] if group in group.sees else 0)
        return encode_map_hash(self._network_hash + own + seen)

    def _line(self, node_id: str) -> bytes:
        """The node alone, as JSON."""
        return self._entries[node_id][len(node_id) + 3 :]

    def full_for(self, node_id: str) -> bytes:
        """The whole map as a line. Raises KeyError for who is no member."""
        peers = b",".join([self._entries[id_] for id_ in self.visible_to(node_id)])
        return (
            b'{"kind":"full","epoch":"%s","to":%d,"hash":"%s","map":{"network":%s,"self":%s,"peers":{%s}}}\n'
            % (
                self.epoch.encode(),
                self.revision,
                self.hash_for(node_id).encode(),
                self._network_line,
                self._line(node_id) if node_id in self._entries else b"null",
                peers,
            )
        )

    def line_for(self, node_id: str, changes: Changes | None) -> bytes:
        """What brings a member from `changes.since` to now: a delta, or the whole map where none leads there.

        Raises KeyError for who is no member.
        """
        member = self.members[node_id]
        if changes is None or changes.revision != self.revision or not changes.complete:
            return self.full_for(node_id)
        if _is_regrouped(member, changes.since) or len(changes.nodes) > len(self.members):
            return self.full_for(node_id)
        before = self._policies.at(changes.since) if changes.visibility else self._policy
        return self.full_for(node_id) if before is None else self._delta(member, changes, before)

    def sees_others(self, node_id: str, changes: Changes | None) -> bool:
        """Whether it may see nodes after the changes that were there before, unseen: whose presence it does
        not know. Raises KeyError for who is no member.
        """
        return changes is None or changes.visibility or _is_regrouped(self.members[node_id], changes.since)

    def _delta(self, member: Member, changes: Changes, before: Policy) -> bytes:
        group = self._group_of.get(member.id)
        seen: set[str] = set()
        removed: set[str] = set()
        if group is not None:
            for id_ in changes.nodes - {member.id}:
                (seen if self.sees(member.id, id_) else removed).add(id_)
            if before != self._policy:
                for other in self._groups.values():
                    sees, saw = other in group.sees, before.allows(group.tags, other.tags)
                    if sees != saw:
                        (seen if sees else removed).update(other.ids - changes.nodes - {member.id})
        parts = [
            b'{"kind":"delta","epoch":"%s","from":%d' % (self.epoch.encode(), changes.since),
            b'"to":%d,"hash":"%s"' % (self.revision, self.hash_for(member.id).encode()),
            b'"removed":[%s]' % b",".join(b'"%s"' % id_.encode() for id_ in sorted(removed)),
            b'"nodes":[%s]' % b",".join([self._line(id_) for id_ in sorted(seen)]),
        ]
        if changes.network:
            parts.append(b'"network":%s' % self._network_line)
        if member.id in changes.nodes and member.record is not None:
            parts.append(b'"self":%s' % self._line(member.id))
        return b",".join(parts) + b"}\n"

    def keepalive_for(self, node_id: str) -> bytes:
        """Raises KeyError for who is no member."""
        frame = KeepaliveFrame(self.epoch, self.revision, self.hash_for(node_id))
        return encode_json(frame.to_json()) + b"\n"

    def visible_to(self, node_id: str) -> Iterable[str]:
        """The peers of a member."""
        group = self._group_of.get(node_id)
        if group is None:
            return ()
        return (id_ for other in group.sees for id_ in other.ids if id_ != node_id)


def _is_regrouped(member: Member, since: int) -> bool:
    """Whether it sees others than at `since` for a reason of its own: only a whole map says whom."""
    return member.record is not None and (member.visible_from is None or member.visible_from > since)
