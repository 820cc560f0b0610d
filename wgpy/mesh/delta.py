"""From one revision to the next: making the frame (the coordinator) and taking it (the node)."""

from __future__ import annotations

from dataclasses import dataclass

from wgpy.mesh.frames import DeltaFrame, FullFrame, KeepaliveFrame, Since
from wgpy.mesh.netmap import Map


@dataclass(frozen=True, slots=True)
class HeldMap:
    """A map and where it stands."""

    epoch: str
    revision: int
    map: Map

    @property
    def since(self) -> Since:
        return Since(self.epoch, self.revision)


def make_full(held: HeldMap) -> FullFrame:
    return FullFrame(held.epoch, held.revision, held.map.hash, held.map)


def make_delta(old: HeldMap, new: HeldMap) -> DeltaFrame:
    """The frame that turns `old` into `new`, both of one epoch. Entities that changed are sent whole.

    `self` cannot go back to null: a node whose record was withdrawn gets a full map. Raises ValueError for
    that, for another epoch and for a revision that goes back."""
    before, after = old.map, new.map
    if old.epoch != new.epoch or new.revision < old.revision:
        raise ValueError(f"no delta leads from {old.since} to {new.since}")
    if after.self_node is None and before.self_node is not None:
        raise ValueError("a delta cannot take back a record")
    return DeltaFrame(
        epoch=new.epoch,
        from_=old.revision,
        to=new.revision,
        hash=after.hash,
        removed=tuple(sorted(node_id for node_id in before.peers if node_id not in after.peers)),
        nodes=tuple(node for node_id, node in after.peers.items() if before.peers.get(node_id) != node),
        network=after.network if after.network != before.network else None,
        self_node=after.self_node if after.self_node != before.self_node else None,
    )


def apply_frame(held: HeldMap | None, frame: FullFrame | DeltaFrame | KeepaliveFrame) -> HeldMap | None:
    """The map after the frame, or None: this frame does not follow what we hold, ask for a full map.

    Whole or not at all: the hash is compared before anything is given back. A check-in may have brought us
    past where the stream's next frame begins: what a delta names it brings whole, so it leads on from there
    as well, and one that ends before is news no more.
    """
    if isinstance(frame, FullFrame):
        return HeldMap(frame.epoch, frame.to, frame.map) if frame.map.hash == frame.hash else None
    if held is None or held.epoch != frame.epoch:
        return None
    if isinstance(frame, KeepaliveFrame):
        same = held.map.hash == frame.hash and frame.revision >= held.revision
        return HeldMap(held.epoch, frame.revision, held.map) if same else None
    if frame.to <= held.revision:
        return held
    if held.revision < frame.from_:
        return None
    after = held.map.edited(
        network=frame.network,
        self_node=frame.self_node,
        removed=frozenset(frame.removed),
        nodes={node.id: node for node in frame.nodes},
    )
    return HeldMap(frame.epoch, frame.to, after) if after.hash == frame.hash else None
