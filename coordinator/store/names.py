"""Names that an admin adds to a network: they are part of its row, and of every map."""

from __future__ import annotations

from sqlalchemy import Connection, null, select, update

from coordinator.store.log import Kind, record_change
from coordinator.store.tables import networks
from wgpy.mesh.names import NetworkNames


def read_names(connection: Connection, network_id: str) -> NetworkNames:
    """Those of a network that exists."""
    value = connection.execute(select(networks.c.names).where(networks.c.id == network_id)).scalar_one()
    return NetworkNames() if value is None else NetworkNames.from_json(value)


def set_names(connection: Connection, network_id: str, names: NetworkNames, now: float) -> NetworkNames:
    """Put these in the place of those before; nodes hear of it when that is news."""
    if names != read_names(connection, network_id):
        value = names.to_json() if names else null()
        connection.execute(update(networks).where(networks.c.id == network_id).values(names=value))
        record_change(connection, network_id, [(Kind.NETWORK, network_id)], now)
    return names
