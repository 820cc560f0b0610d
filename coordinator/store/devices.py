"""People's own devices: nodes that somebody let in for themselves, and that go as they go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import Connection, select, update

from coordinator.errors import Refusal
from coordinator.rights import ROLES, Right
from coordinator.store.admission import approve_join
from coordinator.store.log import lock_network
from coordinator.store.nodes import NodeRow, find_node, remove_node, store_edit
from coordinator.store.people import PersonRow, edit_person, get_person, remove_person, set_role
from coordinator.store.tables import nodes, people


def claim_join(
    connection: Connection, network_id: str, join_id: str, code: int, now: float, *, owner: str
) -> NodeRow:
    """Somebody, by id, lets in the host before which they sit, by the code that it shows: it is theirs.

    Raises Refusal as `approve_join` does.
    """
    node = approve_join(connection, network_id, join_id, code, now)
    connection.execute(update(nodes).where(nodes.c.id == node.id).values(person_id=owner))
    return replace(node, person_id=owner)


def names_of_owners(connection: Connection, rows: Iterable[NodeRow]) -> dict[str, str]:
    """The names of those whose devices these nodes are, by id."""
    wanted = {row.person_id for row in rows if row.person_id is not None}
    if not wanted:
        return {}
    found = connection.execute(select(people.c.id, people.c.name).where(people.c.id.in_(wanted)))
    return {row.id: row.name for row in found}


def list_devices(connection: Connection, person_id: str, network_id: str | None = None) -> list[NodeRow]:
    """Somebody's devices, on all networks or one."""
    mine = nodes.c.person_id == person_id
    if network_id is not None:
        mine &= nodes.c.network_id == network_id
    found = connection.execute(
        select(nodes.c.network_id, nodes.c.id).where(mine).order_by(nodes.c.network_id, nodes.c.name)
    ).all()
    rows = (find_node(connection, row.network_id, row.id) for row in found)
    return [row for row in rows if row is not None]


def find_any_node(connection: Connection, node_id: str) -> NodeRow | None:
    """A node by its id, on whatever network."""
    network_id = connection.execute(select(nodes.c.network_id).where(nodes.c.id == node_id)).scalar()
    return None if network_id is None else find_node(connection, network_id, node_id)


def keep_devices_out(
    connection: Connection, person_id: str, now: float, network_id: str | None = None
) -> None:
    """All of their devices, or those on one network, are disabled, if they are not already."""
    for device in _locked(connection, person_id, network_id):
        if device.disabled_at is None:
            store_edit(connection, device, replace(device, disabled_at=now), now)


def let_devices_in(connection: Connection, person: PersonRow, kept_out_at: float, now: float) -> None:
    """Undo `keep_devices_out` of that instant: what an admin disabled before or after stays disabled, and so
    does what is on a network where they may have devices no more.
    """
    for device in _locked(connection, person.id, None):
        if device.disabled_at == kept_out_at and may_own(person, device.network_id):
            store_edit(connection, device, replace(device, disabled_at=None), now)


def remove_devices(connection: Connection, person_id: str, now: float) -> None:
    """They are told with a signed word, as every removed node is."""
    for device in list_devices(connection, person_id):
        remove_node(connection, device.network_id, device.id, now)


def remove_own_device(connection: Connection, person_id: str, node_id: str, now: float) -> NodeRow:
    """Raises Refusal `not_found`."""
    for device in list_devices(connection, person_id):
        if device.id == node_id:
            return remove_node(connection, device.network_id, device.id, now)
    raise Refusal("not_found", "you have no such device: see the list of your devices")


def may_own(person: PersonRow, network_id: str) -> bool:
    """Whether somebody may have devices there."""
    role = person.roles.get(network_id)
    return person.is_admin or (role is not None and ROLES[role] >= Right.OWN)


def edit_owner(
    connection: Connection, wanted: str, is_admin: bool | None, disabled: bool | None, now: float
) -> PersonRow:
    """As `edit_person`; their devices go with them, and come back with them."""
    before = get_person(connection, wanted)
    after = edit_person(connection, wanted, is_admin, disabled, now)
    if after.disabled_at is not None and before.disabled_at is None:
        keep_devices_out(connection, after.id, after.disabled_at)
    elif before.disabled_at is not None and after.disabled_at is None:
        let_devices_in(connection, after, before.disabled_at, now)
    if before.is_admin and not after.is_admin:
        for network_id in {device.network_id for device in list_devices(connection, after.id)}:
            if not may_own(after, network_id):
                keep_devices_out(connection, after.id, now, network_id)
    return after


def remove_owner(connection: Connection, wanted: str, now: float) -> PersonRow:
    """As `remove_person`, and their devices are removed."""
    remove_devices(connection, get_person(connection, wanted).id, now)
    return remove_person(connection, wanted)


def set_owner_role(
    connection: Connection, wanted: str, network_id: str, role: str | None, now: float
) -> PersonRow:
    """As `set_role`; who may have no devices there any more has them disabled."""
    person = set_role(connection, wanted, network_id, role)
    if not may_own(person, network_id):
        keep_devices_out(connection, person.id, now, network_id)
    return person


def _locked(connection: Connection, person_id: str, network_id: str | None) -> list[NodeRow]:
    """Their devices as they stand while nobody else changes them."""
    for each in sorted({device.network_id for device in list_devices(connection, person_id, network_id)}):
        lock_network(connection, each)
    return list_devices(connection, person_id, network_id)
