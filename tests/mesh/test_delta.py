from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mesh.examples import make_map, make_network, make_node
from wgpy.mesh.delta import HeldMap, apply_frame, make_delta, make_full
from wgpy.mesh.encoding import encode_json
from wgpy.mesh.frames import DeltaFrame, FullFrame, KeepaliveFrame, decode_frame
from wgpy.mesh.netmap import Map, Node

# A map in small numbers: which nodes are there at which record, the MTU, whether we are in it (0: not).
signed = functools.lru_cache(maxsize=None)(lambda number, seq: make_node(number, seq=seq))
states = st.tuples(
    st.dictionaries(st.integers(2, 9), st.integers(1, 3)), st.integers(1280, 1283), st.integers(0, 2)
)
State = tuple[Mapping[int, int], int, int]


def map_of(state: State) -> Map:
    peers, mtu, self_seq = state
    network = dataclasses.replace(make_network(), mtu=mtu)
    return make_map(
        (signed(*item) for item in peers.items()), signed(1, self_seq) if self_seq else None, network
    )


def over_the_wire(frame: FullFrame | DeltaFrame | KeepaliveFrame) -> FullFrame | DeltaFrame | KeepaliveFrame:
    decoded = decode_frame(encode_json(frame.to_json()))
    assert isinstance(decoded, type(frame))
    return decoded


@given(st.lists(states, min_size=2, max_size=6))
def test_following_deltas_gives_the_same_map_and_hash_as_a_fresh_full_map(history: list[State]) -> None:
    held: HeldMap | None = None
    truth = HeldMap("e1", 1, map_of(history[0]))
    held = apply_frame(None, over_the_wire(make_full(truth)))
    for revision, state in enumerate(history[1:], 2):
        after = HeldMap("e1", revision, map_of(state))
        withdrawn = after.map.self_node is None and truth.map.self_node is not None
        frame = make_full(after) if withdrawn else make_delta(truth, after)
        held = apply_frame(held, over_the_wire(frame))
        assert held == after
        assert held.map.hash == Map.from_json(after.map.to_json()).hash
        truth = after


@given(states, states)
def test_two_maps_have_one_hash_only_if_they_are_equal(one: State, other: State) -> None:
    assert (map_of(one).hash == map_of(other).hash) == (map_of(one) == map_of(other))


@given(states, states, states)
def test_a_delta_that_does_not_start_where_the_node_stands_is_not_applied(
    a: State, b: State, c: State
) -> None:
    first, second, third = (
        HeldMap("e1", number, map_of((*s[:2], 1))) for number, s in enumerate((a, b, c), 1)
    )
    assert apply_frame(first, make_delta(second, third)) is None
    assert apply_frame(dataclasses.replace(second, epoch="e2"), make_delta(second, third)) is None
    assert apply_frame(None, make_delta(first, second)) is None


def test_a_delta_whose_hash_does_not_fit_asks_for_a_full_map() -> None:
    old, new = HeldMap("e1", 1, make_map([signed(2, 1)])), HeldMap("e1", 2, make_map([signed(3, 1)]))
    frame = dataclasses.replace(make_delta(old, new), hash=old.map.hash)
    assert apply_frame(old, frame) is None
    assert apply_frame(old, dataclasses.replace(make_full(new), hash=old.map.hash)) is None


def test_removing_what_is_not_there_changes_nothing() -> None:
    held = HeldMap("e1", 1, make_map([signed(2, 1)]))
    frame = DeltaFrame("e1", 1, 2, held.map.hash, removed=(signed(7, 1).id,))
    assert apply_frame(held, frame) == dataclasses.replace(held, revision=2)


@given(states, states, states)
def test_a_delta_that_begins_where_we_were_leads_on_or_is_no_news_or_a_full_map_is_asked_for(
    first: State, second: State, third: State
) -> None:
    """A check-in may be faster than the stream: what it has brought by then is whole at its revision."""
    maps = [HeldMap("e1", number, map_of(state)) for number, state in enumerate((first, second, third), 1)]
    withdrawn = any(after.map.self_node is None for after in maps) and any(
        map_.map.self_node for map_ in maps
    )
    if withdrawn:
        return
    assert apply_frame(maps[2], make_delta(maps[0], maps[1])) == maps[2]
    assert apply_frame(maps[1], make_delta(maps[0], maps[2])) in (maps[2], None)


def test_a_keepalive_with_our_hash_moves_us_and_any_other_asks_for_a_full_map() -> None:
    held = HeldMap("e1", 5, make_map([signed(2, 1)]))
    assert apply_frame(held, KeepaliveFrame("e1", 9, held.map.hash)) == dataclasses.replace(held, revision=9)
    other = make_map([]).hash
    for frame in (
        KeepaliveFrame("e1", 9, other),
        KeepaliveFrame("e2", 9, held.map.hash),
        KeepaliveFrame("e1", 4, held.map.hash),
    ):
        assert apply_frame(held, frame) is None


def test_fields_of_a_newer_version_are_kept_and_hashed() -> None:
    node = dataclasses.replace(signed(2, 1), extra={"relay": "r1"})
    network = dataclasses.replace(make_network(), extra={"motto": ["x"]})
    newer = HeldMap("e1", 1, make_map([node], network=network))
    held = apply_frame(None, over_the_wire(make_full(newer)))
    assert held == newer
    assert held.map.hash != make_map([signed(2, 1)]).hash


def test_one_unreadable_node_costs_no_more_than_itself() -> None:
    good = make_map([signed(2, 1), signed(3, 1)])
    value = good.to_json()
    peers = value["peers"]
    assert isinstance(peers, dict)
    peers[signed(3, 1).id]["name"] = "Not A Label"
    bad = Map.from_json(value)
    assert isinstance(bad.peers[signed(2, 1).id], Node)
    assert not isinstance(bad.peers[signed(3, 1).id], Node)
    assert bad.to_json() == value
    frame = make_delta(HeldMap("e1", 1, good), HeldMap("e1", 2, bad))
    assert apply_frame(HeldMap("e1", 1, good), over_the_wire(frame)) == HeldMap("e1", 2, bad)


def test_no_delta_is_made_across_epochs_or_backwards() -> None:
    held = HeldMap("e1", 2, make_map([]))
    for new in (HeldMap("e2", 3, held.map), HeldMap("e1", 1, held.map)):
        with pytest.raises(ValueError, match="no delta leads"):
            make_delta(held, new)
