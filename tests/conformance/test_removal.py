"""Rule 5 of the seam (docs/engine.md): removal, reuse of indices, change of identity."""

from __future__ import annotations

from ipaddress import ip_network

from tests.conformance.bench import Bench, MemoryBench, sent_to
from tests.conformance.samples import IN, OUT, initiation
from wgpy.protocol import cookie
from wgpy.protocol.actions import Fact, Work


async def test_a_removed_peer_is_gone_at_once(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer)
    await bench.departed()
    bench.engine.remove_peer(peer)
    await bench.arrives(far.seal(IN))
    await bench.host_sends(OUT)
    assert sent_to(await bench.departed(), far) == []
    assert IN not in await bench.host_got()
    assert bench.engine.allowed_ips(peer) == []
    assert bench.engine.facts(peer).authenticated_sent_last is None
    assert all(each.peer != peer for each in bench.engine.snapshot())


async def test_commands_for_a_dead_peer_are_ignored_and_ids_never_recur(bench: Bench) -> None:
    dead = bench.peer("10.0.0.2/32")
    bench.engine.remove_peer(dead)
    bench.engine.remove_peer(dead)
    bench.engine.add_allowed_ips(dead, [ip_network("10.0.0.2/32")])
    bench.engine.set_endpoint(dead, bench.sender())
    bench.engine.watch(dead, Fact.DATA_SENT)
    bench.engine.send_keepalive(dead)
    bench.engine.wipe_keypairs(dead)
    assert not bench.engine.send_handshake(dead, bytes(148))
    assert bench.engine.allowed_ips(dead) == []
    assert bench.peer("10.0.0.2/32") != dead
    assert await bench.departed() == []


async def test_work_of_a_removed_peer_is_not_reported(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    await bench.host_sends(OUT)
    bench.engine.remove_peer(peer)
    assert not await bench.work(peer)


async def test_an_index_is_not_reused_while_anything_holds_it() -> None:
    bench = MemoryBench()
    numbers = iter([1, 1, 2, 1, 2, 1, 1])
    bench.rng.randbytes = lambda n: next(numbers).to_bytes(n, "little")  # type: ignore[method-assign]
    peer = bench.peer("10.0.0.2/32")
    assert bench.engine.reserve_index(peer) == 1
    assert bench.engine.reserve_index(peer) == 2
    bench.engine.begin_session(
        peer,
        local_index=1,
        remote_index=77,
        is_initiator=True,
        chaining_key=bytes(32),
        created_at=bench.now,
        response=None,
    )
    bench.engine.release_index(1)  # a session's: stays
    bench.engine.release_index(2)
    assert bench.engine.reserve_index(peer) == 2, "1 is the session's"
    bench.engine.wipe_keypairs(peer)
    assert bench.engine.reserve_index(peer) == 1


async def test_indices_of_keypairs_that_fell_out_are_free_and_their_messages_dropped(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer)
    bench.engine.wipe_keypairs(peer)
    before = bench.drops()
    await bench.arrives(far.seal(IN))
    assert bench.drops() == before + 1
    assert await bench.host_got() == []


async def test_keys_that_fell_out_are_overwritten_even_if_someone_still_holds_the_object() -> None:
    memory = MemoryBench()  # the native engine gives none out
    peer = memory.peer("10.0.0.2/32")
    held = [memory.portable._sessions[memory.session(peer).engine_index] for _ in range(3)]
    assert [each.seal(b"", 1420, memory.now) is None for each in held] == [True, False, False]
    memory.engine.wipe_keypairs(peer)
    assert [each.seal(b"", 1420, memory.now) for each in held] == [None] * 3


async def test_expired_keypairs_receive_but_do_not_send(bench: Bench) -> None:
    peer = bench.peer("10.0.0.2/32")
    far = bench.session(peer)
    await bench.departed()
    bench.engine.expire_keypairs(peer)
    await bench.host_sends(OUT)
    assert await bench.departed() == []
    assert await bench.work(peer) & Work.NEED_KEY
    await bench.arrives(far.seal(IN))
    assert await bench.host_got() == [IN]


async def test_a_change_of_identity_drops_the_messages_that_wait(memory: MemoryBench) -> None:
    memory.identify()
    old = memory.add_macs(initiation())
    await memory.arrives(old)
    memory.engine.set_identity(cookie.mac1_key(bytes(32)), cookie.cookie_key(bytes(32)))
    await memory.arrives(old)
    assert await memory.handshakes() == []
