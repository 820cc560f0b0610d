"""UPnP Internet Gateway Devices: what is sent and read to have a port mapped (WANIPConnection:1 and :2).
Pure.

    search → answers with a location → its description → the control URL of a WAN connection → SOAP

What comes is a stranger's: sizes are the caller's to bound, and a document with its own entities is refused.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from wgpy.addresses import Endpoint, IPAddress
from wgpy.errors import InvalidMessage

SEARCH_ENDPOINT: Final = Endpoint(ipaddress.IPv4Address("239.255.255.250"), 1900)
MAX_DOCUMENT: Final = 64 * 1024
"""Octets."""
_TARGETS: Final = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
)
_SERVICES: Final = ("WANIPConnection:2", "WANIPConnection:1", "WANPPPConnection:1")
_SERVICE_PREFIX: Final = "urn:schemas-upnp-org:service:"


@dataclass(frozen=True, slots=True)
class Control:
    """Where a WAN connection takes orders."""

    url: str
    service: str


def encode_searches() -> tuple[bytes, ...]:
    """One for each version of gateways."""
    lines = (
        "M-SEARCH * HTTP/1.1",
        f"HOST: {SEARCH_ENDPOINT}",
        'MAN: "ssdp:discover"',
        "MX: 1",
    )
    return tuple("\r\n".join((*lines, f"ST: {target}", "", "")).encode() for target in _TARGETS)


def parse_location_untrusted(data: bytes, source: IPAddress) -> str:
    """Of an answer to a search: the URL of the description, which must be the answering host's. Raises
    InvalidMessage.
    """
    lines = data.decode("ascii", "replace").split("\r\n")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    location = headers.get("location", "")
    if not lines[0].startswith("HTTP/1.1 200") or not is_of_host(location, source):
        raise InvalidMessage("no location at the host that answered")
    return location


def is_of_host(url: str, address: IPAddress) -> bool:
    """Whether the URL is plain HTTP at this very address."""
    try:
        parts = urlsplit(url)
        port = parts.port or 80
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "") == address and port > 0
    except ValueError:
        return False


def parse_description_untrusted(data: bytes, location: str, source: IPAddress) -> Control:
    """The WAN connection of a gateway. Raises InvalidMessage."""
    root = _parse(data)
    base = next((e.text for e in root.iter() if _name(e) == "URLBase" and e.text), None) or location
    found: dict[str, str] = {}
    for element in root.iter():
        if _name(element) != "service":
            continue
        entries = {_name(child): (child.text or "").strip() for child in element}
        kind = entries.get("serviceType", "").removeprefix(_SERVICE_PREFIX)
        try:
            url = urljoin(base, entries.get("controlURL", ""))
        except ValueError:
            continue
        if kind in _SERVICES and is_of_host(url, source):
            found.setdefault(kind, url)
    for kind in _SERVICES:
        if kind in found:
            return Control(found[kind], _SERVICE_PREFIX + kind)
    raise InvalidMessage("no WAN connection in the description")


def encode_action(
    control: Control, action: str, arguments: dict[str, object]
) -> tuple[dict[str, str], bytes]:
    """Headers and body of a SOAP request."""
    inner = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in arguments.items())
    body = (
        '<?xml version="1.0"?>\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f'<u:{action} xmlns:u="{control.service}">{inner}</u:{action}></s:Body></s:Envelope>'
    )
    headers = {"Content-Type": 'text/xml; charset="utf-8"', "SOAPAction": f'"{control.service}#{action}"'}
    return headers, body.encode()


def parse_action_untrusted(data: bytes) -> dict[str, str]:
    """What an action answered, by argument; with `errorCode` when it was refused. Raises InvalidMessage."""
    return {
        _name(element): (element.text or "").strip() for element in _parse(data).iter() if not len(element)
    }


def _parse(data: bytes) -> ElementTree.Element:
    text = data[: MAX_DOCUMENT + 1].decode("utf-8", "replace")
    if len(data) > MAX_DOCUMENT or any(word in text.upper() for word in ("<!DOCTYPE", "<!ENTITY")):
        raise InvalidMessage("too large, or with declarations of its own")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InvalidMessage("no XML") from error


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
