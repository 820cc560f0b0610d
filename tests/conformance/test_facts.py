"""Rule 1 of the seam (docs/engine.md): facts, not timers."""

from __future__ import annotations

from tests.conformance.bench import Bench, MemoryBench
from tests.conformance.samples import IN, OUT
from wgpy.protocol.actions import Fact, Work


async def test_a_fact_is_reported_once_per_watch(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    bench.session(peer)
    bench.engine.watch(peer, Fact.DATA_SENT)
    await bench.host_sends(OUT)
    assert await bench.work(peer) & Work.FACT
    await bench.host_sends(OUT, OUT)
    assert not await bench.work(peer) & Work.FACT


async def test_watch_reports_at_once_a_fact_that_is_already_there(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer)
    await bench.host_sends(OUT)
    await bench.arrives(far.seal(IN))
    await bench.events()
    for fact in (Fact.DATA_SENT, Fact.DATA_RECEIVED):
        bench.engine.watch(peer, fact)
        reported = bool(await bench.work(peer) & Work.FACT)
        assert reported == (fact is Fact.DATA_RECEIVED), (
            "data received is an authenticated packet: it clears sent"
        )


async def test_authenticated_received_is_reported_only_for_what_comes_after_the_watch(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer)
    await bench.arrives(far.seal(b""))
    bench.engine.watch(peer, Fact.AUTHENTICATED_RECEIVED)
    assert not await bench.work(peer) & Work.FACT
    await bench.arrives(far.seal(b""))
    assert await bench.work(peer) & Work.FACT


async def test_a_watch_of_nothing_ends_the_watch(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    bench.session(peer)
    bench.engine.watch(peer, Fact.DATA_SENT)
    bench.engine.watch(peer, Fact(0))
    await bench.host_sends(OUT)
    assert not await bench.work(peer) & Work.FACT


async def test_keepalives_are_authenticated_but_no_data(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer)  # which sends a keepalive
    await bench.arrives(far.seal(b""))
    facts = bench.engine.facts(peer)
    assert facts.data_sent_first is None
    assert facts.data_received_first is None
    assert facts.authenticated_sent_last is not None
    assert facts.authenticated_received_last is not None


def test_facts_hold_the_first_instant_and_are_cleared_by_the_other_direction(memory: MemoryBench) -> None:
    peer = memory.peer("10.0.0.2/32")
    far = memory.session(peer)

    def data() -> tuple[float | None, float | None, float | None]:
        facts = memory.engine.facts(peer)
        return facts.data_sent_first, facts.data_received_first, facts.data_received_last

    memory.now = 1001.0
    memory.give(OUT)
    memory.now = 1002.0
    memory.give(OUT)
    assert data() == (1001.0, None, None)
    memory.now = 1003.0
    memory.receive(far.seal(IN), memory.origin())
    memory.now = 1004.0
    memory.receive(far.seal(IN), memory.origin())
    assert data() == (None, 1003.0, 1004.0)
    memory.engine.send_keepalive(peer)
    assert data() == (None, None, None)
