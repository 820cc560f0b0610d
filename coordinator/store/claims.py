"""Addresses of a network: given to nodes, kept for a token's node, and resting after use.

A row is a number of a range that is not free. It has a node, or rests until 7 days after `released_at`. One
that a token keeps for its node counts as released 7 days before the token's end, and so is free at that end.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update

from coordinator.addresses import REST_AGE, choose_host_number, host_address, host_number
from coordinator.errors import Refusal
from coordinator.store.tables import addresses, networks
from wgpy.addresses import IPAddress, Prefix, host_prefix
from wgpy.errors import ConfigError


def read_ranges(connection: Connection, network_id: str) -> list[Prefix]:
    texts = connection.execute(select(networks.c.ranges).where(networks.c.id == network_id)).scalar_one()
    return [ipaddress.ip_network(text) for text in texts]


def claim_addresses(
    connection: Connection, network_id: str, node_id: str, token_id: str, now: float
) -> tuple[Prefix, ...]:
    """One address of each family: what the token keeps, else the next from the first range that has room.

    Raises Refusal `network_full`.
    """
    claimed: list[Prefix] = []
    ranges = read_ranges(connection, network_id)
    for version in (4, 6):
        family = [prefix for prefix in ranges if prefix.version == version]
        kept = _take_kept(connection, network_id, family, token_id, node_id)
        found = kept or _take_next(connection, network_id, family, node_id, now)
        if found is not None:
            claimed.append(host_prefix(found))
        elif family:
            shown = ", ".join(str(prefix) for prefix in family)
            raise Refusal(
                "network_full",
                f"every address of {shown} is taken or was released in the last 7 days: "
                "the network's admin has to make a larger network or wait",
            )
    return tuple(claimed)


def _take_kept(
    connection: Connection, network_id: str, family: Sequence[Prefix], token_id: str, node_id: str
) -> IPAddress | None:
    for prefix in family:
        mine = and_(_of(network_id, prefix), addresses.c.token_id == token_id, addresses.c.node_id.is_(None))
        number = connection.execute(select(addresses.c.host).where(mine)).scalar()
        if number is not None:
            values = {"node_id": node_id, "released_at": None}
            connection.execute(update(addresses).where(mine).values(**values))
            return host_address(prefix, number)
    return None


def _take_next(
    connection: Connection, network_id: str, family: Sequence[Prefix], node_id: str, now: float
) -> IPAddress | None:
    for prefix in family:
        number = _choose_number(connection, network_id, prefix, now)
        if number is not None:
            values = {"network_id": network_id, "range": str(prefix), "host": number, "node_id": node_id}
            connection.execute(insert(addresses).values(**values))
            return host_address(prefix, number)
    return None


def _of(network_id: str, prefix: Prefix) -> ColumnElement[bool]:
    return (addresses.c.network_id == network_id) & (addresses.c.range == str(prefix))


def _choose_number(connection: Connection, network_id: str, prefix: Prefix, now: float) -> int | None:
    mine = _of(network_id, prefix)
    rested = mine & addresses.c.node_id.is_(None) & (addresses.c.released_at <= now - REST_AGE)
    connection.execute(delete(addresses).where(rested))
    # Not of those that admins chose: one high number would else use up all below it.
    in_turn = mine & addresses.c.token_id.is_(None)
    highest = connection.execute(select(func.max(addresses.c.host)).where(in_turn)).scalar()

    def taken_in_order() -> Iterable[int]:
        return connection.execute(select(addresses.c.host).where(mine).order_by(addresses.c.host)).scalars()

    while True:
        number = choose_host_number(prefix, highest, taken_in_order)
        same = mine & (addresses.c.host == number)
        if number is None or connection.execute(select(addresses.c.host).where(same)).first() is None:
            return number
        highest = number


def keep_addresses(
    connection: Connection, network_id: str, wanted: Sequence[IPAddress], token_id: str, until: float
) -> None:
    """Keep these for the node of a token until it ends. One that only rests after use is given: an admin said
    so.

    Raises ConfigError for an address that no node can have, Refusal `address_in_use`.
    """
    ranges = read_ranges(connection, network_id)
    if len({address.version for address in wanted}) != len(wanted):
        raise ConfigError("a node has one address of each family: name at most one IPv4 and one IPv6")
    for address in wanted:
        prefix, number = _place(ranges, address)
        mine = _of(network_id, prefix) & (addresses.c.host == number)
        row = connection.execute(select(addresses).where(mine)).one_or_none()
        if row is not None and (row.node_id is not None or row.token_id is not None):
            whose = "a node has it" if row.node_id is not None else f"token {row.token_id} keeps it"
            raise Refusal("address_in_use", f"{address} is not free: {whose}")
        connection.execute(delete(addresses).where(mine))
        connection.execute(
            insert(addresses).values(
                network_id=network_id, range=str(prefix), host=number,
                token_id=token_id, released_at=until - REST_AGE,
            )
        )  # fmt: skip


def _place(ranges: Sequence[Prefix], address: IPAddress) -> tuple[Prefix, int]:
    for prefix in ranges:
        if address.version == prefix.version and address in prefix:
            number = host_number(prefix, address)
            if number is None:
                raise ConfigError(f"{address} is not an address that a node of {prefix} can have")
            return prefix, number
    shown = ", ".join(str(prefix) for prefix in ranges)
    raise ConfigError(f"{address} lies in no range of this network: it has {shown}")


def let_go(connection: Connection, token_id: str) -> None:
    """What a token kept is free again."""
    mine = (addresses.c.token_id == token_id) & addresses.c.node_id.is_(None)
    connection.execute(delete(addresses).where(mine))


def release_addresses(connection: Connection, node_id: str, now: float) -> None:
    """The node is gone; nobody gets its addresses for 7 days."""
    mine = addresses.c.node_id == node_id
    connection.execute(update(addresses).where(mine).values(node_id=None, token_id=None, released_at=now))
