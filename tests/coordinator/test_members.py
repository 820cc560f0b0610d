"""Nodes as an admin changes them, tokens that say what their nodes are, and what time does to both."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from sqlalchemy import Connection, select

from coordinator.errors import Refusal
from coordinator.store import admission, networks, nodes, tables, tokens
from coordinator.store.jobs import Job
from coordinator.store.presence import LeaseRow, flush_presence
from coordinator.store.sweep import ask_for_keys, expire_nodes, remove_absent, watch_ephemeral
from tests.coordinator.asgi import Answer, Service, running_service, wait_until
from tests.coordinator.hosts import Follower, Host
from tests.coordinator.rows import Rows
from tests.coordinator.test_api import HOME, make_home
from wgpy.addresses import IPAddress
from wgpy.keys import PrivateKey
from wgpy.mesh.frames import FullFrame
from wgpy.mesh.netmap import Node
from wgpy.mesh.record import sign_record
from wgpy.mesh.rotation import KeyRequest
from wgpy.mesh.signing import BearerSecret, wireguard_proof

# --- tokens ---


async def test_a_token_says_what_its_node_is(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home", "ranges": ["10.7.0.0/24"]})
        terms = {
            "tags": ["servers", "rack-1", "servers"], "node_name": "db", "node_addresses": ["10.7.0.200"],
            "ephemeral_after": 3600,
        }  # fmt: skip
        token = await service.token("home", **terms)
        first = await service.join(Host(1), await service.token("home"))
        membership = await service.join(Host(2, "whatever"), token)
        assert membership.name == "db"
        assert str(membership.addresses[0]) == "10.7.0.200/32"
        assert str(first.addresses[0]) == "10.7.0.1/32"
        node = (await service.admin("GET", f"{HOME}/nodes/db")).json
        assert (node["tags"], node["ephemeral_after"]) == (["rack-1", "servers"], 3600)
        after = await service.join(Host(3), await service.token("home"))
        assert str(after.addresses[0]) == "10.7.0.2/32"


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"node_name": "db", "uses": 2}, "malformed"),
        ({"node_addresses": ["10.7.0.9"], "uses": 0}, "malformed"),
        ({"node_addresses": ["10.8.0.9"]}, "malformed"),
        ({"node_addresses": ["10.7.0.0"]}, "malformed"),
        ({"node_addresses": ["10.7.0.255"]}, "malformed"),
        ({"node_addresses": ["10.7.0.9", "10.7.0.10"]}, "malformed"),
        ({"node_addresses": ["nine"]}, "malformed"),
        ({"node_addresses": ["10.7.0.1"]}, "address_in_use"),
        ({"node_name": "host-1"}, "name_in_use"),
        ({"node_name": "Big Box"}, "malformed"),
        ({"tags": ["*"]}, "malformed"),
        ({"tags": [f"t{number}" for number in range(17)]}, "malformed"),
        ({"ephemeral_after": 59}, "malformed"),
    ],
)
async def test_terms_that_no_node_can_keep_are_refused(
    sqlite_rows: Rows, terms: dict[str, object], code: str
) -> None:
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home", "ranges": ["10.7.0.0/24"]})
        await service.member(1)
        answer = await service.admin("POST", f"{HOME}/tokens", terms)
        assert answer.code == code, answer.body
        assert len((await service.admin("GET", f"{HOME}/tokens")).json["tokens"]) == 1


def fixed(rows: Rows, network_id: str, *addresses: IPAddress, expires_in: float = 86400.0) -> BearerSecret:
    secret = BearerSecret(rows.rng.randbytes(32))
    terms = tokens.TokenTerms(node_addresses=addresses, expires_in=expires_in)
    rows.write(tokens.create_token, network_id, secret, terms, rows.now)
    return secret


def test_an_address_is_kept_for_the_tokens_node_until_the_token_ends_or_is_revoked(rows: Rows) -> None:
    network = rows.network("home", "10.7.0.0/29")
    network_id = network.network.id
    kept = network.network.ranges[0].network_address + 1
    secret = fixed(rows, network_id, kept, expires_in=3600)
    with pytest.raises(Refusal, match="keeps it"):
        fixed(rows, network_id, kept)
    others = [rows.join(Host(number), rows.token(network)).addresses[0] for number in range(5)]
    assert kept not in [prefix.network_address for prefix in others]
    with pytest.raises(Refusal) as full:
        rows.join(Host(9), rows.token(network))
    assert full.value.code == "network_full"
    assert rows.join(Host(10), secret).addresses[0].network_address == kept
    rows.write(nodes.remove_node, network_id, "host-10", rows.now)
    again = fixed(rows, network_id, kept)  # it rests for others; an admin who names it may have it
    rows.write(tokens.revoke_token, network_id, again.id, rows.now)
    assert rows.join(Host(11), rows.token(network)).addresses[0].network_address == kept


def test_a_kept_address_is_free_once_its_token_has_expired(rows: Rows) -> None:
    network = rows.network("home", "10.7.0.0/30")
    one, _two = network.network.ranges[0].hosts()
    fixed(rows, network.network.id, one, expires_in=60)
    rows.join(Host(1), rows.token(network))
    with pytest.raises(Refusal):
        rows.join(Host(2), rows.token(network))
    rows.now += 61
    assert rows.join(Host(2), rows.token(network)).addresses[0].network_address == one


def named(rows: Rows, network_id: str, name: str, **more: object) -> BearerSecret:
    secret = BearerSecret(rows.rng.randbytes(32))
    terms = tokens.TokenTerms(node_name=name, **more)  # type: ignore[arg-type]
    rows.write(tokens.create_token, network_id, secret, terms, rows.now)
    return secret


def test_a_name_is_kept_for_the_tokens_node_from_everybody_else(rows: Rows) -> None:
    network = rows.network()
    network_id = network.network.id
    secret = named(rows, network_id, "db")
    with pytest.raises(Refusal, match=f"token {secret.id} keeps the name 'db'"):
        named(rows, network_id, "db")
    other = Host(1, "db")
    assert rows.join(other, rows.token(network)).name == "db-2"
    with pytest.raises(Refusal, match="keeps the name"):
        rows.write(nodes.edit_node, network_id, "db-2", nodes.NodeEdit({"name": "db"}), rows.now)
    renamed = rows.database.write(nodes.rename_node, network_id, other.id, unique_from="db", now=rows.now)[0]
    assert renamed == "db-2"
    assert rows.join(Host(2, "whatever"), secret).name == "db"


@pytest.mark.parametrize("end", ["revoked", "expired"])
def test_a_kept_name_is_free_once_its_token_ends(rows: Rows, end: str) -> None:
    network = rows.network()
    secret = named(rows, network.network.id, "db", expires_in=60.0)
    if end == "revoked":
        rows.write(tokens.revoke_token, network.network.id, secret.id, rows.now)
    else:
        rows.now += 61
    assert rows.join(Host(1, "db"), rows.token(network)).name == "db"


def test_a_name_is_kept_while_the_join_that_spent_its_token_waits(rows: Rows) -> None:
    network = rows.network()
    network_id = network.network.id
    secret = named(rows, network_id, "db", approval=True, expires_in=60.0)
    host = Host(1)
    machine, wireguard = host.machine_key.public_key(), host.wireguard_key.public_key()
    wish = admission.JoinWish(secret, host.name, machine, wireguard, ("approval",))
    waiting = rows.write(admission.join, wish, rows.rng, rows.now)
    rows.now += 61
    assert rows.join(Host(2, "db"), rows.token(network)).name == "db-2"
    node = rows.write(admission.approve_join, network_id, waiting.id, None, rows.now)
    assert node.name == "db"


def test_hosts_with_one_name_get_one_each_however_long_it_is(rows: Rows) -> None:
    network = rows.network()
    secret = rows.token(network)
    found = [rows.join(Host(number, "r_p" + "x" * 70), secret).name for number in range(12)]
    assert len(set(found)) == 12
    assert max(map(len, found)) == 63
    assert rows.join(Host(50, "r%p"), secret).name == "r-p"


# --- edits ---


async def pair(service: Service) -> tuple[tuple[Host, str], tuple[Host, str]]:
    await make_home(service)
    return await service.member(1), await service.member(2)


def names(follower: Follower) -> set[str]:
    return follower.peer_names() if follower.held is not None else {"no map"}


async def test_a_rename_reaches_maps_within_a_second_and_names_stay_unique(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        (_, bearer), _ = await pair(service)
        follower = Follower()
        async with service.watch(bearer, follower):
            await wait_until(lambda: names(follower) == {"host-2"})
            assert (await service.edit(f"{HOME}/nodes/host-2", {"name": "alice"})).status == 200
            await wait_until(lambda: names(follower) == {"alice"}, 1)
        assert not follower.refused
        for wrong in ("host-1", "Alice", "a.b", "", "-a", "a" * 64, "0" * 32):
            answer = await service.edit(f"{HOME}/nodes/alice", {"name": wrong})
            assert answer.code == ("name_in_use" if wrong == "host-1" else "malformed"), wrong
        assert (await service.edit(f"{HOME}/nodes/nobody", {"name": "bob"})).code == "not_found"


async def test_a_disabled_node_is_in_nobodys_map_and_comes_back_as_it_was(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        (one, bearer), (two, other_bearer) = await pair(service)
        kept, other = Follower(), Follower()
        async with service.watch(bearer, kept), service.watch(other_bearer, other):
            await wait_until(lambda: names(kept) == {"host-2"} and names(other) == {"host-1"})
            answer = await service.edit(f"{HOME}/nodes/host-1", {"disabled": True})
            assert answer.json["disabled_at"] == sqlite_rows.now
            await wait_until(lambda: names(kept) == set() and names(other) == set(), 1)
            assert kept.held is not None
            assert isinstance(kept.held.map.self_node, Node)
            assert kept.held.map.self_node.extra == {"disabled": True}
            assert (await service.check_in(bearer)).status == 200
            await service.edit(f"{HOME}/nodes/host-1", {"disabled": False})
            await wait_until(lambda: names(kept) == {"host-2"} and names(other) == {"host-1"}, 1)
            assert kept.held is not None
            await wait_until(lambda: one.id in other.presence and two.id in kept.presence, 1)
        assert not kept.refused
        assert not other.refused


async def test_tags_and_pairs_decide_at_once_who_sees_whom(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        (_, bearer), (two, other_bearer) = await pair(service)
        follower, other = Follower(), Follower()
        async with service.watch(bearer, follower), service.watch(other_bearer, other):
            await wait_until(lambda: names(follower) == {"host-2"})
            await service.edit(HOME, {"visibility": [["a", "b"]]})
            await wait_until(lambda: not names(follower) and not names(other), 1)
            assert sum(isinstance(frame, FullFrame) for frame in follower.frames) == 1  # the first
            await service.edit(f"{HOME}/nodes/host-1", {"tags": ["a"]})
            await service.edit(f"{HOME}/nodes/host-2", {"tags": ["b"]})
            await wait_until(lambda: names(follower) == {"host-2"} and names(other) == {"host-1"}, 1)
            follower.presence.clear()
            await service.check_in(other_bearer, 7, endpoints=("10.0.0.7:1",))
            await wait_until(lambda: two.id in follower.presence, 1)
            await service.edit(HOME, {"visibility": []})
            await wait_until(lambda: not names(follower) and not names(other), 1)
            follower.presence.clear()
            await service.check_in(other_bearer, 8, endpoints=("10.0.0.8:1",))
            await service.edit(HOME, {"mtu": 1300})
            await wait_until(lambda: follower.held is not None and follower.held.map.network.mtu == 1300, 1)
            await trio.testing.wait_all_tasks_blocked(0.3)
            assert not follower.presence  # of who is not seen, nothing is told
            await service.edit(HOME, {"visibility": None})
            await wait_until(lambda: names(follower) == {"host-2"} and two.id in follower.presence, 1)
        assert not follower.refused
        assert not other.refused


async def test_edits_ask_for_if_match_and_are_audited(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await pair(service)
        path = f"{HOME}/nodes/host-1"
        seen = (await service.admin("GET", path)).headers["etag"]
        await service.edit(path, {"tags": ["x"]}, seen)
        assert (await service.edit(path, {"tags": ["y"]}, seen)).code == "changed"
        [entry] = (await service.admin("GET", "audit?action=node.edit")).json["entries"]
        assert (entry["before"]["tags"], entry["after"]["tags"]) == ([], ["x"])


# --- a new key ---


async def put_key(
    service: Service,
    host: Host,
    bearer: str,
    key: PrivateKey,
    seq: int,
    *,
    proven_by: PrivateKey | None = None,
) -> Answer:
    assert host.membership is not None
    record = sign_record(
        host.machine_key, key.public_key(), network=host.membership.network.id, node=host.id,
        addresses=host.membership.addresses, seq=seq,
    )  # fmt: skip
    challenge = await service.challenge()
    shared = (proven_by or key).exchange(challenge.ephemeral)
    proof = wireguard_proof(shared, challenge.challenge, host.machine_key.public_key())
    body = KeyRequest(record, challenge.challenge, proof).to_json()
    return await service.request("PUT", "/v1/node/key", body, bearer=bearer)


async def test_a_node_that_is_asked_takes_a_new_key_and_its_peers_hear_of_it(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        (one, bearer), (two, other_bearer) = await pair(service)
        mine, theirs = Follower(), Follower()
        async with service.watch(bearer, mine) as ended, service.watch(other_bearer, theirs):
            await wait_until(lambda: names(theirs) == {"host-1"})
            asked = await service.admin("POST", f"{HOME}/nodes/host-1/rotate")
            assert asked.json["rotation_wanted_at"] == sqlite_rows.now
            await wait_until(lambda: own_extra(mine) == {"rotate": True}, 1)
            key = PrivateKey(bytes(range(32)))
            for wrong, code in (
                (await put_key(service, one, bearer, key, 2, proven_by=two.wireguard_key), "bad_signature"),
                (await put_key(service, one, bearer, key, 1), "record_mismatch"),
                (await put_key(service, one, bearer, two.wireguard_key, 2), "key_in_use"),
                (await put_key(service, one, other_bearer, key, 2), "record_mismatch"),
            ):
                assert wrong.code == code
            assert (await put_key(service, one, bearer, key, 2)).status == 200
            await wait_until(lambda: peer_key(theirs, one.id) == key.public_key(), 1)
            await wait_until(ended.is_set, 1)  # the bearer's epoch is over
            assert (await service.check_in(bearer)).code == "session_expired"
        one.wireguard_key = key
        again = await service.session(one)
        assert (await put_key(service, one, again, key, 2)).json == {"revision": None}  # the answer was lost
        shown = (await service.admin("GET", f"{HOME}/nodes/host-1")).json
        assert (shown["rotation_wanted_at"], shown["key_made_at"]) == (None, sqlite_rows.now)
        [entry] = (await service.admin("GET", "audit?action=node.key")).json["entries"]
        assert entry["before"]["wireguard_key"] != entry["after"]["wireguard_key"] == str(key.public_key())


def own_extra(follower: Follower) -> object:
    mine = None if follower.held is None else follower.held.map.self_node
    return mine.extra if isinstance(mine, Node) else None


def peer_key(follower: Follower, node_id: str) -> object:
    peer = None if follower.held is None else follower.held.map.peers.get(node_id)
    return peer.record.wireguard_key if isinstance(peer, Node) else None


def test_nodes_are_asked_for_keys_by_age_a_few_at_a_time(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.store.sweep.KEYS_AT_ONCE", 2)
    network, other = rows.network(), rows.network("other")
    for number in range(3):
        rows.member(network, number)
    rows.member(other, 7)
    rows.write(
        networks.edit_network, network.network.id, networks.NetworkChanges({"rotate_after": 7200}), rows.now
    )
    rows.now += 7199
    assert rows.write(ask_for_keys, rows.now) == 0
    rows.now += 1
    assert [rows.write(ask_for_keys, rows.now) for _ in range(3)] == [2, 1, 0]


# --- time ---


def lease(rows: Rows, host: Host, until: float) -> None:
    rows.write(flush_presence, [], [LeaseRow(host.id, "process", until)])


def look(rows: Rows) -> int:
    rows.write(watch_ephemeral, rows.now)
    gone = rows.write(remove_absent, rows.now)
    assert isinstance(gone, int)
    return gone


def test_an_ephemeral_node_goes_once_it_was_offline_for_its_time_and_no_other(rows: Rows) -> None:
    network = rows.network()
    secret = BearerSecret(rows.rng.randbytes(32))
    terms = tokens.TokenTerms(uses=0, ephemeral_after=600)
    rows.write(tokens.create_token, network.network.id, secret, terms, rows.now)
    guest, other = rows.member(network, 1, secret), rows.member(network, 2, secret)
    rows.member(network, 3)
    for host in (guest, other):
        lease(rows, host, rows.now + 45)
    assert look(rows) == 0
    rows.now += 60  # both have gone
    assert look(rows) == 0
    rows.now += 500
    lease(rows, other, rows.now + 45)  # this one was back for a moment
    assert look(rows) == 0
    rows.now += 100
    assert look(rows) == 1
    left = [row.name for row in rows.read(nodes.list_nodes, network.network.id)]
    assert left == ["host-2", "host-3"]
    assert rows.read(nodes.find_removed, network.network.id, guest.id) is not None
    rows.now += 599
    assert look(rows) == 0
    rows.now += 1
    assert look(rows) == 1
    rows.now += 1e7
    assert look(rows) == 0


def test_an_ephemeral_node_that_was_never_seen_goes_too_and_one_made_to_stay_stays(rows: Rows) -> None:
    network = rows.network()
    host = rows.member(network, 1)
    edit = nodes.NodeEdit({"ephemeral_after": 60})
    rows.write(nodes.edit_node, network.network.id, host.id, edit, rows.now)
    look(rows)
    stays = nodes.NodeEdit({"ephemeral_after": None})
    rows.write(nodes.edit_node, network.network.id, host.id, stays, rows.now)
    rows.now += 1000
    assert look(rows) == 0
    rows.write(nodes.edit_node, network.network.id, host.id, edit, rows.now)
    look(rows)
    rows.now += 61
    assert look(rows) == 1


@pytest.mark.root
@pytest.mark.slow
def test_one_process_sweeps_at_a_time(postgres_database: object) -> None:
    rows = Rows(postgres_database)  # type: ignore[arg-type]
    network = rows.network()
    host = rows.member(network, 1)
    edit = nodes.NodeEdit({"expires_at": rows.now + 10})
    rows.write(nodes.edit_node, network.network.id, host.id, edit, rows.now)
    with rows.database.connect() as other, other.begin():
        other.exec_driver_sql(f"SELECT pg_advisory_xact_lock({int(Job.SWEEP)})")
        assert rows.write(expire_nodes, rows.now + 11) == 0
    assert rows.write(expire_nodes, rows.now + 11) == 1


def test_a_node_whose_time_is_over_is_kept_out_until_it_gets_a_later_end(rows: Rows) -> None:
    network = rows.network()
    host = rows.member(network, 1)
    network_id = network.network.id

    def edit(**changes: object) -> nodes.NodeRow:
        row = rows.write(nodes.edit_node, network_id, host.id, nodes.NodeEdit(changes), rows.now)
        assert isinstance(row, nodes.NodeRow)
        return row

    assert not edit(expires_at=rows.now + 10).is_disabled
    assert rows.write(expire_nodes, rows.now + 9) == 0
    rows.now += 10
    assert rows.write(expire_nodes, rows.now) == 1
    assert rows.write(expire_nodes, rows.now) == 0
    assert rows.read(nodes.find_node, network_id, host.id).is_disabled
    assert not edit(expires_at=rows.now + 10).is_disabled
    assert edit(expires_at=rows.now).is_disabled  # at once
    assert not edit(expires_at=None).is_disabled
    assert edit(disabled=True, expires_at=rows.now - 1).is_disabled
    assert edit(expires_at=None).is_disabled
    assert not edit(disabled=False).is_disabled


def absent_since(connection: Connection, node_id: str) -> object:
    table = tables.nodes
    return connection.execute(select(table.c.absent_since).where(table.c.id == node_id)).scalar()


async def test_time_bites_by_itself_while_the_coordinator_runs(
    sqlite_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.app.SWEEP_INTERVAL", 0.02)
    monkeypatch.setattr("coordinator.app.SETTLE_TIME", 100.0)
    async with running_service(sqlite_rows) as service:
        (_, bearer), (gone, _) = await pair(service)
        await service.edit(f"{HOME}/nodes/host-2", {"ephemeral_after": 60})
        follower = Follower()
        async with service.watch(bearer, follower):
            await wait_until(lambda: names(follower) == {"host-2"})
            sqlite_rows.now += 99  # too soon after the start for anybody to be missed
            await trio.sleep(0.2)
            assert names(follower) == {"host-2"}
            sqlite_rows.now += 2
            await wait_until(lambda: bool(sqlite_rows.read(absent_since, gone.id)), 5)
            sqlite_rows.now += 60
            await wait_until(lambda: names(follower) == set(), 5)
            assert sqlite_rows.read(nodes.find_node, gone.membership.network.id, gone.id) is None  # type: ignore[union-attr]
            await service.edit(f"{HOME}/nodes/host-1", {"expires_at": sqlite_rows.now + 5})
            sqlite_rows.now += 5
            await wait_until(
                lambda: (
                    follower.held is not None
                    and isinstance(follower.held.map.self_node, Node)
                    and bool(follower.held.map.self_node.extra)
                ),
                5,
            )
        entries = (await service.admin("GET", "audit?actor=coordinator")).json["entries"]
        assert [entry["action"] for entry in entries] == ["node.expire", "node.vanish"]
