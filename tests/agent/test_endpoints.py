from __future__ import annotations

from wgpy.addresses import Endpoint
from wgpy.agent.endpoints import TRY_TIME, EndpointChooser, Heard
from wgpy.mesh.frames import Presence, PresenceFrame

ONE, TWO, THREE = (Endpoint.parse(f"192.0.2.{number}:51820") for number in (1, 2, 3))
BOB = "b" * 32


def said(*endpoints: Endpoint, online: bool = True, complete: bool = False) -> PresenceFrame:
    return PresenceFrame(complete, {BOB: Presence(endpoints, online)})


def chooser_with(*endpoints: Endpoint) -> EndpointChooser:
    chooser = EndpointChooser()
    chooser.handle_presence(said(*endpoints), 0.0)
    return chooser


def nothing(endpoint: Endpoint | None = None) -> Heard:
    return Heard(endpoint, 0, None)


def test_a_peer_without_an_endpoint_gets_the_first_one_at_once() -> None:
    chooser = chooser_with(ONE, TWO)
    assert chooser.choose(BOB, nothing(), 0.0) == ONE
    assert chooser.choose(BOB, nothing(ONE), 1.0) is None


def test_a_peer_nobody_told_of_is_left_alone() -> None:
    assert EndpointChooser().choose(BOB, nothing(), 0.0) is None


def test_candidates_take_turns_while_there_is_no_session() -> None:
    chooser, endpoint, seen = chooser_with(ONE, TWO, THREE), None, []
    for second in range(25):
        if chosen := chooser.choose(BOB, nothing(endpoint), float(second)):
            endpoint = chosen
            seen.append((second, chosen))
    step = int(TRY_TIME)
    assert seen == [(0, ONE), (step, TWO), (2 * step, THREE), (3 * step, ONE), (4 * step, TWO)]
    assert chooser.tries(BOB) == 5


def test_what_the_peer_proved_is_never_overridden_while_it_is_heard() -> None:
    chooser, roamed = chooser_with(ONE), Endpoint.parse("198.51.100.9:1024")
    chooser.choose(BOB, nothing(), 0.0)
    for second in range(1, 100):
        chooser.handle_presence(said(TWO if second % 2 else THREE), float(second))
        assert chooser.choose(BOB, Heard(roamed, 100 * second, float(second)), float(second)) is None


def test_a_quiet_peer_is_not_a_lost_one() -> None:
    chooser, roamed = chooser_with(ONE), Endpoint.parse("198.51.100.9:1024")
    for second in range(0, 180, 5):
        assert chooser.choose(BOB, Heard(roamed, 500, float(second)), float(second)) is None


def test_a_session_that_is_over_sends_us_where_the_coordinator_saw_the_peer() -> None:
    chooser, roamed = chooser_with(ONE), Endpoint.parse("198.51.100.9:1024")
    chooser.choose(BOB, Heard(roamed, 500, 0.0), 0.0)
    assert chooser.choose(BOB, Heard(roamed, 500, 179.0), 179.0) is None
    assert chooser.choose(BOB, Heard(roamed, 500, 181.0), 181.0) == ONE


def test_data_without_an_answer_does_so_sooner() -> None:
    chooser, roamed = chooser_with(ONE), Endpoint.parse("198.51.100.9:1024")
    chooser.choose(BOB, Heard(roamed, 500, 0.0), 0.0)
    assert chooser.choose(BOB, Heard(roamed, 500, 20.0, unanswered=14.0), 20.0) is None
    assert chooser.choose(BOB, Heard(roamed, 500, 22.0, unanswered=16.0), 22.0) == ONE


def test_a_word_newer_than_what_we_heard_is_believed_after_a_while_of_quiet() -> None:
    chooser = chooser_with(ONE)
    chooser.choose(BOB, Heard(ONE, 500, 0.0), 1.0)
    chooser.handle_presence(said(TWO), 10.0)
    assert chooser.choose(BOB, Heard(ONE, 500, 20.0), 20.0) is None
    assert chooser.choose(BOB, Heard(ONE, 500, 27.0), 27.0) == TWO


def test_a_new_word_about_a_silent_peer_is_tried_at_once() -> None:
    chooser = chooser_with(ONE)
    assert chooser.choose(BOB, nothing(), 0.0) == ONE
    chooser.handle_presence(said(TWO), 1.0)
    assert chooser.choose(BOB, nothing(ONE), 1.0) == TWO


def test_a_complete_presence_that_does_not_name_a_peer_says_it_is_offline() -> None:
    chooser = chooser_with(ONE)
    chooser.handle_presence(PresenceFrame(True, {}), 1.0)
    assert chooser.presence(BOB) == Presence((ONE,), False)
    chooser.keep_only([])
    assert chooser.presence(BOB) is None


def test_memory_has_the_proven_endpoint_first_and_serves_in_the_next_life() -> None:
    chooser, roamed = chooser_with(ONE, TWO), Endpoint.parse("198.51.100.9:1024")
    assert chooser.memory(BOB, roamed) == (ONE, TWO)
    chooser.choose(BOB, Heard(roamed, 500, 1.0), 1.0)
    assert chooser.memory(BOB, roamed) == (roamed, ONE, TWO)
    later = EndpointChooser()
    later.handle_memory({BOB: chooser.memory(BOB, roamed)})
    assert later.choose(BOB, nothing(), 0.0) == roamed
