"""Addresses of a network: given to nodes, kept for a token's node, and resting after use.

A row is a number of a range that is not free. It has a node, or rests until 7 days after `released_at`. One
that a token keeps for its node counts as released 7 days before the token's end, and so is free at that end.
"""

from __future__ import annotations

import heapq
import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, insert, select, update

from coordinator.addresses import REST_AGE, choose_host_number, host_address, host_number
from coordinator.errors import Refusal
from coordinator.store.prepared import Prepared
from coordinator.store.tables import addresses, ingress_groups, networks
from wgpy.addresses import IPAddress, Prefix, host_prefix
from wgpy.errors import ConfigError

_IN_RANGE: Final = (addresses.c.network_id == bindparam("network")) & (
    addresses.c.range == bindparam("prefix")
)
_RANGES: Final = Prepared(select(networks.c.ranges).where(networks.c.id == bindparam("network")))
_KEPT: Final = Prepared(
    select(addresses.c.host).where(
        _IN_RANGE, addresses.c.token_id == bindparam("token"), addresses.c.node_id.is_(None)
    )
)
# Not of those that admins chose: one high number would else use up all below it.
_HIGHEST: Final = Prepared(
    select(func.max(addresses.c.host)).where(_IN_RANGE, addresses.c.token_id.is_(None))
)
_TAKEN: Final = Prepared(select(addresses.c.host).where(_IN_RANGE).order_by(addresses.c.host))
_SAME: Final = Prepared(select(addresses.c.host).where(_IN_RANGE, addresses.c.host == bindparam("number")))
_CLAIM: Final = Prepared(insert(addresses))
_POOLS: Final = Prepared(
    select(ingress_groups.c.ranges).where(ingress_groups.c.network_id == bindparam("network"))
)


def read_ranges(connection: Connection, network_id: str) -> list[Prefix]:
    texts = _RANGES.scalar(connection, network=network_id)
    return [ipaddress.ip_network(text) for text in texts]


def _read_pools(connection: Connection, network_id: str) -> list[Prefix]:
    """The ranges of a network's external clients (ingress.py)."""
    groups = _POOLS.all(connection, network=network_id)
    return [ipaddress.ip_network(text) for group in groups for text in group.ranges]


def _kept_for_clients(pools: Sequence[Prefix], prefix: Prefix) -> list[range]:
    """The host numbers of a network's range that are in pools of external clients, in order."""
    found = []
    for pool in pools:
        if pool != prefix and pool.version == prefix.version and pool.network_address in prefix:
            first = int(pool.network_address) - int(prefix.network_address)
            found.append(range(first, first + pool.num_addresses))
    return sorted(found, key=lambda numbers: numbers.start)


def claim_addresses(
    connection: Connection, network_id: str, node_id: str, now: float, *, kept_by: str | None
) -> tuple[Prefix, ...]:
    """One address of each family: what the token `kept_by` keeps, else the next from the first range that has
    room.

    Raises Refusal `network_full`.
    """
    claimed: list[Prefix] = []
    ranges, pools = read_ranges(connection, network_id), _read_pools(connection, network_id)
    for version in (4, 6):
        family = [prefix for prefix in ranges if prefix.version == version]
        found = None if kept_by is None else _take_kept(connection, network_id, family, kept_by, node_id)
        found = found or _take_next(connection, network_id, family, pools, node_id, now)
        if found is not None:
            claimed.append(host_prefix(found))
        elif family:
            shown = ", ".join(str(prefix) for prefix in family)
            raise Refusal(
                "network_full",
                f"every address of {shown} is taken or was released in the last 7 days: "
                "the network's admin has to give it a larger range, or wait",
            )
    return tuple(claimed)


def _take_kept(
    connection: Connection, network_id: str, family: Sequence[Prefix], token_id: str, node_id: str
) -> IPAddress | None:
    for prefix in family:
        number = _KEPT.scalar(connection, network=network_id, prefix=str(prefix), token=token_id)
        if number is not None:
            mine = _of(network_id, prefix) & (addresses.c.host == number)
            values = {"node_id": node_id, "released_at": None}
            connection.execute(update(addresses).where(mine).values(**values))
            return host_address(prefix, number)
    return None


def _take_next(  # noqa: PLR0917 (as every change: connection, where, for whom, time)
    connection: Connection,
    network_id: str,
    family: Sequence[Prefix],
    pools: Sequence[Prefix],
    node_id: str,
    now: float,
) -> IPAddress | None:
    for prefix in family:
        kept = _kept_for_clients(pools, prefix)
        number = _choose_number(connection, network_id, prefix, kept, now)
        if number is not None:
            _CLAIM.run(connection, network_id=network_id, range=str(prefix), host=number, node_id=node_id)
            return host_address(prefix, number)
    return None


def _of(network_id: str, prefix: Prefix) -> ColumnElement[bool]:
    return (addresses.c.network_id == network_id) & (addresses.c.range == str(prefix))


def _choose_number(
    connection: Connection, network_id: str, prefix: Prefix, kept: Sequence[range], now: float
) -> int | None:
    place = {"network": network_id, "prefix": str(prefix)}
    number = _next_number(connection, prefix, place, kept)
    if number is None:  # perhaps there are some that have rested for long enough
        drop_rested(connection, now, _of(network_id, prefix))
        number = _next_number(connection, prefix, place, kept)
    return number


def _next_number(
    connection: Connection, prefix: Prefix, place: dict[str, str], kept: Sequence[range]
) -> int | None:
    highest = _HIGHEST.scalar(connection, **place)

    def taken_in_order() -> Iterable[int]:
        return heapq.merge((row.host for row in _TAKEN.all(connection, **place)), *kept)

    while True:
        number = choose_host_number(prefix, highest, taken_in_order)
        if number is None:
            return None
        if (block := next((block for block in kept if number in block), None)) is not None:
            highest = block[-1]
            continue
        if _SAME.first(connection, number=number, **place) is None:
            return number
        highest = number


def drop_rested(connection: Connection, now: float, *where: ColumnElement[bool]) -> None:
    """Forget those that have rested for long enough."""
    rested = addresses.c.node_id.is_(None) & (addresses.c.released_at <= now - REST_AGE)
    connection.execute(delete(addresses).where(rested, *where))


def keep_addresses(
    connection: Connection, network_id: str, wanted: Sequence[IPAddress], token_id: str, until: float
) -> None:
    """Keep these for the node of a token until it ends. One that only rests after use is given: an admin said
    so.

    Raises ConfigError for an address that no node can have, Refusal `address_in_use`.
    """
    ranges, pools = read_ranges(connection, network_id), _read_pools(connection, network_id)
    if len({address.version for address in wanted}) != len(wanted):
        raise ConfigError("a node has one address of each family: name at most one IPv4 and one IPv6")
    for address in wanted:
        prefix, number = _place(ranges, address)
        if any(number in block for block in _kept_for_clients(pools, prefix)):
            raise Refusal("address_in_use", f"{address} is not free: external clients are there")
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


def claim_of_pool(
    connection: Connection, network_id: str, pools: Sequence[Prefix], client_id: str, now: float
) -> tuple[Prefix, ...]:
    """The next address of each range of external clients. Raises Refusal `network_full`."""
    claimed, of_clients = [], _read_pools(connection, network_id)
    for pool in pools:
        found = _take_next(connection, network_id, [pool], of_clients, client_id, now)
        if found is None:
            raise Refusal(
                "network_full", f"every address of {pool} is taken or was released in the last 7 days"
            )
        claimed.append(host_prefix(found))
    return tuple(claimed)


def claim_named(
    connection: Connection,
    network_id: str,
    pools: Sequence[Prefix],
    wanted: Sequence[IPAddress],
    client_id: str,
) -> tuple[Prefix, ...]:
    """These addresses of ranges of external clients. One that only rests is given: an admin said so.

    Raises ConfigError, Refusal `address_in_use`.
    """
    if len({address.version for address in wanted}) != len(wanted):
        raise ConfigError("a client has one address of each family: name at most one IPv4 and one IPv6")
    for address in wanted:
        prefix, number = next(
            ((p, host_number(p, address)) for p in pools if p.version == address.version and address in p),
            (None, None),
        )
        if prefix is None or number is None:
            shown = ", ".join(str(pool) for pool in pools)
            raise ConfigError(f"{address} is no address that a client here can have: they are in {shown}")
        mine = _of(network_id, prefix) & (addresses.c.host == number)
        if connection.execute(select(addresses).where(mine, addresses.c.node_id.is_not(None))).first():
            raise Refusal("address_in_use", f"{address} is not free: another client has it")
        connection.execute(delete(addresses).where(mine))
        values = {"network_id": network_id, "range": str(prefix), "host": number, "node_id": client_id}
        connection.execute(insert(addresses).values(**values))
    return tuple(host_prefix(address) for address in wanted)


def release_addresses(connection: Connection, node_id: str, now: float) -> None:
    """The node is gone; nobody gets its addresses for 7 days."""
    mine = addresses.c.node_id == node_id
    connection.execute(update(addresses).where(mine).values(node_id=None, token_id=None, released_at=now))
