"""The interface's text: what each line means, which errno each mistake gets, and that nothing gets lost."""

from __future__ import annotations

import contextlib
import errno
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.addresses import Endpoint, Prefix
from wgpy.keys import PresharedKey, PrivateKey, PublicKey
from wgpy.uapi.messages import (
    AddAllowedIp,
    DeviceReport,
    Operation,
    PeerReport,
    RemoveAllowedIp,
    RemovePeer,
    ReplaceAllowedIps,
    ReplacePeers,
    SelectPeer,
    SetEndpoint,
    SetFwmark,
    SetListenPort,
    SetParser,
    SetPersistentKeepalive,
    SetPresharedKey,
    SetPrivateKey,
    SetProtocolVersion,
    UapiError,
    UpdateOnly,
    encode_set,
    encode_status,
    get_lines,
    parse_get,
)

A = "a8" + "11" * 30 + "7f"
B = "b0" + "22" * 30 + "42"


def zone_index(name: str) -> int:
    if name != "eth0":
        raise OSError(19, "No such device")
    return 3


def parse(text: str) -> list[Operation]:
    parser = SetParser(zone_index)
    return [parser.parse_line(line) for line in text.splitlines()]


def test_the_specifications_own_example_is_read_as_it_means() -> None:
    text = f"""private_key={A}
fwmark=0
listen_port=12912
replace_peers=true
public_key={B}
preshared_key={A}
endpoint=[abcd:23::33%2]:51820
replace_allowed_ips=true
allowed_ip=192.168.4.4/32
public_key={A}
update_only=true
endpoint=182.122.22.19:3233
persistent_keepalive_interval=111
allowed_ip=192.168.4.6/32
public_key={B}
remove=true
"""
    assert parse(text) == [
        SetPrivateKey(PrivateKey.from_hex(A)),
        SetFwmark(0),
        SetListenPort(12912),
        ReplacePeers(),
        SelectPeer(PublicKey.from_hex(B)),
        SetPresharedKey(PresharedKey.from_hex(A)),
        SetEndpoint(Endpoint(IPv6Address("abcd:23::33"), 51820, 2)),
        ReplaceAllowedIps(),
        AddAllowedIp(IPv4Network("192.168.4.4/32")),
        SelectPeer(PublicKey.from_hex(A)),
        UpdateOnly(),
        SetEndpoint(Endpoint(IPv4Address("182.122.22.19"), 3233)),
        SetPersistentKeepalive(111),
        AddAllowedIp(IPv4Network("192.168.4.6/32")),
        SelectPeer(PublicKey.from_hex(B)),
        RemovePeer(),
    ]


@pytest.mark.parametrize(
    ("line", "operation"),
    [
        ("private_key=" + "0" * 64, SetPrivateKey(None)),
        ("listen_port=0", SetListenPort(0)),
        ("listen_port=65535", SetListenPort(65535)),
        ("listen_port=000051820", SetListenPort(51820)),
        ("fwmark=4294967295", SetFwmark(0xFFFFFFFF)),
    ],
)
def test_a_device_line_is_read(line: str, operation: Operation) -> None:
    assert parse(line) == [operation]


@pytest.mark.parametrize(
    ("line", "operation"),
    [
        ("allowed_ip=0.0.0.0/0", AddAllowedIp(ip_network("0.0.0.0/0"))),
        ("allowed_ip=::/0", AddAllowedIp(ip_network("::/0"))),
        ("allowed_ip=10.1.2.3/8", AddAllowedIp(ip_network("10.0.0.0/8"))),
        ("allowed_ip=-fd00::1/64", RemoveAllowedIp(ip_network("fd00::/64"))),
        ("endpoint=[fe80::1%eth0]:9", SetEndpoint(Endpoint(IPv6Address("fe80::1"), 9, 3))),
        ("endpoint=[::ffff:192.0.2.1]:9", SetEndpoint(Endpoint(IPv4Address("192.0.2.1"), 9))),
        ("persistent_keepalive_interval=65535", SetPersistentKeepalive(65535)),
        ("persistent_keepalive_interval=0", SetPersistentKeepalive(0)),
        ("preshared_key=" + "0" * 64, SetPresharedKey(PresharedKey.zero())),
        ("preshared_key=" + A.upper(), SetPresharedKey(PresharedKey.from_hex(A))),
        ("protocol_version=1", SetProtocolVersion()),
    ],
)
def test_a_peer_line_is_read(line: str, operation: Operation) -> None:
    assert parse(f"public_key={B}\n{line}")[1:] == [operation]


DEVICE_ERRORS = [
    ("nonsense", errno.EPROTO),
    (" ", errno.EPROTO),
    ("private_key", errno.EPROTO),
    ("=", errno.EINVAL),
    ("=true", errno.EINVAL),
    ("unknown=1", errno.EINVAL),
    ("Listen_port=1", errno.EINVAL),
    ("listen_port =1", errno.EINVAL),
    ("get=1", errno.EINVAL),
    ("set=1", errno.EINVAL),
    ("endpoint=192.0.2.1:1", errno.EINVAL),
    ("private_key=", errno.EINVAL),
    ("private_key=" + A[:-1], errno.EINVAL),
    ("private_key=" + A + "0", errno.EINVAL),
    ("private_key=" + A[:-1] + "g", errno.EINVAL),
    ("private_key=" + A[:-2] + "  ", errno.EINVAL),
    ("private_key=" + A + "\r", errno.EINVAL),
    ("listen_port=", errno.EINVAL),
    ("listen_port=65536", errno.EINVAL),
    ("listen_port=-1", errno.EINVAL),
    ("listen_port=+1", errno.EINVAL),
    ("listen_port= 1", errno.EINVAL),
    ("listen_port=1_0", errno.EINVAL),
    ("listen_port=0x10", errno.EINVAL),
    ("listen_port=١", errno.EINVAL),
    ("listen_port=" + "9" * 4000, errno.EINVAL),
    ("fwmark=4294967296", errno.EINVAL),
    ("fwmark=0x10", errno.EINVAL),
    ("fwmark=", errno.EINVAL),
    ("replace_peers=false", errno.EINVAL),
    ("replace_peers=1", errno.EINVAL),
    ("replace_peers=", errno.EINVAL),
    ("public_key=", errno.EINVAL),
    ("public_key=" + A[:-1], errno.EINVAL),
    ("public_key=" + "é" * 64, errno.EINVAL),
]

PEER_ERRORS = [
    ("nonsense", errno.EPROTO),
    ("unknown=1", errno.EINVAL),
    ("private_key=" + A, errno.EINVAL),
    ("listen_port=1", errno.EINVAL),
    ("replace_peers=true", errno.EINVAL),
    ("update_only=false", errno.EINVAL),
    ("remove=yes", errno.EINVAL),
    ("replace_allowed_ips=false", errno.EINVAL),
    ("protocol_version=2", errno.EINVAL),
    ("protocol_version=", errno.EINVAL),
    ("preshared_key=" + A[:-1], errno.EINVAL),
    ("persistent_keepalive_interval=65536", errno.EINVAL),
    ("persistent_keepalive_interval=off", errno.EINVAL),
    ("persistent_keepalive_interval=-1", errno.EINVAL),
    ("endpoint=", errno.EINVAL),
    ("endpoint=example.com:51820", errno.EINVAL),
    ("endpoint=192.0.2.1", errno.EINVAL),
    ("endpoint=192.0.2.1:0", errno.EINVAL),
    ("endpoint=192.0.2.1:65536", errno.EINVAL),
    ("endpoint=2001:db8::1:51820", errno.EINVAL),
    ("endpoint=[192.0.2.1]:51820", errno.EINVAL),
    ("endpoint=[fe80::1%nothere]:51820", errno.EINVAL),
    ("endpoint=[fe80::1%]:51820", errno.EINVAL),
    ("endpoint=[fe80::1%eth0]", errno.EINVAL),
    ("allowed_ip=", errno.EINVAL),
    ("allowed_ip=-", errno.EINVAL),
    ("allowed_ip=10.0.0.1", errno.EINVAL),
    ("allowed_ip=10.0.0.0/33", errno.EINVAL),
    ("allowed_ip=10.0.0.0/-1", errno.EINVAL),
    ("allowed_ip=10.0.0.0/255.0.0.0", errno.EINVAL),
    ("allowed_ip=10.0.0/8", errno.EINVAL),
    ("allowed_ip=fd00::/129", errno.EINVAL),
    ("allowed_ip=fe80::1%eth0/64", errno.EINVAL),
    ("allowed_ip=--10.0.0.0/8", errno.EINVAL),
]


@pytest.mark.parametrize(("line", "number"), DEVICE_ERRORS)
def test_a_mistake_in_a_device_line_has_its_errno(line: str, number: int) -> None:
    with pytest.raises(UapiError) as caught:
        SetParser(zone_index).parse_line(line)
    assert caught.value.errno == number
    assert A not in str(caught.value)


@pytest.mark.parametrize(("line", "number"), PEER_ERRORS)
def test_a_mistake_in_a_peer_line_has_its_errno(line: str, number: int) -> None:
    parser = SetParser(zone_index)
    parser.parse_line(f"public_key={B}")
    with pytest.raises(UapiError) as caught:
        parser.parse_line(line)
    assert caught.value.errno == number
    assert A not in str(caught.value)


def test_errors_are_negative_in_a_reply_and_success_is_zero() -> None:
    assert encode_status(0) == b"errno=0\n\n"
    assert encode_status(errno.EINVAL) == b"errno=-22\n\n"
    assert len(encode_status(errno.EADDRINUSE)) <= 32


def test_a_get_reply_has_every_line_in_the_order_of_the_specification() -> None:
    peer = PeerReport(
        public_key=PublicKey.from_hex(B),
        preshared_key=PresharedKey.zero(),
        endpoint=Endpoint(IPv6Address("2001:db8::1"), 51820),
        last_handshake_ns=1_700_000_000_000_000_007,
        rx_bytes=2224,
        tx_bytes=38333,
        persistent_keepalive=25,
        allowed_ips=[IPv4Network("10.0.0.0/24"), IPv6Network("::/0")],
    )
    report = DeviceReport(PrivateKey.from_hex(A), 12912, 51820, [peer])
    private = PrivateKey.from_hex(A).to_hex()
    assert "\n".join(get_lines(report)) == (
        f"private_key={private}\nlisten_port=12912\nfwmark=51820\npublic_key={B}\n"
        f"preshared_key={'0' * 64}\nprotocol_version=1\nendpoint=[2001:db8::1]:51820\n"
        "last_handshake_time_sec=1700000000\nlast_handshake_time_nsec=7\ntx_bytes=38333\nrx_bytes=2224\n"
        "persistent_keepalive_interval=25\nallowed_ip=10.0.0.0/24\nallowed_ip=::/0"
    )


def test_what_is_not_set_has_no_line() -> None:
    assert list(get_lines(DeviceReport(None, 0, 0, []))) == []
    peer = PeerReport(PublicKey.from_hex(B), PresharedKey.zero(), None, 0, 0, 0, 0, [])
    lines = list(get_lines(DeviceReport(None, 0, 0, [peer])))
    assert not [line for line in lines if line.startswith("endpoint")]
    assert "last_handshake_time_sec=0" in lines
    assert "last_handshake_time_nsec=0" in lines


def test_a_reply_with_keys_we_do_not_know_is_read_all_the_same() -> None:
    reply = f"jc=4\nlisten_port=7\npublic_key={B}\ndaita=1\ntx_bytes=5\nerrno=0\n\n"
    report = parse_get(reply, zone_index)
    assert (report.listen_port, report.peers[0].tx_bytes, report.private_key) == (7, 5, None)


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("errno=-22\n\n", errno.EINVAL),
        ("errno=1\n\n", errno.EPERM),
        ("listen_port=x\n", errno.EPROTO),
        ("public_key=zz\n", errno.EPROTO),
        (f"public_key={B}\nallowed_ip=x\n", errno.EPROTO),
        (f"public_key={B}\nendpoint=x\n", errno.EPROTO),
    ],
)
def test_a_reply_that_is_an_error_or_makes_no_sense_raises(reply: str, number: int) -> None:
    with pytest.raises(UapiError) as caught:
        parse_get(reply, zone_index)
    assert caught.value.errno == number


keys = st.binary(min_size=32, max_size=32)
addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6).filter(lambda a: a.ipv4_mapped is None))
endpoints = st.builds(Endpoint, addresses, st.integers(1, 65535))


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    address = draw(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
    return ip_network((address, draw(st.integers(0, address.max_prefixlen))), strict=False)


device_operations = st.one_of(
    st.builds(SetPrivateKey, st.one_of(st.none(), keys.filter(any).map(PrivateKey))),
    st.builds(SetListenPort, st.integers(0, 65535)),
    st.builds(SetFwmark, st.integers(0, 0xFFFFFFFF)),
    st.builds(ReplacePeers),
)
peer_operations = st.one_of(
    st.builds(SelectPeer, keys.map(PublicKey)),
    st.builds(UpdateOnly),
    st.builds(RemovePeer),
    st.builds(SetPresharedKey, keys.map(PresharedKey)),
    st.builds(SetEndpoint, endpoints),
    st.builds(SetPersistentKeepalive, st.integers(0, 65535)),
    st.builds(ReplaceAllowedIps),
    st.builds(AddAllowedIp, prefixes()),
    st.builds(RemoveAllowedIp, prefixes()),
    st.builds(SetProtocolVersion),
)


@given(st.lists(device_operations), keys, st.lists(peer_operations))
def test_operations_survive_being_written_and_read(
    device: list[Operation], peer: bytes, about: list[Operation]
) -> None:
    operations = [*device, SelectPeer(PublicKey(peer)), *about]
    text = encode_set(operations).decode()
    assert text.startswith("set=1\n")
    assert text.endswith("\n\n")
    assert parse(text[len("set=1\n") : -1]) == operations


peer_reports = st.builds(
    PeerReport,
    public_key=keys.map(PublicKey),
    preshared_key=keys.map(PresharedKey),
    endpoint=st.one_of(st.none(), endpoints),
    last_handshake_ns=st.integers(0, 2**63),
    rx_bytes=st.integers(0, 2**64),
    tx_bytes=st.integers(0, 2**64),
    persistent_keepalive=st.integers(0, 65535),
    allowed_ips=st.lists(prefixes()),
)


@given(
    st.builds(
        DeviceReport,
        private_key=st.one_of(st.none(), keys.filter(any).map(PrivateKey)),
        listen_port=st.integers(0, 65535),
        fwmark=st.integers(0, 0xFFFFFFFF),
        peers=st.lists(peer_reports, max_size=4),
    )
)
def test_a_report_survives_being_written_and_read(report: DeviceReport) -> None:
    reply = "".join(f"{line}\n" for line in get_lines(report)) + "errno=0\n\n"
    assert parse_get(reply, zone_index) == report


@given(st.lists(st.text(st.characters(blacklist_characters="\n")), max_size=5))
def test_no_text_makes_the_parser_raise_anything_but_its_error(lines: list[str]) -> None:
    parser = SetParser(zone_index)
    for line in [*lines, f"public_key={B}", *lines]:
        with contextlib.suppress(UapiError):
            parser.parse_line(line)


@given(
    st.sampled_from(["endpoint", "allowed_ip", "preshared_key", "persistent_keepalive_interval"]),
    st.text(st.sampled_from("0123456789abcdef.:%[]/-"), max_size=50),
)
def test_no_value_makes_the_parser_raise_anything_but_its_error(key: str, value: str) -> None:
    parser = SetParser(zone_index)
    parser.parse_line(f"public_key={B}")
    with contextlib.suppress(UapiError):
        parser.parse_line(f"{key}={value}")
