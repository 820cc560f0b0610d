"""A relay with its thread and sockets: sessions, data, removal, draining; what strangers get out of it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import pytest
import trio

from tests.mesh.examples import NETWORK_ID, identity_key, machine_key, node_id, seed
from wgpy.errors import ConfigError, HostError
from wgpy.mesh import relay, stun
from wgpy.mesh.receipt import Receipt, ReceiptKey
from wgpy.mesh.relay_link import KEPT_OUT_WAIT, LinkState, RelayLink
from wgpy.mesh.relay_ticket import sign_ticket
from wgpy.mesh.relay_token import RelayToken
from wgpy.mesh.signing import RelayKey
from wgpy.relay.admission import Node
from wgpy.relay.server import RelayServer, Settings

pytestmark = pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="the forwarder is Linux's")

KEY = RelayKey(seed("relay"))
MESSAGE = b"\4\0\0\0" + bytes(range(60))
"""As long as WireGuard's; what is in it is not the relay's to know."""


@dataclass
class Server:
    server: RelayServer
    address: tuple[str, int]
    sockets: list[trio.socket.SocketType]

    async def socket(self) -> trio.socket.SocketType:
        """One more, closed at the end."""
        made = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sockets.append(made)
        await made.bind(("127.0.0.1", 0))
        return made


@asynccontextmanager
async def running(settings: Settings | None = None) -> AsyncIterator[Server]:
    # Nobody listens there: a relay honours tickets all the same.
    token = RelayToken(identity_key().public_key(), KEY, ("https://127.0.0.1:9",))
    server = RelayServer(token, settings or Settings(0))
    made = Server(server, ("127.0.0.1", server.port), [])
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            yield made
            nursery.cancel_scope.cancel()
    finally:
        server.close()
        for each in made.sockets:
            each.close()


class Client:
    """A node: its link, and a socket in place of its engine."""

    def __init__(self, number: int, server: Server, network: str = NETWORK_ID) -> None:
        self.number, self.server, self.network = number, server, network
        self.socket: trio.socket.SocketType
        self.link = RelayLink(KEY.public_key().id, KEY.public_key(), machine_key(number), os.urandom)
        self.got: list[bytes] = []

    async def connect(self) -> None:
        self.socket = await self.server.socket()
        ticket = sign_ticket(
            identity_key(),
            network=self.network,
            node=node_id(self.number),
            machine_key=machine_key(self.number).public_key(),
            relay=KEY.public_key().id,
            not_after=int(time.time()) + 1000,
        )
        self.link.start(ticket, time.monotonic())
        await self.wait(lambda: self.link.state in (LinkState.UP, LinkState.REFUSED))

    async def wait(self, is_so: object, seconds: float = 5.0) -> None:
        """Exchange datagrams until it is so."""
        assert callable(is_so)
        with trio.fail_after(seconds):
            while True:
                outbox, self.link.outbox = self.link.outbox, []
                for data in outbox:
                    await self.socket.sendto(data, self.server.address)
                if is_so():
                    return
                data, _ = await self.socket.recvfrom(4096)
                self.got.append(data)
                self.link.handle_datagram(data, time.monotonic())

    async def send(self, other: int, message: bytes = MESSAGE) -> None:
        assert self.link.session is not None
        header = relay.encode_data_header(self.link.session, relay.relay_id_of(node_id(other)))
        await self.socket.sendto(header + message, self.server.address)

    async def wait_message(self) -> bytes:
        self.got.clear()
        await self.wait(lambda: any(data[1] == relay.Kind.DATA for data in self.got))
        return next(data for data in self.got if data[1] == relay.Kind.DATA)


async def test_two_nodes_of_one_network_exchange_messages_and_a_third_network_hears_nothing() -> None:
    async with running() as server:
        one, two, stranger = Client(1, server), Client(2, server), Client(3, server, network=node_id(99))
        for client in (one, two, stranger):
            await client.connect()
        await one.send(2)
        data = await two.wait_message()
        assert two.link.session is not None
        sender = relay.relay_id_of(node_id(1))
        assert data == relay.encode_data_header(two.link.session, sender) + MESSAGE
        await stranger.send(2)
        await two.send(1)
        await one.wait_message()
        counts = server.server.counts()
        assert (counts["forwarded"], counts["no such receiver"], counts["sessions"]) == (2, 1, 3)


async def test_the_newest_proven_connection_of_a_node_wins() -> None:
    async with running() as server:
        old, new, other = Client(1, server), Client(1, server), Client(2, server)
        for client in (old, other, new):
            await client.connect()
        await other.send(1)
        await new.wait_message()
        old.got.clear()
        await old.send(2)
        await old.wait(lambda: old.got)
        assert old.got[0][1] == relay.Kind.NOTICE


async def test_a_removed_node_loses_its_session_and_is_let_in_no_more() -> None:
    async with running() as server:
        one, two = Client(1, server), Client(2, server)
        await one.connect()
        await two.connect()
        server.server.forget([Node(NETWORK_ID, node_id(1))])
        assert server.server.counts()["sessions"] == 1
        await one.send(2)
        await one.wait(lambda: one.link.state is LinkState.REFUSED)
        assert one.link.reason == "the node was removed"


async def test_a_node_that_is_kept_out_loses_its_session_and_has_one_again_once_it_may() -> None:
    async with running() as server:
        one, two = Client(1, server), Client(2, server)
        await one.connect()
        await two.connect()
        server.server.keep_out([Node(NETWORK_ID, node_id(1)), Node(NETWORK_ID, node_id(7))])
        assert server.server.counts()["sessions"] == 1
        await one.send(2)
        await one.wait(lambda: one.link.state is LinkState.REFUSED)
        assert one.link.reason == "the node is disabled, or its time is over"
        assert one.link.next_deadline() == pytest.approx(time.monotonic() + KEPT_OUT_WAIT, abs=1.0)
        await two.send(1)
        server.server.keep_out([Node(NETWORK_ID, node_id(7))])
        deadline = one.link.next_deadline()
        assert deadline is not None
        one.link.handle_timeout(deadline)
        await one.wait(lambda: one.link.state is LinkState.UP)
        await two.send(1)
        await one.wait_message()
        assert server.server.counts()["forwarded"] == 1


async def test_a_session_follows_its_node_to_another_port() -> None:
    async with running() as server:
        one, two = Client(1, server), Client(2, server)
        await one.connect()
        await two.connect()
        one.socket = await server.socket()
        await one.send(2)  # is answered by a notice, which moves the session
        port = one.socket.getsockname()[1]
        await one.wait(lambda: one.link.observed is not None and one.link.observed.port == port)
        await two.send(1)
        await one.wait_message()


async def test_a_draining_relay_tells_its_nodes_and_forwards_until_they_are_gone() -> None:
    async with running() as server:
        one, two = Client(1, server), Client(2, server)
        await one.connect()
        await two.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.server.drain)
            await one.wait(lambda: one.link.is_draining)
            await one.send(2)
            await two.wait_message()
        assert server.server.counts()["forwarded"] == 1


async def test_room_for_so_many_and_no_more() -> None:
    async with running(Settings(0, most_sessions=2)) as server:
        clients = [Client(number, server) for number in (1, 2, 3)]
        for client in clients:
            await client.connect()
        assert [client.link.state for client in clients] == [LinkState.UP, LinkState.UP, LinkState.REFUSED]
        assert clients[2].link.reason == "the relay has no room for another node"


# --- no weapon ---


@contextmanager
def victim() -> Iterator[socket.socket]:
    """Whose address an attacker writes on what it sends: here it is simply the sending socket's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(0.2)
        yield sock


def octets_got(sock: socket.socket) -> int:
    total = 0
    while True:
        try:
            total += len(sock.recv(65536))
        except TimeoutError:
            return total


async def test_no_datagram_makes_a_relay_send_more_to_anyone_than_it_got_in_his_name() -> None:
    """What somebody can send without having received anything at the address, and what a member can."""
    async with running() as server:
        member = Client(1, server)
        await member.connect()
        session, key = member.link.session, member.link._key
        assert session is not None
        assert key is not None
        shots = {
            "HELLO": relay.encode_hello(bytes(16)),
            "REGISTER": relay.encode_register(
                relay.Register(bytes(16), bytes(16), relay.PublicKey(bytes(32)), bytes(153), bytes(64))
            ),
            "KEEPALIVE of nobody": relay.encode_keepalive(session ^ 1 << 50, 1, key),
            "KEEPALIVE of the member": relay.encode_keepalive(session, 1 << 40, key),
            "DATA of nobody": relay.encode_data_header(5, 6) + bytes(32),
            "DATA of the member": relay.encode_data_header(session, 6) + bytes(32),
            "STUN": stun.encode_binding_request(bytes(12)),
            "STUN for a receipt": stun.encode_binding_request(bytes(12), bytes(8)),
            "STUN, short": bytes.fromhex("000100002112a442") + bytes(12),
            "short DATA": relay.encode_data_header(5, 6),
            "nonsense": bytes(200),
        }
        ratios = {}
        for name, shot in shots.items():
            with victim() as sock:
                for _ in range(20):
                    sock.sendto(shot, server.address)
                ratios[name] = await trio.to_thread.run_sync(octets_got, sock) / (20 * len(shot))
        print(ratios)
        assert max(ratios.values()) < 1, ratios
        # And the member's session is where it was.
        other = Client(2, server)
        await other.connect()
        await other.send(1)
        await member.wait_message()


async def test_a_relay_gives_receipts_that_its_coordinator_takes() -> None:
    async with running() as server:
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            await sock.bind(("127.0.0.1", 0))
            await sock.sendto(stun.encode_binding_request(bytes(12), b"8 octets"), server.address)
            with trio.fail_after(5):
                data, _ = await sock.recvfrom(4096)
    answer = stun.parse_binding_answer_untrusted(data)
    assert answer is not None
    receipt = Receipt(answer.mapped.address, answer.receipt)
    assert str(receipt.address) == "127.0.0.1"
    assert ReceiptKey.of_relay(KEY).verify(receipt, b"8 octets", time.time())
    assert not ReceiptKey.of_relay(KEY).verify(receipt, b"another.", time.time())


def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", 0))
        token = RelayToken(identity_key().public_key(), KEY, ("https://127.0.0.1:9",))
        with pytest.raises(HostError, match="cannot listen on UDP port"):
            RelayServer(token, Settings(sock.getsockname()[1]))


def test_the_relay_key_is_read_back_and_what_is_none_is_refused_without_repeating_it() -> None:
    token = RelayToken(identity_key().public_key(), KEY, ("https://coordinator.example",), pinned=False)
    read = RelayToken.decode(token.encode() + "\n")
    assert (read.identity, bytes(read.key), read.urls, read.pinned) == (
        token.identity,
        bytes(KEY),
        token.urls,
        False,
    )
    assert token.encode()[20:40] not in repr(token)
    for text in ("wgpy1_abc", token.encode()[:-3], token.encode()[:30] + "A" + token.encode()[31:]):
        with pytest.raises(ConfigError) as caught:
            RelayToken.decode(text)
        assert text not in str(caught.value)
