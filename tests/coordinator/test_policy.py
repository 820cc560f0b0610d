"""Who sees whom: symmetric, the same in maps, frames and presence, and streams get the difference."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.feed import REMEMBERED_POLICIES, NetworkView
from coordinator.netmap import Changes, Member, Snapshot, Step, map_for
from coordinator.policy import ANY, MAX_PAIRS, Policy, visible
from tests.coordinator.hosts import Follower
from tests.coordinator.test_feed import EPOCH, member, snapshot
from tests.mesh.examples import node_id
from wgpy.errors import ConfigError
from wgpy.mesh.frames import DeltaFrame, FullFrame

TAGS = ("a", "b", "c")
PAIRS = [*itertools.combinations_with_replacement((*TAGS, ANY), 2)]

a_tag_set = st.frozensets(st.sampled_from(TAGS), max_size=2)
a_policy = st.one_of(st.none(), st.lists(st.sampled_from(PAIRS), max_size=3)).map(Policy.of)
a_member = st.builds(
    lambda number, seq, tags, is_disabled: dataclasses.replace(
        member(number, seq), tags=tags, is_disabled=is_disabled
    ),
    st.integers(1, 6),
    st.integers(0, 2),
    a_tag_set,
    st.booleans(),
)


@given(a_policy, a_member, a_member)
def test_visibility_is_symmetric_and_nobody_sees_itself(policy: Policy, a: Member, b: Member) -> None:
    assert visible(policy, a, b) == visible(policy, b, a)
    assert not visible(policy, a, a)


def test_pairs_say_which_tags_see_each_other_and_a_star_is_any_node() -> None:
    def see(policy: Policy, a: str, b: str) -> bool:
        return policy.allows(frozenset(a.split()), frozenset(b.split()))

    servers = Policy.of([["laptops", "servers"]])
    assert see(servers, "servers", "laptops")
    assert see(servers, "servers x", "y laptops")
    assert not see(servers, "servers", "servers")
    assert not see(servers, "", "laptops")
    assert see(Policy.of([["servers", "servers"]]), "servers", "servers")
    admins = Policy.of([[ANY, "admins"]])
    assert see(admins, "admins", "")
    assert see(admins, "admins", "admins")
    assert not see(admins, "", "")
    assert see(Policy.of(None), "", "")
    assert not see(Policy.of([]), "a", "a")
    assert see(Policy.of([[ANY, ANY]]), "", "")


@pytest.mark.parametrize(
    "pairs", [[["a"]], [["a", "b", "c"]], [["A", "b"]], [["", "b"]], [["a:b", "c"]], [["a", "**"]]]
)
def test_what_is_no_pair_of_tags_is_refused(pairs: list[list[str]]) -> None:
    with pytest.raises(ConfigError):
        Policy.of(pairs)


def test_a_policy_is_bounded_and_comes_back_as_it_was_written() -> None:
    with pytest.raises(ConfigError, match=f"at most {MAX_PAIRS}"):
        Policy.of([["a", f"b{number}"] for number in range(MAX_PAIRS + 1)])
    policy = Policy.of([["b", "a"], ["a", "b"], ["c", ANY]])
    assert policy.to_json() == [["*", "c"], ["a", "b"]]
    assert Policy.of(policy.to_json()) == policy


def changed(before: Snapshot, change: Member | str | Policy) -> tuple[Step, Snapshot]:
    """One edit: a member as it is from now on, an id that goes, another policy."""
    revision, members = before.revision + 1, dict(before.members)
    policy, touched = before.policy, dict[str, Member | None]()
    if isinstance(change, Policy):
        policy = change
    elif isinstance(change, str):
        members.pop(change, None)
        touched[change] = None
    else:
        known = members.get(change.id)
        alike = known is not None and known.record is not None
        same = alike and (known.tags, known.is_disabled) == (change.tags, change.is_disabled)  # type: ignore[union-attr]
        if change.record is None and alike:
            change = dataclasses.replace(change, record=known.record)  # type: ignore[union-attr]
        since = known.visible_from if same and known is not None else revision
        change = dataclasses.replace(change, visible_from=since)
        touched[change.id] = members[change.id] = change
    after = Snapshot(revision, before.network, members, policy)
    changes = Changes(before.revision, revision, nodes=frozenset(touched), visibility=policy != before.policy)
    return Step(changes, after.network, touched, policy), after


@settings(deadline=None)
@given(
    st.lists(st.one_of(a_member, a_policy, st.integers(1, 6).map(node_id)), max_size=14),
    st.sets(st.integers(0, 13)),
)
def test_every_node_that_follows_at_any_pace_holds_the_map_that_the_rows_say(
    edits: list[Member | Policy | str], looks: set[int]
) -> None:
    rows = snapshot(*(dataclasses.replace(member(n, 1), tags=frozenset(TAGS[n - 1])) for n in (1, 2, 3)))
    view = NetworkView(EPOCH, rows)
    eager: dict[str, Follower] = {}
    lazy: dict[str, Follower] = {}
    for number, edit in enumerate((None, *edits)):
        if edit is not None:
            change, rows = changed(rows, edit)
            view.apply(change)
        for followers in (eager, lazy):
            # The stream of a removed node ends at once: under its id nobody follows who knew it before.
            for id_ in [id_ for id_ in followers if id_ not in rows.members]:
                del followers[id_]
        for followers in (eager, *([lazy] if number - 1 in looks else [])):
            for id_ in rows.members:
                follower = followers.setdefault(id_, Follower())
                held = follower.held
                known = None if held is None else view.recall(held.revision)
                follower.take(view.line_for(id_, known))
                assert not follower.refused
                assert follower.held is not None
                assert follower.held.map == map_for(rows, id_)
                assert view.hash_for(id_) == follower.held.map.hash
                assert set(view.visible_to(id_)) == set(follower.held.map.peers)
                assert {other for other in rows.members if view.sees(id_, other)} == set(
                    follower.held.map.peers
                )


def test_a_stream_gets_the_difference_when_pairs_change_and_nothing_of_who_stays() -> None:
    tags = {1: "laptops", 2: "servers", 3: "printers", 4: "laptops"}
    rows = snapshot(*(dataclasses.replace(member(n, 1), tags=frozenset({tag})) for n, tag in tags.items()))
    view = NetworkView(EPOCH, rows)
    follower = Follower()
    follower.take(view.full_for(node_id(1)))
    change, rows = changed(rows, Policy.of([["laptops", "servers"]]))
    view.apply(change)
    frame = follower.take(view.line_for(node_id(1), view.recall(rows.revision - 1)))
    assert isinstance(frame, DeltaFrame)
    assert set(frame.removed) == {node_id(3), node_id(4)}
    assert frame.nodes == ()
    change, rows = changed(rows, Policy.of([["laptops", "servers"], ["laptops", "printers"]]))
    view.apply(change)
    frame = follower.take(view.line_for(node_id(1), view.recall(rows.revision - 1)))
    assert isinstance(frame, DeltaFrame)
    assert [node.id for node in frame.nodes] == [node_id(3)]
    assert follower.held is not None
    assert follower.held.map == map_for(rows, node_id(1))


def test_who_stands_before_the_policies_that_are_remembered_gets_a_whole_map() -> None:
    rows = snapshot(member(1, 1), member(2, 1))
    view = NetworkView(EPOCH, rows)
    began = rows.revision
    for number in range(REMEMBERED_POLICIES + 1):
        change, rows = changed(rows, Policy.of([["a", f"b{number}"]]))
        view.apply(change)
    assert isinstance(Follower().take(view.line_for(node_id(1), view.recall(began))), FullFrame)
    assert b'"delta"' in view.line_for(node_id(1), view.recall(rows.revision - 1))
