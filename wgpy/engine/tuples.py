"""Words of the core ↔ tuples of the binding: endpoints and origins."""

from __future__ import annotations

import ipaddress

from wgpy import _engine
from wgpy.addresses import Endpoint, IPAddress
from wgpy.protocol.actions import Origin


def from_endpoint(endpoint: Endpoint) -> _engine._EndpointTuple:
    return endpoint.address.packed, endpoint.port, endpoint.scope_id


def from_origin(origin: Origin) -> _engine._OriginTuple:
    local = None if origin.local is None else origin.local.packed
    return *from_endpoint(origin.remote), local, origin.interface_index


def to_endpoint(endpoint: _engine._EndpointTuple) -> Endpoint:
    address, port, scope_id = endpoint
    return Endpoint(_address(address), port, scope_id)


def to_origin(origin: _engine._OriginTuple) -> Origin:
    address, port, scope_id, local, interface_index = origin
    return Origin(
        Endpoint(_address(address), port, scope_id),
        None if local is None else _address(local),
        interface_index,
    )


def _address(packed: bytes) -> IPAddress:
    return ipaddress.IPv4Address(packed) if len(packed) == 4 else ipaddress.IPv6Address(packed)
