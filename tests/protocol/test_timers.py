"""Deadlines as pure functions, and `Timers` over facts that a test makes up. Whole stories are the
simulator's.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.recording_engine import NOTHING
from wgpy.protocol import timers as t
from wgpy.protocol.actions import Fact, Facts
from wgpy.protocol.timers import Timer, Timers

JITTER = 0.333
instants = st.none() | st.floats(0, 1e6)


@pytest.fixture
def timers() -> Timers:
    return Timers(random.Random(1))


def test_deadlines_are_the_papers() -> None:
    assert t.gate_opens_at(None) is None
    assert t.gate_opens_at(100.0) == 105.0
    assert t.retransmit_handshake_deadline(100.0, 0.2) == pytest.approx(105.2)
    assert t.after_gate_deadline(100.0, gives_way=False) == 105.0
    assert t.after_gate_deadline(100.0, gives_way=True) == 106.0
    assert t.send_keepalive_deadline(100.0) == 110.0
    assert t.new_handshake_deadline(100.0, 0.2) == pytest.approx(115.2)
    assert t.zero_key_material_deadline(100.0) == 640.0


@given(instants, instants, st.floats(0, 1e6), st.integers(1, 65535))
def test_persistent_keepalive_is_due_an_interval_after_the_latest_of_all(
    sent: float | None, received: float | None, fired: float, interval: int
) -> None:
    facts = replace(NOTHING, authenticated_sent_last=sent, authenticated_received_last=received)
    latest = max(at for at in (sent, received, fired) if at is not None)
    assert t.persistent_keepalive_deadline(facts, fired, interval) == latest + interval


def test_jitter_of_retries_is_uniform_up_to_a_third_of_a_second() -> None:
    timers = Timers(random.Random(1))
    waits = []
    for n in range(1000):
        timers.handshake_initiated(None, 10.0 * n)
        deadline = timers.deadline(Timer.RETRANSMIT_HANDSHAKE)
        assert deadline is not None
        waits.append(deadline - 10.0 * n - 5.0)
    assert min(waits) >= 0.0
    assert max(waits) <= JITTER
    assert sum(waits) / len(waits) == pytest.approx(JITTER / 2, rel=0.1)


def test_retries_go_on_until_more_than_18_attempts_were_counted(timers: Timers) -> None:
    now, sends = 0.0, 1
    timers.handshake_initiated(None, now)
    while True:
        deadline = timers.deadline(Timer.RETRANSMIT_HANDSHAKE)
        assert deadline is not None
        now = deadline
        if not timers.retransmit_handshake_expired(now):
            break
        timers.handshake_initiated(None, now)
        sends += 1
    assert sends == 20
    assert 95.0 <= now <= 20 * (5 + JITTER)


def test_retry_that_the_gate_refuses_is_not_an_attempt(timers: Timers) -> None:
    timers.handshake_initiated(None, 0.0)
    timers.handshake_sent_at = 3.0
    assert timers.retransmit_handshake_expired(5.3) is None
    assert timers.attempts == 0
    assert timers.deadline(Timer.RETRANSMIT_HANDSHAKE) == 8.0
    assert timers.retransmit_handshake_expired(8.0) is True


def test_completed_handshake_cancels_retries_and_resets_attempts(timers: Timers) -> None:
    timers.handshake_initiated(None, 0.0)
    timers.attempts = 7
    timers.handshake_complete()
    assert (timers.attempts, timers.next_deadline()) == (0, None)


def test_response_without_a_retry_of_our_own_pending_arms_none(timers: Timers) -> None:
    timers.handshake_responded(1.0, gives_way=False, now=1.0)
    assert timers.next_deadline() is None
    assert not timers.gate_is_open(5.9)
    assert timers.gate_is_open(6.0)


def test_giving_up_arms_the_wipe_only_if_it_is_not_pending(timers: Timers) -> None:
    timers.session_derived(0.0)
    timers.handshake_given_up(NOTHING, 100.0)
    assert timers.deadline(Timer.ZERO_KEY_MATERIAL) == 540.0
    timers.zero_key_material_expired()
    timers.handshake_given_up(NOTHING, 700.0)
    assert timers.deadline(Timer.ZERO_KEY_MATERIAL) == 1240.0


def test_deadline_in_the_past_is_due_now(timers: Timers) -> None:
    timers.observe(replace(NOTHING, data_received_first=1.0, data_received_last=1.0), 0, 50.0)
    assert timers.deadline(Timer.SEND_KEEPALIVE) == 50.0


def test_keepalive_that_found_no_key_is_not_tried_again_for_the_same_data(timers: Timers) -> None:
    facts = replace(NOTHING, data_received_first=1.0, data_received_last=2.0)
    timers.observe(facts, 0, 2.0)
    timers.send_keepalive_expired(facts, facts, 11.0)
    assert timers.observe(facts, 0, 11.0) == Fact.DATA_SENT
    assert timers.deadline(Timer.SEND_KEEPALIVE) is None
    later = replace(facts, data_received_last=12.0)
    timers.observe(later, 0, 12.0)
    assert timers.deadline(Timer.SEND_KEEPALIVE) == 22.0


@given(
    st.builds(
        Facts,
        data_sent_first=instants,
        data_received_first=instants,
        data_received_last=instants,
        authenticated_sent_last=instants,
        authenticated_received_last=instants,
        staged=st.integers(0, 128),
        current=st.none(),
    ),
    st.integers(0, 100),
    st.floats(0, 1e6),
)
def test_whatever_the_facts_no_deadline_is_in_the_past_and_nothing_seen_is_watched(
    facts: Facts, interval: int, now: float
) -> None:
    timers = Timers(random.Random(1))
    watch = timers.observe(facts, interval, now)
    deadline = timers.next_deadline()
    assert deadline is None or deadline >= now
    assert not (Fact.DATA_SENT in watch and facts.data_sent_first is not None)
    assert not (Fact.DATA_RECEIVED in watch and facts.data_received_first is not None)
    assert Fact.AUTHENTICATED_RECEIVED not in watch
