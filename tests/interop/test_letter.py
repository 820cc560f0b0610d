"""What can be seen from outside of WireGuard's rules, with real sockets, real TUN devices and `wg`.

         one (initiator)                          two (responder)
    10.77.0.1, fd77::1  wg0 --- eth0 --- internet --- eth0  wg0  10.77.0.2, fd77::2

Each engine is an end in turn; the other is the distribution's wireguard-go, or the same engine.
"""

from __future__ import annotations

import base64
import ipaddress
import itertools
import sys
from collections.abc import Iterator

import pytest

from tests.interop.tunnel import PORT, WIREGUARD_GO, End, Family, Implementation, Keys, Tunnel, run_wg
from tests.interop.wire import Wire
from tests.netns.hosts import Host, Internet, Lab
from tests.netns.processes import HostFailure, wait_until
from wgpy.engine import ENGINES

pytestmark = [pytest.mark.root, pytest.mark.slow]

OURS = [
    Implementation(f"wgpy-{engine}", ("wgpy-device", "--foreground"), (f"WGPY_ENGINE={engine}",))
    for engine in ENGINES
]
PAIRS = [pair for ours in OURS for pair in ((ours, WIREGUARD_GO), (WIREGUARD_GO, ours), (ours, ours))]
LOW_ORDER = [
    bytes(32),
    bytes([1]) + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]
"""The points that make every product with them zero."""

_SEND = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
sock = socket.socket(family, socket.SOCK_DGRAM)
# IP_RECVERR, IPV6_RECVERR: a host that is unreachable may be only for now, and is told to who asks.
sock.setsockopt(*((socket.IPPROTO_IPV6, 25) if family == socket.AF_INET6 else (socket.IPPROTO_IP, 11)), 1)
sock.settimeout(10)
sock.connect((sys.argv[1], 9))
try:
    sock.send(b"anyone there?")
    sock.recv(1)
except OSError as error:
    print(error.errno)
"""
_UAPI = """
import socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect("/run/wireguard/wg0.sock")
sock.sendall(sys.stdin.buffer.read())
sock.shutdown(socket.SHUT_WR)
print(sock.makefile().read(), end="")
"""
EHOSTUNREACH = "113\n"

_numbers = itertools.count()


@pytest.fixture(scope="module")
def internet() -> Iterator[Internet]:
    with Lab("letter") as lab:
        yield Internet(lab)


@pytest.fixture(params=OURS, ids=str)
def ours(request: pytest.FixtureRequest) -> Implementation:
    implementation: Implementation = request.param
    return implementation


def connect(
    internet: Internet, initiator: Implementation, responder: Implementation, *, outer: Family = "v4"
) -> tuple[End, End]:
    tunnel = Tunnel(internet, f"letter{next(_numbers)}", initiator, responder, outer=outer)
    return tunnel.initiator, tunnel.responder


def has_error(host: Host, destination: str) -> bool:
    """A program that sends there is told that nobody is."""
    return host.run(sys.executable, "-c", _SEND, destination).stdout == EHOSTUNREACH


def uapi(end: End, request: str) -> str:
    return end.host.run(sys.executable, "-c", _UAPI, input=request).stdout


@pytest.mark.parametrize(("initiator", "responder"), PAIRS, ids=str)
def test_ten_pings_count_1372_octets_one_way_and_1428_or_1460_the_other(
    internet: Internet, initiator: Implementation, responder: Implementation
) -> None:
    one, two = connect(internet, initiator, responder)
    assert one.ping(two, count=10)
    received, sent = one.transfer
    assert (received, sent) in {(1372, 1428), (1372, 1460)}
    assert two.transfer == (sent, received)


@pytest.mark.parametrize("outer", ["v4", "v6"])
def test_packets_are_padded_to_16_but_not_past_the_interfaces_mtu_and_may_be_fragmented(
    internet: Internet, ours: Implementation, outer: Family
) -> None:
    one, two = connect(internet, ours, WIREGUARD_GO, outer=outer)
    wire = Wire(one.host)

    def data_sent() -> list[int]:
        return [seen.size for seen in wire.messages() if seen.outgoing and seen.kind == 4]

    def sends(packet: int) -> int:
        """The size of the message that carries an IPv4 packet of this size."""
        before = len(data_sent())
        one.host.run("ping", "-c1", "-W5", f"-s{packet - 28}", two.inner["v4"])
        # The echo may be back before the listener has written what it saw.
        wait_until(lambda: len(data_sent()) > before, f"a packet of {packet} octets is seen on the wire")
        return data_sent()[before]

    assert one.ping(two)
    wait_until(data_sent, "the first packet is seen on the wire")
    assert [sends(size) for size in (81, 96, 97, 1409, 1419, 1420)] == [128, 128, 144, 1452, 1452, 1452]
    assert not any(seen.dont_fragment for seen in wire.messages() if seen.outgoing)
    one.host.ip("link set wg0 mtu 1299")
    # The far end's stays: the echo comes back whole.
    wait_until(lambda: sends(1298) == 1299 + 32, "the new MTU is followed")
    wire.stop()


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_a_program_that_sends_to_nobody_is_told_so(
    internet: Internet, ours: Implementation, family: Family
) -> None:
    one, two = connect(internet, ours, ours)
    inner = Wire(one.host, "wg0")
    stranger = {"v4": "10.77.0.99", "v6": "fd77::99"}[family]
    assert has_error(one.host, stranger)
    # Two knows one but has not heard from it: it has no endpoint.
    assert has_error(two.host, one.inner[family])
    # From the very address that was sent to: from one's own a host would not believe it.
    inner.wait_for(
        lambda seen: (
            {packet.destination for packet in seen if packet.source == stranger and not packet.outgoing}
            == {one.inner[family]}
        ),
        "the error",
    )
    inner.stop()


@pytest.mark.parametrize("outer", ["v4", "v6"])
def test_handshakes_are_urgent_and_data_carries_only_congestion(
    internet: Internet, ours: Implementation, outer: Family
) -> None:
    one, two = connect(internet, ours, ours, outer=outer)
    wire = Wire(one.host)
    tos = {0xB8: 0, 0xB9: 1, 0xBA: 2, 0xBB: 2}
    for inner in tos:
        one.host.run("ping", "-c1", "-W5", "-Q", str(inner), two.inner["v4"])
    wire.wait_for(lambda seen: sum(each.outgoing and each.kind == 4 for each in seen) >= 4, "four echoes")
    messages = wire.messages()
    assert {seen.tos for seen in messages if seen.kind in (1, 2)} == {0x88}
    assert [seen.tos for seen in messages if seen.outgoing and seen.kind == 4] == list(tos.values())
    wire.stop()


def test_congestion_on_the_way_reaches_packets_that_understand_it_and_harms_no_other(
    internet: Internet, ours: Implementation
) -> None:
    one, two = connect(internet, ours, ours)
    assert one.ping(two)
    two.host.run("nft", "add table ip letter")
    two.host.run("nft", "add chain ip letter in { type filter hook prerouting priority -300 ; }")
    two.host.run("nft", f"add rule ip letter in udp dport {PORT} ip ecn set ce")
    inner = Wire(two.host, "wg0")
    for tos in (0, 1, 2, 3):
        one.host.run("ping", "-c1", "-W5", "-Q", str(tos), two.inner["v4"])

    def heard() -> list[int]:
        return [seen.tos for seen in inner.seen() if not seen.outgoing and seen.source == one.inner["v4"]]

    wait_until(lambda: len(heard()) == 4, "all four arrive")
    assert heard() == [0, 3, 3, 3]
    inner.stop()


def second_addresses(internet: Internet, end: End) -> dict[Family, str]:
    """Give the host another address of each family; the endpoints there."""
    number = int(str(end.host.ipv4).rpartition(".")[2]) + 100
    v4, v6 = internet.addresses(number)
    end.host.ip(f"address add {v4} dev eth0", f"address add {v6} dev eth0 nodad preferred_lft 0")
    return {
        "v4": f"{ipaddress.ip_interface(v4).ip}:{PORT}",
        "v6": f"[{ipaddress.ip_interface(v6).ip}]:{PORT}",
    }


@pytest.mark.parametrize("outer", ["v4", "v6"])
def test_replies_come_from_the_address_that_was_asked_until_there_is_a_reason_to_forget_it(
    internet: Internet, ours: Implementation, outer: Family
) -> None:
    one, two = connect(internet, WIREGUARD_GO, ours, outer=outer)
    first, second = two.outer(outer), second_addresses(internet, two)[outer]

    def ask_second() -> None:
        one.wg("set", "wg0", "peer", two.keys.public, "endpoint", second)
        assert one.ping(two)
        assert two.ping(one)
        assert one.endpoint == second

    def answers_from(endpoint: str) -> None:
        assert two.ping(one)
        assert one.endpoint == endpoint

    ask_second()
    two.wg("set", "wg0", "fwmark", "77")
    answers_from(first)
    ask_second()
    two.wg("set", "wg0", "peer", one.keys.public, "endpoint", one.outer(outer))
    answers_from(first)
    ask_second()
    two.wg("set", "wg0", "listen-port", "4000")
    answers_from(first.replace(str(PORT), "4000"))
    two.wg("set", "wg0", "listen-port", str(PORT))
    ask_second()
    address = one.host.ipv4 if outer == "v4" else one.host.ipv6
    metric = itertools.count(1)

    def is_forgotten() -> bool:
        return two.ping(one) and one.endpoint == first

    def another_route_makes_it_forget() -> bool:
        # An answer that is under way to the old address just then is heard there, and kept: next try.
        two.host.ip(f"route add {address} dev eth0 metric {next(metric)}")
        return is_forgotten()

    wait_until(another_route_makes_it_forget, "the route's change is noticed", interval=1.5)
    ask_second()
    length = 24 if outer == "v4" else 64
    two.host.ip(f"address del {second.rpartition(':')[0].strip('[]')}/{length} dev eth0")
    wait_until(is_forgotten, "an address that is gone is not sent from", timeout=5)


def test_a_new_private_key_under_traffic_is_a_new_session_at_once(
    internet: Internet, ours: Implementation
) -> None:
    one, two = connect(internet, ours, WIREGUARD_GO)
    assert one.ping(two)
    ping = one.host.start("ping", "-i0.1", two.inner["v4"], log="under-traffic")
    ping.wait_text("icmp_seq=5 ")
    fresh = Keys.generate()
    allowed = ["allowed-ips", f"{one.inner['v4']}/32,{one.inner['v6']}/128"]
    two.wg("set", "wg0", "peer", fresh.public, *allowed)
    one.wg("set", "wg0", "private-key", "/dev/stdin", input=fresh.private)
    assert one.wg("show", "wg0", "public-key") == fresh.public
    wait_until(
        lambda: f"{fresh.public}\t0" not in two.wg("show", "wg0", "latest-handshakes"),
        "a handshake by the new key",
    )
    echoes = ping.text().count("time=")
    ping.wait_for(lambda text: text.count("time=") >= echoes + 5, "echoes with the new key")
    # The same again is no change: nothing more is sent for it.
    before = set(two.wg("show", "wg0", "latest-handshakes").splitlines())
    one.wg("set", "wg0", "private-key", "/dev/stdin", input=fresh.private)
    assert one.ping(two, count=3)
    assert set(two.wg("show", "wg0", "latest-handshakes").splitlines()) == before
    ping.kill()


def test_our_own_key_is_no_peer(internet: Internet, ours: Implementation) -> None:
    one, two = connect(internet, ours, ours)
    one.wg("set", "wg0", "peer", one.keys.public, "allowed-ips", f"{two.inner['v4']}/32")
    assert one.wg("show", "wg0", "peers") == two.keys.public
    assert one.ping(two)
    one.wg("set", "wg0", "private-key", "/dev/stdin", input=two.keys.private)
    assert one.wg("show", "wg0", "peers") == ""


def test_a_peer_of_low_order_never_gets_a_packet(internet: Internet, ours: Implementation) -> None:
    one, two = connect(internet, ours, ours)
    for number, point in enumerate(LOW_ORDER):
        key = base64.b64encode(point).decode()
        allowed, endpoint = f"10.78.0.{number}/32", f"{two.host.ipv4}:{PORT}"
        answer = uapi(
            one,
            f"set=1\npublic_key={point.hex()}\nallowed_ip={allowed}\nendpoint={endpoint}\n"
            "persistent_keepalive_interval=1\n\n",
        )
        assert answer == "errno=0\n\n"
        assert key in one.wg("show", "wg0", "peers")
    one.host.ip("route add 10.78.0.0/24 dev wg0")
    before = one.host.run("wg", "show", "wg0", "transfer").stdout
    for number in range(len(LOW_ORDER)):
        one.host.run("ping", "-c1", "-W1", f"10.78.0.{number}", check=False)
    assert one.host.run("wg", "show", "wg0", "transfer").stdout == before
    assert one.datagrams_sent() == 0
    assert one.ping(two)


def test_an_allowed_ip_moves_and_is_taken_away(internet: Internet, ours: Implementation) -> None:
    one, two = connect(internet, ours, WIREGUARD_GO)
    assert one.ping(two)
    address = two.inner["v4"]
    stranger = run_wg("pubkey", input=run_wg("genkey"))

    def owners() -> dict[str, list[str]]:
        return {
            words[0]: sorted(words[1:])
            for words in map(str.split, one.wg("show", "wg0", "allowed-ips").splitlines())
        }

    # Host bits are masked, and a prefix has one owner.
    one.wg("set", "wg0", "peer", stranger, "allowed-ips", f"{address}/32,10.79.3.4/16,0.0.0.0/0,::/0")
    assert owners() == {
        two.keys.public: ["fd77::2/128"],
        stranger: ["0.0.0.0/0", "10.77.0.2/32", "10.79.0.0/16", "::/0"],
    }
    assert has_error(one.host, address)
    assert one.ping(two, "v6")
    uapi(one, f"set=1\npublic_key={base64.b64decode(two.keys.public).hex()}\nallowed_ip={address}/32\n\n")
    assert one.ping(two)
    # Only its owner can lose it.
    for key, left in ((stranger, True), (two.keys.public, False)):
        public = base64.b64decode(key).hex()
        assert uapi(one, f"set=1\npublic_key={public}\nallowed_ip=-{address}/32\n\n") == "errno=0\n\n"
        assert ("10.77.0.2/32" in owners()[two.keys.public]) is left
    # What is left for it is the stranger's default route, who is nowhere.
    assert has_error(one.host, address)
    assert one.ping(two, "v6")


def test_a_packet_from_another_peers_address_is_refused_but_moves_the_endpoint(
    internet: Internet, ours: Implementation
) -> None:
    one, two = connect(internet, WIREGUARD_GO, ours)
    assert one.ping(two)
    stranger = run_wg("pubkey", input=run_wg("genkey"))
    two.wg("set", "wg0", "peer", one.keys.public, "allowed-ips", "10.77.0.0/24")
    assert one.ping(two)
    two.wg("set", "wg0", "peer", stranger, "allowed-ips", f"{one.inner['v4']}/32")
    one.wg("set", "wg0", "listen-port", "9997")
    assert not one.ping(two, timeout=1)

    def endpoint() -> str:
        lines = [line.split() for line in two.wg("show", "wg0", "endpoints").splitlines()]
        return dict(lines)[one.keys.public]  # type: ignore[no-any-return]

    assert endpoint() == f"{one.host.ipv4}:9997"


_THROW = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
sock = socket.socket(family, socket.SOCK_DGRAM)
for first in (b"", b"\\1\\0\\0\\0", b"\\2\\0\\0\\0", b"\\3\\0\\0\\0", b"\\4\\0\\0\\0", b"\\5\\0\\0\\0"):
    for size in (0, 1, 31, 32, 148, 1472, 9000, 65507):
        sock.sendto((first + bytes(size))[:size], (sys.argv[1], int(sys.argv[2])))
"""


@pytest.mark.parametrize("outer", ["v4", "v6"])
def test_datagrams_of_any_size_do_not_stop_reception(
    internet: Internet, ours: Implementation, outer: Family
) -> None:
    one, two = connect(internet, ours, ours, outer=outer)
    assert one.ping(two)
    stranger = internet.host(f"thrower{next(_numbers)}")
    address = str(two.host.ipv4 if outer == "v4" else two.host.ipv6)
    for _ in range(3):
        stranger.run(sys.executable, "-c", _THROW, address, str(PORT))
        assert one.ping(two)
        assert two.ping(one)
    assert two.device.tail() == ""


def test_a_device_that_does_not_exist_is_an_error_of_wg(internet: Internet, ours: Implementation) -> None:
    one, _ = connect(internet, ours, ours)
    with pytest.raises(HostFailure):
        one.wg("show", "doesnotexist")
