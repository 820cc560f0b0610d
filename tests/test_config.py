"""wg-quick's file: what each line means, where and how a mistake is told, and that writing loses nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.addresses import Endpoint, Prefix
from wgpy.config import NamedEndpoint, PeerConfig, TunnelConfig, encode_config, parse_config
from wgpy.errors import ConfigError
from wgpy.keys import PresharedKey, PrivateKey, PublicKey

KEY = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
PEER = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="

FULL = f"""
# at home
[Interface]
Address = 10.192.122.1/24, 10.10.0.1/16
address = fd00::1/64
SaveConfig = true
PrivateKey = {KEY} # ours
ListenPort = 51820
FwMark = 0xca6c
DNS = 1.1.1.1, 2606:4700:4700::1111, example.com
MTU=1380
Table = 1234
PreUp = echo one
PostUp = ip rule add ipproto tcp dport 22 table 1234; echo a = b
PostUp = second
PreDown = echo three
PostDown = echo four

[Peer]
PublicKey = {PEER}
PresharedKey = {KEY}
Endpoint = 192.95.5.67:1234
AllowedIPs = 10.192.122.3/32, 10.192.124.1/24
AllowedIPs = fd01::/48
PersistentKeepalive = 25

[PEER]
PUBLICKEY = {KEY}
Endpoint = vpn.example.com:51820
AllowedIPs =
PersistentKeepalive = off
"""


def test_every_key_is_read() -> None:
    assert parse_config(FULL, "x") == TunnelConfig(
        private_key=PrivateKey.from_base64(KEY),
        listen_port=51820,
        fwmark=0xCA6C,
        addresses=[ip_interface("10.192.122.1/24"), ip_interface("10.10.0.1/16"), ip_interface("fd00::1/64")],
        dns=[ip_address("1.1.1.1"), ip_address("2606:4700:4700::1111"), "example.com"],
        mtu=1380,
        table=1234,
        pre_up=["echo one"],
        post_up=["ip rule add ipproto tcp dport 22 table 1234; echo a = b", "second"],
        pre_down=["echo three"],
        post_down=["echo four"],
        save_config=True,
        peers=[
            PeerConfig(
                PublicKey.from_base64(PEER),
                PresharedKey.from_base64(KEY),
                Endpoint(ip_address("192.95.5.67"), 1234),
                25,
                [ip_network("10.192.122.3/32"), ip_network("10.192.124.0/24"), ip_network("fd01::/48")],
            ),
            PeerConfig(PublicKey.from_base64(KEY), endpoint=NamedEndpoint("vpn.example.com", 51820)),
        ],
    )


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm() -> None:
    assert parse_config("\ufeff" + FULL.lstrip().replace("\n", "\r\n"), "x") == parse_config(FULL, "x")


def test_an_empty_file_is_an_interface_without_anything() -> None:
    assert parse_config("", "x") == TunnelConfig()


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("[2001:db8::1]:51820", Endpoint(ip_address("2001:db8::1"), 51820)),
        ("[fe80::1%3]:51820", Endpoint(ip_address("fe80::1"), 51820, 3)),
        ("[fe80::1%eth0]:51820", NamedEndpoint("fe80::1%eth0", 51820)),
        ("a.b-c.example:1", NamedEndpoint("a.b-c.example", 1)),
        ("localhost:1", NamedEndpoint("localhost", 1)),
    ],
)
def test_endpoints_are_addresses_or_names(text: str, endpoint: Endpoint | NamedEndpoint) -> None:
    config = parse_config(f"[Peer]\nPublicKey={PEER}\nEndpoint={text}", "x")
    assert config.peers[0].endpoint == endpoint
    assert str(endpoint) == text


@pytest.mark.parametrize(
    ("text", "table"), [("auto", "auto"), ("off", "off"), ("main", 254), ("51820", 51820), ("0x10", 16)]
)
def test_tables_are_numbers_or_the_names_everyone_knows(text: str, table: object) -> None:
    assert parse_config(f"[Interface]\nTable = {text}", "x").table == table


INTERFACE_ERRORS = [
    ("PrivateKey = abc", "PrivateKey: a private key is 44 characters of base64; got 3"),
    ("PrivateKey =", "PrivateKey: a private key is 44 characters"),
    ("ListenPort = 65536", "ListenPort: a number from 0 to 65535 was expected; got '65536'"),
    ("ListenPort = -1", "ListenPort: a number from 0"),
    ("ListenPort = ١", "ListenPort: a number from 0"),
    ("FwMark = 0x1ffffffff", "FwMark: a number from 0 to 4294967295, or 0x and hexadecimal digits, or off"),
    ("Address = 10.0.0.300/24", "Address: an address is ADDRESS or ADDRESS/LENGTH"),
    ("Address = 10.0.0.1/24, nonsense", "Address: an address is .* got 'nonsense'"),
    ("DNS = 1.1.1.1.1", "DNS: a server's address or a search domain"),
    ("DNS = ;rm", "DNS: a server's address or a search domain"),
    ("MTU = 575", "MTU: a number from 576 to 65535"),
    ("MTU = big", "MTU: a number from 576 to 65535"),
    ("Table = home", "Table: a table's number, main, auto or off was expected; got 'home'"),
    ("Table = 0", "Table: a table's number"),
    ("SaveConfig = yes", "SaveConfig: true or false was expected; got 'yes'"),
    ("Adress = 10.0.0.1", r"\[Interface\] has no key 'Adress'$"),
    ("AllowedIPs = 10.0.0.0/8", r"\[Interface\] has no key 'AllowedIPs'; it belongs to the other kind"),
    ("nonsense", "a line is KEY = VALUE; got 8 characters without ="),
    ("[Interfaces]", r"a section is \[Interface\] or \[Peer\]; got '\[Interfaces\]'"),
    ("[Interface", r"a section is \[Interface\] or \[Peer\]"),
]

PEER_ERRORS = [
    ("PublicKey = !", "PublicKey: a public key is 44 characters"),
    (f"PresharedKey = {KEY}=", "PresharedKey: a preshared key is 44 characters"),
    ("Endpoint = example.com", "Endpoint: HOST:PORT or "),
    ("Endpoint = 2001:db8::1:51820", r"Endpoint: HOST:PORT or \[IPV6-ADDRESS\]:PORT was expected"),
    ("Endpoint = example.com:0", "Endpoint: a port is a number from 1 to 65535"),
    ("Endpoint = 192.0.2.300:1", "Endpoint: an address or a name"),
    ("Endpoint = bad host:1", "Endpoint: an address or a name"),
    ("Endpoint = [example.com]:1", "Endpoint: HOST:PORT"),
    ("AllowedIPs = 10.0.0.0/33", "AllowedIPs: a prefix is ADDRESS/LENGTH"),
    ("PersistentKeepalive = 65536", "PersistentKeepalive: a number from 0 to 65535, or off"),
    ("MTU = 1400", r"\[Peer\] has no key 'MTU'; it belongs to the other kind"),
]


@pytest.mark.parametrize(("line", "message"), INTERFACE_ERRORS)
def test_a_mistake_in_the_interface_names_file_line_and_what_was_expected(line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^home\.conf:3: {message}") as caught:
        parse_config(f"[Interface]\n\n{line}\n", "home.conf")
    assert (caught.value.source, caught.value.line) == ("home.conf", 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("line", "message"), PEER_ERRORS)
def test_a_mistake_in_a_peer_names_file_line_and_what_was_expected(line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^home\.conf:5: {message}") as caught:
        parse_config(f"[Interface]\n# one\n[Peer]\nPublicKey = {PEER}\n{line}", "home.conf")
    assert KEY not in str(caught.value)


def test_a_line_before_any_section_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match=r"^home\.conf:1: a file begins with"):
        parse_config("MTU = 1400", "home.conf")


def test_a_peer_without_a_key_is_named_by_its_first_line() -> None:
    text = f"[Peer]\nPublicKey = {PEER}\n[Peer]\nAllowedIPs = 10.0.0.0/8\n[Peer]\nPublicKey = {KEY}"
    with pytest.raises(ConfigError, match=r"^home\.conf:3: a \[Peer\] has a PublicKey"):
        parse_config(text, "home.conf")


def test_a_key_in_the_wrong_place_is_never_repeated() -> None:
    for text in (f"[Interface]\n{KEY}", f"[Interface]\nPrivateKey {KEY}", f"[Peer]\nPublicKey = {KEY}x"):
        with pytest.raises(ConfigError) as caught:
            parse_config(text, "x")
        assert KEY[:20] not in str(caught.value)


keys = st.binary(min_size=32, max_size=32)
ips = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
names = st.from_regex(r"[a-z][a-z0-9-]{0,10}(\.[a-z][a-z0-9]{0,5})?", fullmatch=True)
commands = (
    st.text(st.characters(codec="ascii", exclude_characters="#\n\r"), min_size=1).map(str.strip).filter(bool)
)
commands = commands.filter(lambda c: len(c.splitlines()) == 1)


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    address = draw(ips)
    return ip_network((address, draw(st.integers(0, address.max_prefixlen))), strict=False)


configs = st.builds(
    TunnelConfig,
    private_key=st.one_of(st.none(), keys.filter(any).map(PrivateKey)),
    listen_port=st.integers(0, 65535),
    fwmark=st.integers(0, 0xFFFFFFFF),
    addresses=st.lists(st.builds(lambda a, n: ip_interface((a, n)), ips, st.integers(0, 32)), max_size=3),
    dns=st.lists(st.one_of(ips, names), max_size=3),
    mtu=st.one_of(st.none(), st.integers(576, 65535)),
    table=st.one_of(st.sampled_from(["auto", "off"]), st.integers(1, 0xFFFFFFFF)),
    pre_up=st.lists(commands, max_size=2),
    post_up=st.lists(commands, max_size=2),
    pre_down=st.lists(commands, max_size=2),
    post_down=st.lists(commands, max_size=2),
    save_config=st.booleans(),
    peers=st.lists(
        st.builds(
            PeerConfig,
            public_key=keys.map(PublicKey),
            preshared_key=keys.map(PresharedKey),
            endpoint=st.one_of(
                st.none(),
                st.builds(Endpoint, ips, st.integers(1, 65535)),
                st.builds(NamedEndpoint, names, st.integers(1, 65535)),
            ),
            persistent_keepalive=st.integers(0, 65535),
            allowed_ips=st.lists(prefixes(), max_size=5),
        ),
        max_size=3,
    ),
)


@given(configs)
def test_a_config_survives_being_written_and_read(config: TunnelConfig) -> None:
    assert parse_config(encode_config(config), "x") == config


@given(st.text())
def test_no_text_raises_anything_but_a_config_error(text: str) -> None:
    for start in (
        "",
        "[Interface]\n",
        f"[Peer]\nPublicKey = {PEER}\n",
        "[Peer]\nEndpoint =",
        "[Interface]\nDNS =",
    ):
        with contextlib.suppress(ConfigError):
            parse_config(start + text, "x")


@pytest.mark.skipif(shutil.which("wg-quick") is None or os.geteuid() != 0, reason="needs wg-quick and root")
def test_wg_quick_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "home.conf"
    path.write_text(encode_config(parse_config(FULL, "x")))
    path.chmod(0o600)
    stripped = subprocess.run(
        ["wg-quick", "strip", str(path)], capture_output=True, text=True, check=True
    ).stdout
    ours = parse_config(stripped, "x")
    assert ours.peers == parse_config(FULL, "x").peers
    assert (ours.listen_port, ours.fwmark, ours.addresses) == (51820, 0xCA6C, [])
