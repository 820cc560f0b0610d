"""Whatever bytes and text come from strangers, files and programs: the parsers' own error, or a value.

A few hundred examples of each with every test run, a hundred thousand with `make soak`.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.mesh.messages import all_frames, all_messages
from wgpy import _engine
from wgpy.addresses import Endpoint, PackedPrefixes, parse_interface_address, parse_prefix
from wgpy.config import encode_config, parse_config
from wgpy.errors import ConfigError, InvalidMessage
from wgpy.mesh import wire
from wgpy.mesh.encoding import MalformedMessage, decode_json, encode_json
from wgpy.mesh.frames import decode_frame
from wgpy.mesh.token import Token
from wgpy.netlink.codec import Message, parse_attributes, parse_messages
from wgpy.protocol import messages
from wgpy.protocol.cookie import CookieChecker
from wgpy.uapi.messages import SetParser, UapiError, encode_set, parse_get

FEW, MANY = 300, 100_000
CORPORA = Path(__file__).with_name("corpora")
"""Inputs by reader, which `fuzz_readers.py` has found: each reaches something that the others do not."""

_WORDS = st.sampled_from([
    "[Interface]", "[Peer]", "PrivateKey", "ListenPort", "FwMark", "Address", "MTU", "DNS", "Table", "PreUp",
    "SaveConfig", "PublicKey", "PresharedKey", "AllowedIPs", "Endpoint", "PersistentKeepalive", "=", " ", "#",
    ",", "\n", "0", "1", "-1", "65536", "0x", "off", "true", "10.0.0.0/8", "fd00::/8", "1.2.3.4:5", "[::1]:1",
    "host.example:51820", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "\0", "\u0661", "%", "/", ":",
    "[", "]", "public_key=", "private_key=", "preshared_key=", "endpoint=", "allowed_ip=", "-", "errno=",
    "00" * 32, "persistent_keepalive_interval=", "replace_peers=", "listen_port=", "fwmark=",
    "last_handshake_time_sec=",
])  # fmt: skip
TEXTS = st.text(max_size=60) | st.lists(_WORDS | st.text(max_size=3), max_size=40).map("".join)
_SIZES = st.sampled_from([0, 1, 3, 4, 16, 31, 32, 63, 64, 65, 91, 92, 93, 147, 148, 149, 1500])
DATAGRAMS = st.binary(max_size=200) | st.builds(
    lambda kind, reserved, size, fill: (bytes([kind]) + reserved + fill * size)[:size],
    st.integers(0, 255),
    st.sampled_from([bytes(3), b"\1\0\0", b"\0\0\1"]),
    _SIZES,
    st.binary(min_size=1, max_size=8),
)

_WIRE = [encode_json(each.to_json()) for each in (*all_messages(), *all_frames())]
WIRE = st.binary(max_size=200) | st.builds(
    lambda whole, at, cut, other: whole[: at % len(whole)] + other + whole[at % len(whole) + cut :],
    st.sampled_from(_WIRE), st.integers(0, 1 << 16), st.integers(0, 40),
    st.binary(max_size=8)
    | st.sampled_from([b"null", b"-1", b"1e999", b'""', b"[]", b"{}", b'"\\ud800"', b"[[[["]),
)  # fmt: skip
_SESSION = _engine.Session(bytes(32), True, 1, 2, 1, 0.0)
_FAR = _engine.Session(bytes(32), False, 2, 1, 1, 0.0)
_SEALED = [_FAR.seal(bytes(size), 1420, 0.0) or b"" for size in (0, 1, 100)]
BATCHES = st.lists(DATAGRAMS | st.sampled_from(_SEALED), max_size=5).map(b"".join)


def no_zone(name: str) -> int:
    raise OSError(f"no interface {name}")


def check(holds: bool) -> None:
    """Of an error that was expected."""
    assert holds


def read_datagram(data: bytes) -> None:
    for parse in (
        messages.message_type_untrusted,
        messages.parse_initiation_untrusted,
        messages.parse_response_untrusted,
        messages.parse_cookie_reply_untrusted,
        messages.parse_transport_header_untrusted,
    ):
        with contextlib.suppress(InvalidMessage):
            parse(data)


def read_configuration(text: str) -> None:
    try:
        config = parse_config(text, "fuzz.conf")
    except ConfigError as error:
        check(len(str(error).splitlines()) == 1)
        return
    assert parse_config(encode_config(config), "again.conf") == config


def read_request(text: str) -> None:
    parser = SetParser(no_zone)
    for line in text.split("\n"):
        try:
            operation = parser.parse_line(line)
        except UapiError as error:
            check(error.errno > 0)
        else:
            assert encode_set([operation]).startswith(b"set=1\n")


def read_reply(text: str) -> None:
    try:
        parse_get(text, no_zone)
    except UapiError as error:
        check(error.errno > 0)


def read_addresses(text: str) -> None:
    for parse in (Endpoint.parse, parse_interface_address):
        with contextlib.suppress(ConfigError):
            parse(text)
    try:
        prefix = parse_prefix(text)
    except ConfigError:
        return
    [again] = PackedPrefixes.of([prefix]).texts()
    assert parse_prefix(again) == prefix


def read_netlink(data: bytes) -> None:
    for message in parse_messages(data):
        assert isinstance(message, Message)
        parse_attributes(message.body)


def read_wire(data: bytes) -> None:
    for message in {type(each) for each in all_messages()}:
        with contextlib.suppress(MalformedMessage):
            message.from_json(decode_json(data, wire.MAX_BODY_SIZE))
    with contextlib.suppress(MalformedMessage):
        decode_frame(data)


def read_token(text: str) -> None:
    with contextlib.suppress(ConfigError):
        Token.decode(text)


def read_batch(data: bytes) -> None:
    """What the binding is given by one receive, whatever sizes it is told, and by one read of a TUN."""
    for size in {1, 31, 32, 48, 132, 148, len(data) or 1}:
        for vnet_hdr in (False, True):
            _, others, unknown = _engine.open_datagrams(
                data, len(data), size, {1: _SESSION}, _engine.AllowedIps(), 1.0, tos=3, vnet_hdr=vnet_hdr
            )
            assert 0 <= unknown <= len(data) // size + 1
            assert all(0 <= start < end <= len(data) for start, end in others)
    packets = _engine.split_superpacket(data)
    assert sum(map(len, _engine.coalesce(packets))) >= sum(map(len, packets)) - 60 * len(packets)
    _FAR.seal_packets([data], 1420, 1.0, vnet_hdr=True)
    _engine.looped_receiver_index(data, 51820, vnet_hdr=True)


READERS: list[tuple[Callable[..., None], st.SearchStrategy[object]]] = [
    (read_datagram, DATAGRAMS),
    (read_configuration, TEXTS),
    (read_request, TEXTS),
    (read_reply, TEXTS),
    (read_addresses, TEXTS),
    (read_netlink, DATAGRAMS),
    (read_wire, WIRE),
    (read_token, TEXTS),
    (read_batch, BATCHES),
]


def run(reader: Callable[..., None], strategy: st.SearchStrategy[object], examples: int) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(strategy)
    def read(value: object) -> None:
        reader(value)

    read()


@pytest.mark.parametrize(("reader", "strategy"), READERS, ids=[reader.__name__ for reader, _ in READERS])
def test_no_input_raises_anything_but_the_parsers_error(
    reader: Callable[..., None], strategy: st.SearchStrategy[object]
) -> None:
    run(reader, strategy, FEW)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("reader", "strategy"), READERS, ids=[reader.__name__ for reader, _ in READERS])
def test_no_input_of_a_hundred_thousand_raises_anything_else(
    reader: Callable[..., None], strategy: st.SearchStrategy[object]
) -> None:
    run(reader, strategy, MANY)


TAKES_TEXT = {reader for reader, strategy in READERS if strategy is TEXTS}


def read_octets(reader: Callable[..., None], data: bytes) -> None:
    """As a fuzzer gives it."""
    reader(data.decode(errors="replace") if reader in TAKES_TEXT else data)


@pytest.mark.parametrize("reader", [reader for reader, _ in READERS], ids=lambda reader: reader.__name__)
def test_what_a_fuzzer_found_worth_keeping_raises_nothing_else(reader: Callable[..., None]) -> None:
    kept = sorted((CORPORA / reader.__name__).iterdir())
    assert len(kept) >= 5
    for path in kept:
        read_octets(reader, path.read_bytes())


@settings(deadline=None)
@given(DATAGRAMS)
def test_a_cookie_checker_takes_any_handshake_message(data: bytes) -> None:
    checker = CookieChecker(random.Random(1))
    checker.set_identity(bytes(32), bytes(32))
    if len(data) in (messages.INITIATION_SIZE, messages.RESPONSE_SIZE):
        checker.check(data, bytes(6), 0.0)
