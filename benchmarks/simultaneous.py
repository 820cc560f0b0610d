"""How long until both ends have an answer, when both begin in the same instant? Three rules for the retry.

In the simulator (`tests/simulation`), so the seconds are virtual and every run gives the same figures. Two
plain devices send a packet each at once, over a link with a millisecond of jitter, and answer what arrives.
`kernel` drops a retry that the gate refuses, `opening` puts it off to the gate's opening at both ends,
`wgpy` is what we do.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from benchmarks.machine import commit
from tests.simulation.test_simultaneous import first_replies
from tests.simulation.world import World
from wgpy.protocol.constants import MAX_TIMER_HANDSHAKES
from wgpy.protocol.timers import Timer, Timers, after_gate_deadline

DELAYS_MS = (10, 50, 100, 150, 200, 300)
SEEDS = 100
WITHIN = 60.0
RESULT = Path(__file__).with_name("results") / "simultaneous.json"


class OpeningTimers(Timers):
    """Both ends retry at the instant at which the gate opens."""

    def handshake_responded(self, sent_last: float | None, gives_way: bool, now: float) -> None:
        self._handshake_sent(sent_last, now)

    def wait_for_gate(self, gives_way: bool) -> None:
        super().wait_for_gate(False)


class KernelTimers(OpeningTimers):
    """A retry that the gate refuses is the last; a first request that it refuses is forgotten."""

    def retransmit_handshake_expired(self, now: float) -> bool | None:
        del self._at[Timer.RETRANSMIT_HANDSHAKE]
        if self.attempts > MAX_TIMER_HANDSHAKES:
            return False
        self.attempts += 1
        sent_at = self.handshake_sent_at
        return True if sent_at is None or now >= after_gate_deadline(sent_at, False) else None

    def wait_for_gate(self, gives_way: bool) -> None:
        pass


PAIRS: dict[str, tuple[type[Timers], type[Timers]]] = {
    "kernel": (KernelTimers, KernelTimers),
    "opening": (OpeningTimers, OpeningTimers),
    "wgpy": (Timers, Timers),
    "wgpy (smaller key) and kernel": (Timers, KernelTimers),
    "kernel (smaller key) and wgpy": (KernelTimers, Timers),
}


def measure(rules: tuple[type[Timers], type[Timers]], delay: float, seed: int) -> float | None:
    """Seconds, None: not within a minute. The rules are those of the smaller and of the larger static key."""
    world = World(seed=seed, delay=delay)
    world.link.jitter = 0.001
    alice, bob = world.add_pair()
    smaller, larger = sorted((alice, bob), key=lambda host: bytes(host.public_key))
    smaller.peer(larger).timers = rules[0](smaller.rng)
    larger.peer(smaller).timers = rules[1](larger.rng)
    alice.send(bob, b"ping")
    bob.send(alice, b"ping")
    try:
        return first_replies(world, alice, bob, within=WITHIN)
    except AssertionError:
        return None


def main() -> None:
    rows = []
    print(f"{'rules':32} {'one way':>8} {'median':>8} {'p90':>8} {'never':>6}")
    for name, rules in PAIRS.items():
        for delay_ms in DELAYS_MS:
            samples = [measure(rules, delay_ms / 1000, seed) for seed in range(SEEDS)]
            took = sorted(WITHIN if sample is None else sample for sample in samples)
            never = samples.count(None)
            median, p90 = statistics.median(took), took[SEEDS * 9 // 10 - 1]
            print(f"{name:32} {delay_ms:5} ms {median:6.2f} s {p90:6.2f} s {never:6}")
            rows.append(
                {"rules": name, "one_way_ms": delay_ms, "median_s": round(median, 3), "p90_s": round(p90, 3)}
                | {"never_within_60_s": never, "runs": SEEDS}
            )
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"commit": commit(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
