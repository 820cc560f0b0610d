"""Rules of the store, on SQLite and on PostgreSQL."""

from __future__ import annotations

import dataclasses
import ipaddress
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError

from coordinator.addresses import REST_AGE
from coordinator.errors import Refusal
from coordinator.store import admission, log, networks, nodes, tokens
from coordinator.store.housekeeping import tidy
from coordinator.store.snapshot import read_snapshot, read_step
from coordinator.store.tables import addresses, change_log
from tests.coordinator.hosts import Host
from tests.coordinator.rows import Rows, secret_of
from wgpy.mesh.wire import Membership


def code_of(excinfo: pytest.ExceptionInfo[Refusal]) -> str:
    return excinfo.value.code


def refusal_of(change: Callable[..., object], *args: object) -> str | None:
    """The code of the refusal, None when it was not refused."""
    try:
        change(*args)
    except Refusal as refusal:
        return refusal.code
    return None


def test_a_network_gets_a_range_for_each_family_that_was_not_named(rows: Rows) -> None:
    chosen = rows.network("chosen").network.ranges
    assert [prefix.version for prefix in chosen] == [4, 6]
    named = rows.network("named", "10.9.0.0/24").network.ranges
    assert str(named[0]) == "10.9.0.0/24"
    assert named[1].version == 6
    assert not any(a.version == b.version and a.overlaps(b) for a in chosen for b in named)


def test_two_networks_cannot_have_one_name(rows: Rows) -> None:
    rows.network("home")
    with pytest.raises(Refusal) as caught:
        rows.network("home")
    assert code_of(caught) == "name_in_use"
    assert len(rows.read(networks.list_networks)) == 1


def test_joining_again_with_the_same_machine_key_and_token_gives_the_same_node_and_spends_nothing(
    rows: Rows,
) -> None:
    network = rows.network()
    secret = rows.token(network, uses=1)
    first = rows.join(Host(1), secret)
    assert rows.join(Host(1), secret) == first
    rows.now += 10 * 86400  # also when the token has expired meanwhile
    assert rows.join(Host(1), secret) == first
    [row] = rows.read(tokens.list_tokens, network.network.id)
    assert row.uses == 1


def test_a_token_admits_as_many_nodes_as_it_says(rows: Rows) -> None:
    secret = rows.token(rows.network(), uses=2)
    rows.join(Host(1), secret)
    rows.join(Host(2), secret)
    with pytest.raises(Refusal) as caught:
        rows.join(Host(3), secret)
    assert code_of(caught) == "token_used"


def test_a_token_without_a_limit_admits_everyone(rows: Rows) -> None:
    secret = rows.token(rows.network(), uses=0)
    assert len({rows.join(Host(number), secret).id for number in range(5)}) == 5


def test_an_unknown_an_expired_and_a_revoked_token_are_told_apart(rows: Rows) -> None:
    network = rows.network()
    secret, revoked = rows.token(network, expires_in=60), rows.token(network)
    rows.write(tokens.revoke_token, network.network.id, revoked.id, rows.now)
    rows.now += 61
    for wrong, code in (
        (secret_of(99), "token_unknown"),
        (secret, "token_expired"),
        (revoked, "token_revoked"),
    ):
        with pytest.raises(Refusal) as caught:
            rows.join(Host(1), wrong)
        assert code_of(caught) == code
    assert rows.read(nodes.list_nodes, network.network.id) == []


def test_a_refused_join_leaves_nothing_behind(rows: Rows) -> None:
    network = rows.network("tiny", "10.9.0.0/30", "fd00:9::/64")
    secret = rows.token(network)
    rows.join(Host(1), secret)
    rows.join(Host(2), secret)
    with pytest.raises(Refusal) as caught:
        rows.join(Host(3), secret)
    assert code_of(caught) == "network_full"
    [row] = rows.read(tokens.list_tokens, network.network.id)
    assert row.uses == 2
    held = rows.read(
        lambda connection: connection.execute(select(func.count()).select_from(addresses)).scalar()
    )
    assert held == 4


def test_a_wireguard_key_is_one_nodes_alone_in_the_whole_coordinator(rows: Rows) -> None:
    here, there = rows.network("here"), rows.network("there")
    rows.join(Host(1), rows.token(here))
    thief = Host(2)
    thief.wireguard_key = Host(1).wireguard_key
    for network in (here, there):
        with pytest.raises(Refusal) as caught:
            rows.join(thief, rows.token(network))
        assert code_of(caught) == "key_in_use"


def test_the_same_machine_with_another_wireguard_key_is_refused(rows: Rows) -> None:
    secret = rows.token(rows.network())
    rows.join(Host(1), secret)
    changed = Host(1)
    changed.wireguard_key = Host(2).wireguard_key
    with pytest.raises(Refusal) as caught:
        rows.join(changed, secret)
    assert code_of(caught) == "key_in_use"


def test_a_removed_node_cannot_come_back_by_its_used_up_token(rows: Rows) -> None:
    network = rows.network()
    secret = rows.token(network, uses=1)
    host = Host(1)
    old = rows.join(host, secret)
    rows.remove(host)
    with pytest.raises(Refusal) as caught:
        rows.join(host, secret)
    assert code_of(caught) == "token_used"
    new = rows.join(host, rows.token(network))
    assert new.id != old.id
    assert not set(new.addresses) & set(old.addresses)


def test_names_are_labels_and_unique_in_their_network(rows: Rows) -> None:
    network = rows.network()
    secret = rows.token(network)
    names = [rows.join(Host(number, name="Jürgen's Laptop"), secret).name for number in range(3)]
    assert names == ["jurgen-s-laptop", "jurgen-s-laptop-2", "jurgen-s-laptop-3"]
    other = rows.network("other")
    assert rows.join(Host(9, name="Jürgen's Laptop"), rows.token(other)).name == "jurgen-s-laptop"


def test_a_released_address_rests_for_seven_days(rows: Rows) -> None:
    network = rows.network("tiny", "10.9.0.0/30", "fd00:9::/64")
    secret = rows.token(network)
    hosts = [Host(1), Host(2)]
    given = [rows.join(host, secret).addresses[0] for host in hosts]
    assert [str(prefix) for prefix in given] == ["10.9.0.1/32", "10.9.0.2/32"]
    rows.remove(hosts[0])
    rows.now += REST_AGE - 1
    with pytest.raises(Refusal) as caught:
        rows.join(Host(3), secret_again := rows.token(network))
    assert code_of(caught) == "network_full"
    rows.now += 2
    assert rows.join(Host(3), secret_again).addresses[0] == given[0]


def test_no_address_is_given_twice_whoever_comes_and_goes(rows: Rows) -> None:
    network = rows.network("small", "10.9.0.0/27", "fd00:9::/64")
    rng = random.Random(3)
    secret = rows.token(network, expires_in=1e8)
    living: list[Host] = []
    for number in range(60):
        if living and rng.random() < 0.45:
            rows.remove(living.pop(rng.randrange(len(living))))
            rows.now += rng.choice([0, REST_AGE + 1])
        else:
            host = Host(number)
            if refusal_of(rows.join, host, secret) is None:
                living.append(host)
            else:
                assert len(living) > 20
        held = [
            address for row in rows.read(nodes.list_nodes, network.network.id) for address in row.addresses
        ]
        assert len(held) == len(set(held)) == 2 * len(living)
    span = [ipaddress.ip_network("10.9.0.0/27"), ipaddress.ip_network("fd00:9::/64")]
    assert all(any(a.version == p.version and a.subnet_of(p) for p in span) for a in held)  # type: ignore[arg-type]


def test_the_database_itself_refuses_a_second_owner_of_an_address(rows: Rows) -> None:
    network = rows.network()
    row = rows.join(Host(1), rows.token(network))
    with pytest.raises(IntegrityError):
        rows.write(
            lambda connection: connection.execute(
                addresses.insert().values(
                    network_id=row.network_id, range=str(network.network.ranges[0]), host=1, node_id="other"
                )
            )
        )


def test_revisions_have_no_holes_and_no_doubles_under_concurrent_writers(rows: Rows) -> None:
    network = rows.network()
    secret = rows.token(network)
    hosts = [Host(number) for number in range(24)]
    wishes = [
        admission.JoinWish(secret, "same", host.machine_key.public_key(), host.wireguard_key.public_key(), ())
        for host in hosts
    ]

    def join_and_sign(number: int) -> int:
        row, _ = rows.database.write(admission.join, wishes[number], random.SystemRandom(), rows.now)
        host = hosts[number]
        record = host.record(Membership(network.network, row.id, row.name, row.addresses))
        revision, changed = rows.database.write(nodes.put_record, record, rows.now)
        assert changed == {network.network.id}
        assert revision is not None
        return revision

    with ThreadPoolExecutor(8) as pool:
        revisions = sorted(pool.map(join_and_sign, range(len(hosts))))
    assert revisions == list(range(2, 2 + len(hosts)))
    logged = rows.read(
        lambda connection: (
            connection.execute(select(change_log.c.revision).order_by(change_log.c.revision)).scalars().all()
        )
    )
    assert logged == list(range(1, 2 + len(hosts)))
    found = rows.read(nodes.list_nodes, network.network.id)
    assert len({row.name for row in found}) == len({row.addresses for row in found}) == len(hosts)


def test_a_single_use_token_is_not_spent_twice_by_two_at_once(rows: Rows) -> None:
    network = rows.network()
    secret = rows.token(network, uses=1)

    def try_join(number: int) -> str | None:
        host = Host(number)
        wish = admission.JoinWish(
            secret, "x", host.machine_key.public_key(), host.wireguard_key.public_key(), ()
        )
        return refusal_of(rows.database.write, admission.join, wish, random.SystemRandom(), rows.now)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(try_join, range(8)), key=str) == [None] + ["token_used"] * 7


def test_a_record_has_to_name_what_the_coordinator_gave(rows: Rows) -> None:
    network = rows.network()
    host, other = Host(1), Host(2)
    rows.join(host, rows.token(network))
    rows.join(other, rows.token(network))
    assert host.membership is not None
    assert other.membership is not None
    record = host.record(host.membership)
    for wrong in (
        dataclasses.replace(record, addresses=other.membership.addresses),
        dataclasses.replace(record, addresses=record.addresses[:1]),
        dataclasses.replace(record, ranges=(ipaddress.ip_network("192.168.0.0/16"),)),
        dataclasses.replace(record, wireguard_key=other.wireguard_key.public_key()),
    ):
        with pytest.raises(Refusal) as caught:
            rows.write(nodes.put_record, wrong, rows.now)
        assert code_of(caught) == "record_mismatch"


def test_seq_only_grows_and_the_same_record_again_changes_nothing(rows: Rows) -> None:
    network = rows.network()
    host = rows.member(network, 1)
    assert rows.sign(host, seq=5) is not None
    assert rows.sign(host, seq=5) is None
    for old in (4, 1):
        with pytest.raises(Refusal) as caught:
            rows.sign(host, seq=old)
        assert code_of(caught) == "record_mismatch"


def test_the_log_names_what_was_touched_between_two_revisions(rows: Rows) -> None:
    network = rows.network()
    hosts = [rows.member(network, number) for number in range(3)]
    network_id = network.network.id
    before = rows.read(read_snapshot, network_id).revision
    rows.remove(hosts[0])
    rows.sign(hosts[1], seq=2)
    step = rows.read(read_step, network_id, before)
    assert step.changes.complete
    assert step.revision == before + 2
    assert step.members[hosts[0].id] is None
    assert step.members[hosts[1].id].record.seq == 2
    assert set(step.members) == {hosts[0].id, hosts[1].id}


@pytest.mark.parametrize("by", ["age", "rows"])
def test_a_trimmed_log_says_that_it_is_not_complete(rows: Rows, by: str) -> None:
    network = rows.network()
    rows.member(network, 1)
    rows.now += log.LOG_AGE + 10
    rows.member(network, 2)
    rows.member(network, 3)
    if by == "age":
        assert rows.write(tidy, rows.now) == 2
    else:
        assert rows.write(log.trim_log, rows.now, 10 * log.LOG_AGE, 2) == 2
    network_id = network.network.id
    assert not rows.read(read_step, network_id, 0).changes.complete
    assert not rows.read(read_step, network_id, 1).changes.complete
    assert rows.read(read_step, network_id, 2).changes.complete
    assert rows.read(read_step, network_id, 4).changes.complete
    rows.member(network, 4)
    assert rows.read(read_step, network_id, 2).revision == 5


def test_trimming_everything_still_lets_the_newest_revision_resume(rows: Rows) -> None:
    network = rows.network()
    rows.member(network, 1)
    rows.now += log.LOG_AGE + 10
    rows.write(tidy, rows.now)
    assert rows.read(read_step, network.network.id, 2).changes.complete
    assert not rows.read(read_step, network.network.id, 1).changes.complete


def test_deleting_a_network_leaves_only_the_stones_of_its_nodes(rows: Rows) -> None:
    network, kept = rows.network("gone"), rows.network("kept")
    host, stays = rows.member(network, 1), rows.member(kept, 2)
    rows.write(networks.delete_network, "gone", rows.now)
    assert [row.network.name for row in rows.read(networks.list_networks)] == ["kept"]
    assert rows.read(nodes.find_removed, network.network.id, host.id) == host.machine_key.public_key()
    assert rows.read(nodes.find_node, kept.network.id, stays.id) is not None
    for table in ("nodes", "tokens", "addresses", "change_log"):
        count = rows.read(
            lambda connection, table=table: connection.execute(
                text(f"SELECT count(*) FROM {table} WHERE network_id = :id"), {"id": network.network.id}
            ).scalar()
        )
        assert count == 0, table


def test_moving_the_coordinator_is_a_change_of_every_network(rows: Rows) -> None:
    first, second = rows.network("first"), rows.network("second")
    changed, ids = rows.database.write(networks.set_urls, ("https://new.example",), rows.now)
    assert changed
    assert ids == {first.network.id, second.network.id}
    assert rows.read(read_snapshot, first.network.id).network.urls == ("https://new.example",)
    changed, ids = rows.database.write(networks.set_urls, ("https://new.example",), rows.now)
    assert not changed
    assert not ids
