"""How a network stands, as far as `coordinator/preview.py` compares it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from sqlalchemy import Connection, select

from coordinator.conflicts import Place
from coordinator.preview import Published, Standing, State
from coordinator.store.forwards import ForwardRow, list_forwards
from coordinator.store.names import read_names
from coordinator.store.networks import read_standing
from coordinator.store.tables import endpoints, nodes
from wgpy.addresses import Endpoint

_NODE = (
    nodes.c.id,
    nodes.c.name,
    nodes.c.addresses,
    nodes.c.tags,
    nodes.c.record.is_not(None).label("has_record"),
    nodes.c.disabled_at,
    nodes.c.expired_at,
    endpoints.c.endpoints,
)


def read_state(connection: Connection, network_id: str) -> State:
    """Of a network that exists."""
    return state_around(connection, network_id, list_forwards(connection, network_id))


def state_around(connection: Connection, network_id: str, forwards: Iterable[ForwardRow]) -> State:
    """As `read_state`, where all `forwards` of the network were read already."""
    found = read_standing(connection, network_id)
    assert found is not None
    joined = nodes.outerjoin(endpoints, endpoints.c.node_id == nodes.c.id)
    rows = connection.execute(select(*_NODE).select_from(joined).where(nodes.c.network_id == network_id))
    standing = {
        row.id: Standing(
            row.name,
            tuple(ipaddress.ip_network(text).network_address for text in row.addresses),
            frozenset(row.tags or ()),
            row.has_record and row.disabled_at is None and row.expired_at is None,
            Place.of(row.name, map(Endpoint.parse, row.endpoints or ())),
        )
        for row in rows
    }
    published = tuple(
        Published(row.node_id, row.forward, row.offered or row.is_signed)
        for row in forwards
        if row.approved_at is not None
    )
    names = read_names(connection, network_id)
    return State(
        found.network.ranges, found.network.suffix, names, found.settings.visibility, standing, published
    )
