"""Frames of one network's view: bytes that any reader of the wire understands, and that lead to the right
map.
"""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.feed import NetworkView
from coordinator.netmap import Changes, Member, Snapshot, Step, map_for
from tests.coordinator.hosts import Follower
from tests.mesh.examples import make_network, make_node, node_id
from wgpy.mesh.delta import HeldMap, make_full
from wgpy.mesh.encoding import encode_json
from wgpy.mesh.frames import DeltaFrame, FullFrame

EPOCH = "feed"


def member(number: int, seq: int, visible_from: int = 1) -> Member:
    """seq 0: it has not signed a record."""
    node = make_node(number, seq=max(seq, 1))
    if not seq:
        return Member(node.id, node.name, 0, None, None)
    return Member(node.id, node.name, 0, node.record, visible_from)


def snapshot(*members: Member, revision: int = 5, mtu: int = 1380) -> Snapshot:
    network = dataclasses.replace(make_network(), mtu=mtu)
    return Snapshot(revision, network, {member.id: member for member in members})


def step(before: Snapshot, *changes: Member | str, mtu: int | None = None) -> tuple[Step, Snapshot]:
    """The step in which these members change (an id: it goes), and the snapshot after it."""
    touched: dict[str, Member | None] = {
        change if isinstance(change, str) else change.id: None if isinstance(change, str) else change
        for change in changes
    }
    network = before.network if mtu is None else dataclasses.replace(before.network, mtu=mtu)
    members = {id_: known for id_, known in before.members.items() if id_ not in touched}
    members |= {id_: known for id_, known in touched.items() if known is not None}
    after = Snapshot(before.revision + 1, network, members)
    log = Changes(
        before.revision, after.revision, nodes=frozenset(touched), network=before.network != network
    )
    return Step(log, network, touched), after


def test_a_full_line_is_the_frame_that_the_wire_makes_of_the_map() -> None:
    rows = snapshot(member(1, 1), member(2, 3), member(3, 0))
    view = NetworkView(EPOCH, rows)
    for id_ in rows.members:
        held = HeldMap(EPOCH, 5, map_for(rows, id_))
        follower = Follower()
        assert follower.take(view.full_for(id_)) == make_full(held)
        assert len(view.full_for(id_)) == len(encode_json(make_full(held).to_json())) + 1


def test_a_node_without_a_record_sees_nobody_and_is_seen_by_nobody() -> None:
    rows = snapshot(member(1, 1), member(2, 0))
    for mine in (map_for(rows, node_id(1)), map_for(rows, node_id(2))):
        assert mine.peers == {}
    assert map_for(rows, node_id(2)).self_node is None


def test_a_delta_carries_what_changed_and_nothing_else() -> None:
    rows = snapshot(member(1, 1), member(2, 1), member(3, 1))
    view = NetworkView(EPOCH, rows)
    follower = Follower()
    follower.take(view.full_for(node_id(1)))
    change, rows = step(rows, member(2, 2), node_id(3), member(4, 1, visible_from=6))
    view.apply(change)
    frame = follower.take(view.line_for(node_id(1), view.recall(5)))
    assert isinstance(frame, DeltaFrame)
    assert (frame.from_, frame.to) == (5, 6)
    assert frame.removed == (node_id(3),)
    assert {node.id for node in frame.nodes} == {node_id(2), node_id(4)}
    assert frame.network is None
    assert frame.self_node is None
    assert follower.held is not None
    assert follower.held.map == map_for(rows, node_id(1))


def test_ones_own_record_comes_as_self() -> None:
    rows = snapshot(member(1, 1), member(2, 1))
    view = NetworkView(EPOCH, rows)
    follower = Follower()
    follower.take(view.full_for(node_id(1)))
    change, _ = step(rows, member(1, 2), mtu=1300)
    view.apply(change)
    frame = follower.take(view.line_for(node_id(1), view.recall(5)))
    assert isinstance(frame, DeltaFrame)
    assert frame.nodes == ()
    assert frame.self_node is not None
    assert frame.network is not None
    assert not follower.refused


def test_who_signs_for_the_first_time_gets_the_whole_map() -> None:
    rows = snapshot(member(1, 0), member(2, 1))
    view = NetworkView(EPOCH, rows)
    change, rows = step(rows, member(1, 1, visible_from=6))
    view.apply(change)
    assert isinstance(Follower().take(view.line_for(node_id(1), view.recall(5))), FullFrame)


def test_a_change_of_visibility_gives_the_whole_map_to_who_resumes_across_it() -> None:
    view = NetworkView(EPOCH, snapshot(member(1, 1)))
    across = Changes(3, 5, visibility=True)
    assert isinstance(Follower().take(view.line_for(node_id(1), across)), FullFrame)


def test_a_step_that_does_not_begin_where_we_stand_is_refused() -> None:
    rows = snapshot(member(1, 1))
    view = NetworkView(EPOCH, rows)
    change, _ = step(dataclasses.replace(rows, revision=7), member(1, 2))
    with pytest.raises(ValueError, match="does not lead on"):
        view.apply(change)


def test_memory_is_bounded_and_says_how_far_it_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.feed.REMEMBERED_NODES", 10)
    rows = snapshot(member(1, 1))
    view = NetworkView(EPOCH, rows)
    for seq in range(2, 30):
        change, rows = step(rows, member(1, seq))
        view.apply(change)
    assert view.recall(5) is None
    assert view.recall(view.revision - 5) is not None
    assert view.recall(view.revision) == Changes(view.revision, view.revision)


def test_changes_that_leave_a_gap_are_not_complete() -> None:
    assert Changes(1, 4).followed_by(Changes(4, 6)).complete
    assert Changes(1, 4).followed_by(Changes(3, 6)).complete
    assert not Changes(1, 4).followed_by(Changes(5, 6)).complete


EDITS = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 6), st.integers(0, 4)),  # a node at a seq (0: goes away)
        st.integers(1280, 1284),  # an MTU
    ),
    max_size=12,
)


@settings(deadline=None)
@given(EDITS, st.lists(st.integers(0, 12), min_size=1, max_size=4))
def test_following_deltas_at_any_pace_gives_the_fresh_map_and_hash(
    edits: list[tuple[int, int] | int], pauses: list[int]
) -> None:
    rows = snapshot(member(1, 1), member(2, 1), member(7, 0))
    view = NetworkView(EPOCH, rows)
    eager, lazy = Follower(), Follower()
    for follower in (eager, lazy):
        follower.take(view.full_for(node_id(1)))
    for number, edit in enumerate(edits):
        if isinstance(edit, int):
            change, rows = step(rows, mtu=edit)
        elif edit[1] == 0 and edit[0] != 1:
            change, rows = step(rows, node_id(edit[0]))
        else:
            known = rows.members.get(node_id(edit[0]))
            since = known.visible_from if known is not None and known.visible_from else rows.revision + 1
            change, rows = step(rows, member(edit[0], max(edit[1], 1), visible_from=since))
        view.apply(change)
        for follower in (eager, *([lazy] if number in pauses else [])):
            assert follower.held is not None
            follower.take(view.line_for(node_id(1), view.recall(follower.held.revision)))
            assert follower.held.map == map_for(rows, node_id(1))
            assert follower.held.map.hash == view.hash_for(node_id(1))
    assert not eager.refused
    assert not lazy.refused
    assert all(kind in ("full", "delta") for kind in eager.kinds())
    for id_ in rows.members:
        assert view.hash_for(id_) == map_for(rows, id_).hash
        assert view.keepalive_for(id_)
