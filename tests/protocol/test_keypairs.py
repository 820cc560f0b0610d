"""Slots and limits of transport keypairs (paper §6, kernel noise.c)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from wgpy.protocol.constants import REJECT_AFTER_MESSAGES, REKEY_AFTER_MESSAGES
from wgpy.protocol.keypairs import Keypair, KeypairSlots


@dataclass
class Keys:
    """What `wgpy._engine.Session` is to the slots."""

    local_index: int
    is_initiator: bool
    created_at: float
    remote_index: int = 7
    counter: int = 0

    def wipe(self) -> None:
        pass


def make(name: int, *, initiator: bool, created_at: float = 0.0) -> Keypair:
    return Keypair(Keys(name, initiator, created_at))


def slots_of(slots: KeypairSlots) -> tuple[int | None, int | None, int | None]:
    """(previous, current, next) by local index."""
    indices = [
        pair.keys.local_index if pair else None for pair in (slots.previous, slots.current, slots.next)
    ]
    return indices[0], indices[1], indices[2]


def names(fallen: list[Keypair]) -> list[int]:
    return sorted(pair.keys.local_index for pair in fallen)


def test_initiator_sends_with_its_new_keypair_at_once() -> None:
    slots = KeypairSlots()
    assert slots.add(make(1, initiator=True)) == []
    assert slots_of(slots) == (None, 1, None)
    assert slots.add(make(2, initiator=True)) == []
    assert slots_of(slots) == (1, 2, None)
    assert names(slots.add(make(3, initiator=True))) == [1]
    assert slots_of(slots) == (2, 3, None)


def test_responder_keeps_current_until_next_is_confirmed() -> None:
    slots = KeypairSlots()
    slots.add(make(1, initiator=True))
    new = make(2, initiator=False)
    assert slots.add(new) == []
    assert slots_of(slots) == (None, 1, 2)
    assert slots.received_with(new) == (True, [])
    assert slots_of(slots) == (1, 2, None)
    assert slots.received_with(new) == (False, [])


def test_responder_making_a_keypair_drops_previous_and_an_unconfirmed_next() -> None:
    slots = KeypairSlots()
    for name in (1, 2):
        slots.add(make(name, initiator=True))
    assert names(slots.add(make(3, initiator=False))) == [1]
    assert names(slots.add(make(4, initiator=False))) == [3]
    assert slots_of(slots) == (None, 2, 4)


def test_initiator_with_an_unconfirmed_next_keeps_it_as_previous_and_drops_current() -> None:
    slots = KeypairSlots()
    slots.add(make(1, initiator=True))
    slots.add(make(2, initiator=False))
    assert names(slots.add(make(3, initiator=True))) == [1]
    assert slots_of(slots) == (2, 3, None)


def test_confirming_drops_the_old_previous() -> None:
    slots = KeypairSlots()
    slots.add(make(1, initiator=True))
    second = make(2, initiator=False)
    slots.add(second)
    slots.previous = make(9, initiator=True)
    confirmed, fallen = slots.received_with(second)
    assert confirmed
    assert names(fallen) == [9]


def test_receiving_with_current_or_previous_changes_nothing() -> None:
    slots = KeypairSlots()
    first, second = make(1, initiator=True), make(2, initiator=True)
    slots.add(first)
    slots.add(second)
    for pair in (first, second):
        assert slots.received_with(pair) == (False, [])
    assert slots_of(slots) == (1, 2, None)


def test_wipe_empties_every_slot_and_names_what_fell_out() -> None:
    slots = KeypairSlots()
    for name in (1, 2):
        slots.add(make(name, initiator=True))
    slots.next = make(3, initiator=False)
    assert names(slots.wipe()) == [1, 2, 3]
    assert list(slots) == []


def test_expired_keypairs_do_not_send_and_ask_for_nothing() -> None:
    slots = KeypairSlots()
    slots.add(make(1, initiator=True))
    slots.add(make(2, initiator=False))
    slots.expire()
    for pair in slots:
        assert not pair.may_send(1.0)
        assert not pair.is_due_on_send(150.0)
        assert not pair.is_due_on_receive(170.0)
    assert slots_of(slots) == (None, 1, 2), "they stay in their slots to receive"


@pytest.mark.parametrize("initiator", [True, False])
def test_a_keypair_does_not_send_at_180_s(initiator: bool) -> None:
    pair = make(1, initiator=initiator, created_at=100.0)
    assert pair.may_send(279.9)
    assert not pair.may_send(280.0)


def test_a_keypair_stops_sending_at_the_last_counter() -> None:
    last = Keypair(Keys(1, True, 0.0, counter=REJECT_AFTER_MESSAGES - 1))
    assert last.may_send(1.0)
    assert not Keypair(Keys(1, True, 0.0, counter=REJECT_AFTER_MESSAGES)).may_send(1.0)


def test_only_the_initiator_rekeys_on_age() -> None:
    ours, theirs = make(1, initiator=True), make(2, initiator=False)
    assert not ours.is_due_on_send(119.9)
    assert ours.is_due_on_send(120.0)
    assert not theirs.is_due_on_send(179.0)
    assert not ours.is_due_on_receive(164.9)
    assert ours.is_due_on_receive(165.0)
    assert not theirs.is_due_on_receive(179.0)


@pytest.mark.parametrize("initiator", [True, False])
def test_both_ends_rekey_on_the_message_count(initiator: bool) -> None:
    assert not Keypair(Keys(1, initiator, 0.0, counter=REKEY_AFTER_MESSAGES)).is_due_on_send(1.0)
    assert Keypair(Keys(1, initiator, 0.0, counter=REKEY_AFTER_MESSAGES + 1)).is_due_on_send(1.0)


def test_a_keypair_shows_its_index_and_no_more() -> None:
    assert repr(make(0xABC, initiator=True)) == "<Keypair 00000abc>"
