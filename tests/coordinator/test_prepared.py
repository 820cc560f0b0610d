"""Statements that the driver runs itself give and take what SQLAlchemy would, on either database."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError, OperationalError

from coordinator.store import nodes as node_rows
from coordinator.store.api_keys import add_api_key
from coordinator.store.database import is_disk_full
from coordinator.store.log import Kind, record_change
from coordinator.store.prepared import Prepared
from coordinator.store.tables import audit, networks, nodes
from tests.coordinator.hosts import Host
from tests.coordinator.rows import Rows, secret_of


def test_rows_are_those_that_sqlalchemy_reads(rows: Rows) -> None:
    network = rows.network()
    for number in range(3):
        host = Host(number)
        rows.join(host, rows.token(network))
        rows.sign(host)
    for table in (networks, nodes, audit):  # numbers, text, octets, truth, JSON, and none of them
        plain = select(table).order_by(table.c.id)
        wanted = rows.read(lambda connection, plain=plain: connection.execute(plain).all())
        found = rows.read(Prepared(plain).all)
        assert len(found) > 0
        assert [row._asdict() for row in found] == [row._asdict() for row in wanted]
        assert [[type(value) for value in row] for row in found] == [
            [type(value) for value in row] for row in wanted
        ]


def test_values_are_written_as_sqlalchemy_writes_them(rows: Rows) -> None:
    network = rows.network()
    host = Host(1)
    node = rows.join(host, rows.token(network))
    values = {"tags": ["a", "b"], "record": 'a "record"', "record_seq": 2**40, "expires_at": 1.5}
    change = Prepared(
        update(nodes)
        .where(nodes.c.id == bindparam("node"))
        .values({name: bindparam(name) for name in values})
    )
    rows.write(lambda connection: change.run(connection, node=node.id, **values))
    read = select(*(nodes.c[name] for name in values))
    assert rows.read(lambda connection: connection.execute(read).one()._asdict()) == values
    rows.write(
        lambda connection: change.run(connection, node=node.id, **dict.fromkeys(values) | {"record_seq": 1})
    )
    assert rows.read(lambda connection: connection.execute(read).one()._asdict()) == {
        "tags": None, "record": None, "record_seq": 1, "expires_at": None,
    }  # fmt: skip


def test_what_there_is_not_is_none(rows: Rows) -> None:
    nobody = Prepared(select(nodes.c.name).where(nodes.c.id == bindparam("node")))
    assert rows.read(lambda connection: nobody.first(connection, node="x")) is None
    assert rows.read(lambda connection: nobody.scalar(connection, node="x")) is None
    assert rows.read(lambda connection: nobody.all(connection, node="x")) == []


def test_errors_are_sqlalchemys_and_undo_the_transaction(rows: Rows) -> None:
    network = rows.network()
    again = Prepared(insert(networks))

    def collide(connection: Connection) -> None:
        add_api_key(connection, secret_of(1), "lost", 1.0)
        row: Any = connection.execute(select(networks)).one()
        again.run(connection, **row._asdict())

    with pytest.raises(IntegrityError):
        rows.write(collide)
    assert rows.read(lambda connection: connection.exec_driver_sql("SELECT name FROM api_keys").all()) == []
    assert rows.write(record_change, network.network.id, [(Kind.NODE, "x")], 1.0) == 2  # and it works again


def test_a_full_disk_is_known_as_such(sqlite_rows: Rows) -> None:
    network = sqlite_rows.network()
    host = Host(1)
    sqlite_rows.join(host, sqlite_rows.token(network))

    def overflow(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
        text = "x" * 10_000_000
        node_rows._SIGN.run(connection, node=host.membership.node, signed=text, seq=1, revision=1)  # type: ignore[union-attr]

    with pytest.raises(OperationalError) as caught:
        sqlite_rows.write(overflow)
    assert is_disk_full(caught.value)
