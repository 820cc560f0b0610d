"""The first line of defence in Python and in Rust: the same judgement, whatever comes and whenever."""

from __future__ import annotations

import random
import struct
from ipaddress import ip_address

import pytest

from wgpy import _engine
from wgpy.engine.defence import Defence, FirstDefence
from wgpy.protocol import cookie

PUBLIC, PREVIOUS = bytes(range(32)), bytes(range(32, 64))
SOURCES = [ip_address(text).packed for text in ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2")]


class Visitor:
    """One who makes messages from one address, with the cookies that one defence gave."""

    def __init__(self, defence: Defence, public: bytes, source: bytes, port: int) -> None:
        self.defence = defence
        self.source = source
        self.port = port
        self.generator = cookie.CookieGenerator(public)

    def knock(self, body: bytes, spoiled: bool, depth: int, now: float) -> str:
        message = self.generator.add_macs(body, now)
        if spoiled:
            message = message[:-20] + bytes([message[-20] ^ 1]) + message[-19:]
        verdict = self.defence.judge(message, self.source, self.port, depth, now)
        if isinstance(verdict, bytes):
            assert len(verdict) == 64
            assert self.generator.consume_reply(verdict, now)
            return "cookie"
        return verdict or "passed"


@pytest.mark.parametrize("seed", range(5))
def test_both_judge_alike(seed: int) -> None:
    rng = random.Random(seed)
    defences: tuple[Defence, Defence] = (FirstDefence(random.Random(seed)), _engine.FirstDefence())
    seen = set()
    places = [(key, source, port) for key in (PUBLIC, PREVIOUS) for source in SOURCES for port in (1, 65535)]
    visitors = [[Visitor(defence, *place) for defence in defences] for place in places]
    now = 1000.0
    for turn in range(3000):
        if turn % 1000 == 0:
            for defence in defences:
                is_known = turn != 1000 or seed % 2 == 0
                keys = (cookie.mac1_key(PUBLIC), cookie.cookie_key(PUBLIC)) if is_known else (None, None)
                defence.set_identity(*keys)
                is_kept = turn != 2000
                kept = (cookie.mac1_key(PREVIOUS), cookie.cookie_key(PREVIOUS)) if is_kept else (None, None)
                defence.set_previous_identity(*kept)
        # Eighths of a second: floats and nanoseconds mean the same instants.
        now += rng.choice([0, 0, 0, 0, 0, 0.125, 0.125, 1, 2]) if rng.random() < 0.2 else 0
        now += 121 if rng.random() < 0.001 else 0
        kind, size = rng.choice([(1, 116), (1, 116), (2, 60)])
        body = struct.pack("<II", kind, rng.getrandbits(32)) + rng.randbytes(size - 8)
        spoiled, depth = rng.random() < 0.1, rng.choice([0, 0, 0, 511, 512, 4095])
        verdicts = [visitor.knock(body, spoiled, depth, now) for visitor in rng.choice(visitors)]
        assert verdicts[0] == verdicts[1], turn
        seen.add(verdicts[0])
    assert seen == {"passed", "cookie", "rate limited", "invalid mac1"}


def test_keys_of_another_size_are_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="32"):
        _engine.FirstDefence().set_identity(bytes(31), bytes(32))
