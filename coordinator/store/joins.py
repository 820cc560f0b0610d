"""Joins that wait: committed to, opened, or held by a token, until an admin says yes or no, or time is over.

A host without a token is a stranger, so what it can leave here is bounded: by network, by address, in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from coordinator.addresses import RandomSource
from coordinator.errors import Refusal
from coordinator.store.log import lock_network, note
from coordinator.store.prepared import Prepared
from coordinator.store.tables import joins, networks
from wgpy.keys import PublicKey
from wgpy.mesh.signing import MachinePublicKey

OPEN_AGE: Final = 60.0
"""Seconds from a commitment until it has to be opened."""
KEYLESS_AGE: Final = 3600.0
"""Seconds that a join without a token waits."""
HELD_AGE: Final = 7 * 86400.0
"""Seconds that a join by a token waits."""
MAX_OF_NETWORK: Final = 100
MAX_OF_ADDRESS: Final = 5

IS_WAITING: Final = joins.c.machine_key.is_not(None) & joins.c.refused_at.is_(None)


@dataclass(frozen=True, slots=True)
class JoinRow:
    """A host that asked. `code` is what it shows, None where a token vouches for it."""

    id: str
    network_id: str
    token_id: str
    name: str
    machine_key: MachinePublicKey
    wireguard_key: PublicKey
    capabilities: tuple[str, ...]
    code: int | None
    address: str
    created_at: float
    expires_at: float
    refused_at: float | None


class Source(NamedTuple):
    """Where a request came from, and the same as limits count it."""

    address: str
    key: str


@dataclass(frozen=True, slots=True)
class Committed:
    """A commitment that was taken: its id, and our nonce for it."""

    id: str
    nonce: bytes


def _join_row(row: Any) -> JoinRow:
    return JoinRow(
        id=row.id,
        network_id=row.network_id,
        token_id=row.token_id,
        name=row.name,
        machine_key=MachinePublicKey(row.machine_key),
        wireguard_key=PublicKey(row.wireguard_key),
        capabilities=tuple(row.capabilities or ()),
        code=row.code,
        address=row.address,
        created_at=row.created_at,
        expires_at=row.expires_at,
        refused_at=row.refused_at,
    )


def commit_join(  # noqa: PLR0917 (as every change: connection, what, by whom, chance, time)
    connection: Connection, network: str, commitment: bytes, source: Source, rng: RandomSource, now: float
) -> Committed:
    """Take a stranger's commitment, for a network by name or id.

    The same commitment again gets the same nonce. Raises Refusal `not_keyless`, `too_many_joins`.
    """
    named = (networks.c.name == network) | (networks.c.id == network)
    network_id = connection.execute(select(networks.c.id).where(named, networks.c.keyless)).scalar()
    if network_id is None or not lock_network(connection, network_id):
        raise Refusal(
            "not_keyless",
            "this coordinator has no network of that name that can be joined without a token: "
            "ask its admin for one",
        )
    connection.execute(delete(joins).where(joins.c.network_id == network_id, joins.c.expires_at <= now))
    mine = joins.c.network_id == network_id
    known = connection.execute(select(joins).where(mine, joins.c.commitment == commitment)).one_or_none()
    if known is not None:
        return Committed(known.id, known.nonce)
    keyless = joins.c.commitment.is_not(None)
    of_address = keyless & (joins.c.source == source.key) & (joins.c.expires_at > now)
    if _count(connection, of_address) >= MAX_OF_ADDRESS:
        raise Refusal(
            "too_many_joins",
            f"{MAX_OF_ADDRESS} joins from this address wait already: have them approved or refused, "
            "or wait an hour",
        )
    if _count(connection, mine & keyless) >= MAX_OF_NETWORK:
        raise Refusal(
            "too_many_joins",
            f"{MAX_OF_NETWORK} joins without a token wait for this network already: try again in an hour, "
            "or ask its admin for a token",
        )
    join_id, nonce = rng.randbytes(16).hex(), rng.randbytes(32)
    connection.execute(
        insert(joins).values(
            id=join_id, network_id=network_id, token_id=join_id[:16], commitment=commitment, nonce=nonce,
            address=source.address, source=source.key, created_at=now, expires_at=now + OPEN_AGE,
        )
    )  # fmt: skip
    return Committed(join_id, nonce)


def _count(connection: Connection, condition: Any) -> int:
    return int(connection.execute(select(func.count()).select_from(joins).where(condition)).scalar_one())


def hold_join(connection: Connection, row: JoinRow, source: str) -> None:
    """A join by a token that needs approval."""
    connection.execute(
        insert(joins).values(
            id=row.id, network_id=row.network_id, token_id=row.token_id, name=row.name,
            machine_key=bytes(row.machine_key), wireguard_key=bytes(row.wireguard_key),
            capabilities=list(row.capabilities), address=row.address, source=source,
            created_at=row.created_at, expires_at=row.expires_at,
        )
    )  # fmt: skip
    note(connection, row.network_id)


_HELD: Final = Prepared(
    select(joins).where(
        joins.c.token_id == bindparam("token"),
        joins.c.machine_key == bindparam("key"),
        joins.c.expires_at > bindparam("now"),
    )
)


def find_held(
    connection: Connection, token_id: str, machine_key: MachinePublicKey, now: float
) -> JoinRow | None:
    """The join of this machine by this token, if it waits or was refused."""
    row = _HELD.first(connection, token=token_id, key=bytes(machine_key), now=now)
    return None if row is None else _join_row(row)


def read_commitment(connection: Connection, join_id: str, now: float) -> Any:
    """The row of a commitment, opened or not, with its network locked; None when there is none."""
    asked = (joins.c.id == join_id) & joins.c.commitment.is_not(None) & (joins.c.expires_at > now)
    row = connection.execute(select(joins).where(asked)).one_or_none()
    if row is None or not lock_network(connection, row.network_id):
        return None
    return connection.execute(select(joins).where(asked)).one_or_none()


def open_row(connection: Connection, row: JoinRow) -> None:
    """What was committed to is known now, and an admin may look at it."""
    connection.execute(
        update(joins)
        .where(joins.c.id == row.id)
        .values(
            code=row.code, name=row.name, machine_key=bytes(row.machine_key),
            wireguard_key=bytes(row.wireguard_key), capabilities=list(row.capabilities),
            expires_at=row.expires_at,
        )
    )  # fmt: skip
    note(connection, row.network_id)


def list_joins(connection: Connection, network_id: str, now: float) -> list[JoinRow]:
    """Those that wait, the oldest first."""
    mine = (joins.c.network_id == network_id) & IS_WAITING & (joins.c.expires_at > now)
    statement = select(joins).where(mine).order_by(joins.c.created_at, joins.c.id)
    return [_join_row(row) for row in connection.execute(statement)]


def read_join(connection: Connection, network_id: str, join_id: str) -> JoinRow | None:
    """One that waits or was refused."""
    mine = (joins.c.network_id == network_id) & (joins.c.id == join_id) & joins.c.machine_key.is_not(None)
    row = connection.execute(select(joins).where(mine)).one_or_none()
    return None if row is None else _join_row(row)


def get_waiting(connection: Connection, network_id: str, join_id: str, now: float) -> JoinRow:
    """Raises Refusal `not_found`."""
    row = read_join(connection, network_id, join_id)
    if row is None or row.refused_at is not None or row.expires_at <= now:
        raise Refusal(
            "not_found",
            f"no join {join_id[:32]!r} waits here: was it approved or refused already, or is its time over? "
            "See `node waiting`",
        )
    return row


def refuse_join(connection: Connection, network_id: str, join_id: str, now: float) -> JoinRow:
    """The host hears of it when it asks again. Raises Refusal `not_found`."""
    lock_network(connection, network_id)
    row = get_waiting(connection, network_id, join_id, now)
    connection.execute(update(joins).where(joins.c.id == row.id).values(refused_at=now))
    note(connection, network_id)
    return row


def drop_join(connection: Connection, row: JoinRow) -> None:
    """It has become a node."""
    connection.execute(delete(joins).where(joins.c.id == row.id))


def drop_old_joins(connection: Connection, now: float) -> int:
    """Forget those whose time is over → how many; admins who look at their networks hear of it."""
    old = joins.c.expires_at <= now
    found = connection.execute(select(joins.c.network_id).where(old).distinct()).scalars()
    gone = 0
    for network_id in sorted(found):
        lock_network(connection, network_id)
        gone += connection.execute(delete(joins).where(old, joins.c.network_id == network_id)).rowcount
        note(connection, network_id)
    return gone
