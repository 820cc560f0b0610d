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
from wgpy.mesh.encoding import encode_json
from wgpy.mesh.frames import KeepaliveFrame
from wgpy.mesh.netmap import encode_map_hash, network_hash, peer_hash, self_hash

REMEMBERED_NODES: Final = 10_000
"""Ids of changed nodes that are kept in memory; who has to catch up further asks the database's log."""


class NetworkView:
    """A network at `revision`, moved on by `apply`. A member that has no record is seen by nobody and sees
    nobody.
    """

    def __init__(self, epoch: str, snapshot: Snapshot) -> None:
        self.epoch = epoch
        self.revision = snapshot.revision
        self.network = snapshot.network
        self.members: dict[str, Member] = {}
        self._network_line = encode_json(snapshot.network.to_json())
        self._network_hash = network_hash(snapshot.network)
        self._lines: dict[str, bytes] = {}
        self._peer_hashes: dict[str, int] = {}
        self._self_hashes: dict[str, int] = {}
        self._sum = 0
        self._recent: deque[Changes] = deque()
        self._recent_nodes = 0
        for member in snapshot.members.values():
            self._set_member(member.id, member)

    def is_visible(self, node_id: str) -> bool:
        """Whether it is in the maps of others."""
        return node_id in self._lines

    def apply(self, step: Step) -> None:
        """Go on to `step.changes.revision`. Raises ValueError when the step does not begin where we stand."""
        changes = step.changes
        if changes.since != self.revision or not changes.complete:
            raise ValueError(f"a step from {changes.since} does not lead on from {self.revision}")
        if step.network != self.network:
            self.network = step.network
            self._network_line = encode_json(step.network.to_json())
            self._network_hash = network_hash(step.network)
        for node_id, member in step.members.items():
            self._set_member(node_id, member)
        self.revision = changes.revision
        if changes.revision > changes.since:
            self._remember(changes)

    def _set_member(self, node_id: str, member: Member | None) -> None:
        self._sum -= self._peer_hashes.pop(node_id, 0)
        self._self_hashes.pop(node_id, None)
        self._lines.pop(node_id, None)
        if member is None:
            self.members.pop(node_id, None)
            return
        self.members[node_id] = member
        node = member.node
        if node is not None:
            self._lines[node_id] = encode_json(node.to_json())
            self._peer_hashes[node_id] = peer_hash(node)
            self._sum += self._peer_hashes[node_id]

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
        return encode_map_hash(self._network_hash + own + self._sum - self._peer_hashes[node_id])

    def full_for(self, node_id: str) -> bytes:
        """The whole map as a line. Raises KeyError for who is no member."""
        own = self._lines.get(node_id)
        peers = b""
        if own is not None:
            others = (
                b'"%s":%s' % (id_.encode(), line) for id_, line in self._lines.items() if id_ != node_id
            )
            peers = b",".join(others)
        return (
            b'{"kind":"full","epoch":"%s","to":%d,"hash":"%s","map":{"network":%s,"self":%s,"peers":{%s}}}\n'
            % (
                self.epoch.encode(),
                self.revision,
                self.hash_for(node_id).encode(),
                self._network_line,
                own or b"null",
                peers,
            )
        )

    def line_for(self, node_id: str, changes: Changes | None) -> bytes:
        """What brings a member from `changes.since` to now: a delta, or the whole map where none leads there.

        Raises KeyError for who is no member.
        """
        member = self.members[node_id]
        if changes is None or changes.revision != self.revision or not changes.complete or changes.visibility:
            return self.full_for(node_id)
        if member.record is not None and (member.visible_from is None or member.visible_from > changes.since):
            return self.full_for(node_id)  # it saw nobody before it signed
        if len(changes.nodes) > len(self.members):
            return self.full_for(node_id)
        return self._delta(member, changes)

    def _delta(self, member: Member, changes: Changes) -> bytes:
        others = changes.nodes - {member.id} if member.record is not None else frozenset()
        removed = sorted(id_ for id_ in others if id_ not in self._lines)
        parts = [
            b'{"kind":"delta","epoch":"%s","from":%d' % (self.epoch.encode(), changes.since),
            b'"to":%d,"hash":"%s"' % (self.revision, self.hash_for(member.id).encode()),
            b'"removed":[%s]' % b",".join(b'"%s"' % id_.encode() for id_ in removed),
            b'"nodes":[%s]' % b",".join(self._lines[id_] for id_ in sorted(others) if id_ in self._lines),
        ]
        if changes.network:
            parts.append(b'"network":%s' % self._network_line)
        if member.id in changes.nodes and member.record is not None:
            parts.append(b'"self":%s' % self._lines[member.id])
        return b",".join(parts) + b"}\n"

    def keepalive_for(self, node_id: str) -> bytes:
        """Raises KeyError for who is no member."""
        frame = KeepaliveFrame(self.epoch, self.revision, self.hash_for(node_id))
        return encode_json(frame.to_json()) + b"\n"

    def visible_to(self, node_id: str) -> Iterable[str]:
        """The peers of a member: everyone else, once it has signed its own record."""
        return (id_ for id_ in self._lines if id_ != node_id) if node_id in self._lines else ()
