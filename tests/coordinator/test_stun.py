"""STUN beside the API, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections.abc import Iterator

import pytest

from coordinator.listen import ListenAddress, open_listener
from coordinator.stun import AT_ONCE, StunServer, open_stun_sockets
from wgpy.addresses import Endpoint
from wgpy.mesh.receipt import Receipt, ReceiptKey
from wgpy.mesh.stun import BindingAnswer, encode_binding_request, parse_binding_answer_untrusted

TRANSACTION = bytes(range(12))
RECEIPTS = ReceiptKey(bytes(range(32)))


async def ask(
    port: int, data: bytes, *, host: str = "127.0.0.1", timeout: float = 5.0
) -> tuple[bytes, int] | None:
    """What came back, and the port that asked."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as client:
        client.bind((host, 0))
        await loop.sock_sendto(client, data, (host, port))
        try:
            received = await asyncio.wait_for(loop.sock_recv(client, 2048), timeout)
        except TimeoutError:
            return None
        return received, client.getsockname()[1]


@contextlib.contextmanager
def opened(listen: str = "127.0.0.1:0") -> Iterator[list[socket.socket]]:
    listener, _ = open_listener(ListenAddress.parse(listen))
    with contextlib.closing(listener):
        yield open_stun_sockets(listener)


@pytest.mark.parametrize(
    ("listen", "host"), [("127.0.0.1:0", "127.0.0.1"), (":0", "127.0.0.1"), (":0", "::1")]
)
def test_both_ports_say_where_a_request_came_from_and_name_each_other(listen: str, host: str) -> None:
    async def scene(sockets: list[socket.socket]) -> None:
        ports = [one.getsockname()[1] for one in sockets]
        assert ports[1] == ports[0] + 1
        with contextlib.closing(StunServer(sockets, RECEIPTS)):
            for port, other in (ports, reversed(ports)):
                answered = await ask(port, encode_binding_request(TRANSACTION), host=host)
                assert answered is not None
                address = ipaddress.ip_address(host)
                assert parse_binding_answer_untrusted(answered[0]) == BindingAnswer(
                    TRANSACTION, Endpoint(address, answered[1]), Endpoint(address, other)
                )

    with opened(listen) as sockets:
        asyncio.run(scene(sockets))


def test_what_is_no_request_or_shorter_than_its_answer_is_not_answered() -> None:
    short = encode_binding_request(TRANSACTION)[:2] + bytes(2) + encode_binding_request(TRANSACTION)[4:20]

    async def scene(sockets: list[socket.socket]) -> None:
        port = sockets[0].getsockname()[1]
        with contextlib.closing(StunServer(sockets, RECEIPTS)):
            for data in (b"", b"\x04" * 32, bytes(1500), short):
                assert await ask(port, data, timeout=0.1) is None
            assert await ask(port, encode_binding_request(TRANSACTION)) is not None

    with opened() as sockets:
        asyncio.run(scene(sockets))


def test_a_flood_leaves_the_event_loop_to_others_and_ends_with_answers() -> None:
    async def scene(sockets: list[socket.socket]) -> None:
        port = sockets[0].getsockname()[1]
        with (
            contextlib.closing(StunServer(sockets, RECEIPTS)),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flooder,
        ):
            for _ in range(10 * AT_ONCE):
                flooder.sendto(bytes(100), ("127.0.0.1", port))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert await ask(port, encode_binding_request(TRANSACTION)) is not None

    with opened() as sockets:
        asyncio.run(scene(sockets))


def test_a_port_that_is_taken_is_said_and_leaves_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    listener, _ = open_listener(ListenAddress.parse("127.0.0.1:0"))
    port = listener.getsockname()[1]
    with listener, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as squatter:
        squatter.bind(("127.0.0.1", port + 1))
        sockets = open_stun_sockets(listener)
        assert [one.getsockname()[1] for one in sockets] == [port]
        assert f"no STUN at UDP port {port + 1}" in caplog.text

        async def scene() -> None:
            with contextlib.closing(StunServer(sockets, RECEIPTS)):
                answered = await ask(port, encode_binding_request(TRANSACTION))
                assert answered is not None
                answer = parse_binding_answer_untrusted(answered[0])
                assert answer is not None
                assert answer.other is None

        asyncio.run(scene())


def test_who_names_himself_gets_a_receipt_for_where_he_is() -> None:
    async def scene(sockets: list[socket.socket]) -> bytes:
        with contextlib.closing(StunServer(sockets, RECEIPTS)):
            answered = await ask(
                sockets[0].getsockname()[1], encode_binding_request(TRANSACTION, b"8 octets")
            )
        assert answered is not None
        return answered[0]

    with opened() as sockets:
        answer = parse_binding_answer_untrusted(asyncio.run(scene(sockets)))
    assert answer is not None
    receipt = Receipt(answer.mapped.address, answer.receipt)
    assert RECEIPTS.verify(receipt, b"8 octets", time.time())
    assert not RECEIPTS.verify(receipt, b"another.", time.time())
