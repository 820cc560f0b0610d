"""PCP and NAT-PMP against a router made of the RFCs' layouts: RFC 6887 §11, RFC 6886 §3."""

from __future__ import annotations

import itertools
import struct
from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from wgpy.mesh.portmap import ABSENT_INTERVAL, LIFETIME, PortMapper

OWN = IPv4Address("192.168.1.11")
OUTSIDE = IPv4Address("203.0.113.5")


class Router:
    """Speaks PCP, NAT-PMP or neither. `shift`: the port outside is that much larger."""

    def __init__(self, *, pcp: bool = True, pmp: bool = True, shift: int = 0, lifetime: int = 3600) -> None:
        self.pcp, self.pmp, self.shift, self.lifetime = pcp, pmp, shift, lifetime
        self.result = 0
        self.rebooted_at = 0.0
        self.lifetimes: list[int] = []

    def answer(self, request: bytes, now: float) -> list[bytes]:
        epoch = int(now - self.rebooted_at)
        if request[0] == 2:
            if not self.pcp:
                return [struct.pack("!BBHI", 0, 0x80 | request[1], 1, epoch)] if self.pmp else []
            lifetime, nonce, protocol, port = struct.unpack("!4xI16x12sB3xH", request[:42])
            self.lifetimes.append(lifetime)
            granted = min(lifetime, self.lifetime)
            head = struct.pack("!BBBBII12x", 2, 0x81, 0, self.result, granted, epoch)
            outside = bytes(10) + b"\xff\xff" + OUTSIDE.packed
            return [head + struct.pack("!12sB3xHH16s", nonce, protocol, port, port + self.shift, outside)]
        if not self.pmp:
            return []
        if request[1] == 0:
            return [struct.pack("!BBHI4s", 0, 128, 0, epoch, OUTSIDE.packed)]
        port, _, lifetime = struct.unpack("!4xHHI", request)
        self.lifetimes.append(lifetime)
        granted = min(lifetime, self.lifetime)
        return [struct.pack("!BBHIHHI", 0, 129, self.result, epoch, port, port + self.shift, granted)]


class World:
    def __init__(self, router: Router) -> None:
        counter = itertools.count(1)
        self.router, self.now, self.sent = router, 1000.0, 0
        self.mapper = PortMapper(lambda: next(counter).to_bytes(12, "big"))
        self.mapper.begin(OWN, 4000, self.now)
        self.exchange()

    def exchange(self) -> None:
        while self.mapper.requests:
            self.sent += 1
            for data in self.router.answer(self.mapper.requests.pop(0), self.now):
                self.mapper.handle_answer_untrusted(data, self.now)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (at := self.mapper.next_deadline()) is not None and at <= end:
            self.now = max(self.now, at)
            self.mapper.handle_timeout(self.now)
            self.exchange()
        self.now = end

    def external(self) -> tuple[str, str] | None:
        mapping = self.mapper.mapping
        return None if mapping is None else (mapping.method, str(mapping.external))


def test_pcp_maps_a_port_and_renews_it_at_half_its_life() -> None:
    world = World(Router(shift=7))
    assert world.external() == ("PCP", "203.0.113.5:4007")
    assert world.router.lifetimes == [LIFETIME]
    world.run(3600 * 10)
    assert world.external() == ("PCP", "203.0.113.5:4007")
    assert 20 <= len(world.router.lifetimes) <= 22


def test_a_router_that_knows_nat_pmp_alone_is_asked_that_way_at_once() -> None:
    world = World(Router(pcp=False))
    assert world.external() == ("NAT-PMP", "203.0.113.5:4000")
    world.run(3600 * 10)
    assert world.external() == ("NAT-PMP", "203.0.113.5:4000")


def test_a_silent_router_is_given_up_within_three_seconds_and_asked_again_ten_minutes_later() -> None:
    world = World(Router(pcp=False, pmp=False))
    assert world.mapper.is_asking
    world.run(3.0)
    assert not world.mapper.is_asking
    sent = world.sent
    world.run(ABSENT_INTERVAL - 10)
    assert world.sent == sent
    world.router.pcp = True
    world.run(20.0)
    assert world.external() == ("PCP", "203.0.113.5:4000")


def test_a_refusal_is_not_argued_with() -> None:
    router = Router()
    router.result = 2
    world = World(router)
    assert world.external() is None
    assert world.sent == 1
    assert not world.mapper.is_asking


def test_giving_back_asks_for_a_life_of_zero() -> None:
    for router in (Router(), Router(pcp=False)):
        world = World(router)
        request = world.mapper.release()
        assert request is not None
        router.answer(request, world.now)
        assert router.lifetimes[-1] == 0
        assert world.mapper.release() is None
        assert world.mapper.next_deadline() is None


def test_a_router_that_is_away_for_a_while_keeps_the_mapping_until_it_is_over() -> None:
    world = World(Router())
    world.router.pcp = world.router.pmp = False
    world.run(3500.0)
    assert world.external() is not None
    world.run(200.0)
    assert world.external() is None
    world.router.pcp = True
    world.run(ABSENT_INTERVAL)
    assert world.external() is not None


def test_short_lives_do_not_make_a_flood() -> None:
    world = World(Router(lifetime=1))
    sent = world.sent
    world.run(600.0)
    assert world.sent - sent <= 3 * 600 / 30


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_whatever_comes_from_the_network_nothing_is_raised_and_no_mapping_is_made_up(
    answers: list[bytes],
) -> None:
    world = World(Router(pcp=False, pmp=False))
    for data in answers:
        world.mapper.handle_answer_untrusted(data, world.now)
        world.run(0.1)
    mapping = world.mapper.mapping
    assert mapping is None or mapping.external.port > 0


def test_an_answer_with_another_nonce_counts_for_nothing() -> None:
    world = World(Router(pcp=False, pmp=False))
    forged = struct.pack("!BBBBII12x", 2, 0x81, 0, 0, 600, 5)
    forged += struct.pack("!12sB3xHH16s", bytes(12), 17, 4000, 4000, bytes(10) + b"\xff\xff" + OUTSIDE.packed)
    assert not world.mapper.handle_answer_untrusted(forged, world.now)
    assert world.external() is None
