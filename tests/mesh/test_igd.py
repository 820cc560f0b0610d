"""What UPnP devices say, and what they must not be able to say."""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.errors import InvalidMessage
from wgpy.mesh.igd import (
    MAX_DOCUMENT,
    Control,
    encode_action,
    parse_action_untrusted,
    parse_description_untrusted,
    parse_location_untrusted,
)

ROUTER = IPv4Address("192.168.1.1")
LOCATION = "http://192.168.1.1:5000/root.xml"
SERVICE = "urn:schemas-upnp-org:service:"


def found(location: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nST: x\r\nLocation: {location}\r\n\r\n".encode()


def description(kind: str = "WANIPConnection:1", control: str = "/ctl/IPConn", base: str = "") -> bytes:
    return (
        f'<?xml version="1.0"?><!-- a comment --><root xmlns="urn:schemas-upnp-org:device-1-0">{base}<device>'
        f"<serviceList><service><serviceType>{SERVICE}Layer3Forwarding:1</serviceType>"
        f"<controlURL>/l3</controlURL></service><service><serviceType>{SERVICE}{kind}</serviceType>"
        f"<controlURL>{control}</controlURL></service></serviceList></device></root>"
    ).encode()


def test_the_control_url_of_a_wan_connection_is_found() -> None:
    location = parse_location_untrusted(found(LOCATION), ROUTER)
    control = parse_description_untrusted(description(), location, ROUTER)
    assert control == Control("http://192.168.1.1:5000/ctl/IPConn", f"{SERVICE}WANIPConnection:1")
    base = "<URLBase>http://192.168.1.1:6000/</URLBase>"
    control = parse_description_untrusted(description("WANPPPConnection:1", base=base), location, ROUTER)
    assert control == Control("http://192.168.1.1:6000/ctl/IPConn", f"{SERVICE}WANPPPConnection:1")


@pytest.mark.parametrize(
    "location",
    [
        "http://192.168.1.2/x",
        "http://example.org/x",
        "https://192.168.1.1/x",
        "file:///etc/passwd",
        "",
        "http://[::1",
    ],
)
def test_a_device_cannot_send_us_to_another_host(location: str) -> None:
    with pytest.raises(InvalidMessage):
        parse_location_untrusted(found(location), ROUTER)
    if "://" in location:
        with pytest.raises(InvalidMessage):
            parse_description_untrusted(description(control=location), LOCATION, ROUTER)


@pytest.mark.parametrize(
    "data",
    [
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>',
        b"<x>" + b" " * MAX_DOCUMENT + b"</x>",
        b"not XML",
        b"",
        description("Layer3Forwarding:1"),
    ],
)
def test_documents_with_entities_too_large_or_without_a_connection_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        parse_description_untrusted(data, LOCATION, ROUTER)


def test_arguments_are_escaped_and_answers_are_read_by_name() -> None:
    control = Control(LOCATION, f"{SERVICE}WANIPConnection:1")
    headers, body = encode_action(control, "AddPortMapping", {"NewDescription": "<a&b>", "NewPort": 7})
    assert headers["SOAPAction"] == f'"{SERVICE}WANIPConnection:1#AddPortMapping"'
    assert parse_action_untrusted(body) == {"NewDescription": "<a&b>", "NewPort": "7"}


@given(st.binary(max_size=300))
def test_whatever_comes_nothing_but_invalid_message_is_raised(data: bytes) -> None:
    for parse in (
        lambda: parse_location_untrusted(data, ROUTER),
        lambda: parse_description_untrusted(data, LOCATION, ROUTER),
        lambda: parse_action_untrusted(data),
    ):
        with contextlib.suppress(InvalidMessage):
            parse()
