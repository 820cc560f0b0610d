"""Joins that wait: by token, and without one by a code that the host shows and an admin types."""

from __future__ import annotations

import dataclasses

import pytest

from coordinator.store import joins, networks
from coordinator.store.joins import HELD_AGE, KEYLESS_AGE, MAX_OF_ADDRESS, MAX_OF_NETWORK, OPEN_AGE
from tests.coordinator.asgi import LEAF, NEXT_LEAF, Service, running_service, wait_until
from tests.coordinator.hosts import Follower, Host
from tests.coordinator.rows import Rows
from tests.coordinator.test_api import HOME, make_home
from wgpy.mesh.frames import DeltaFrame
from wgpy.mesh.keyless import CommitAnswer, Waiting, encode_code, parse_code
from wgpy.mesh.wire import Membership

KEYLESS = {"keyless": True}


async def waiting(service: Service) -> list[dict[str, object]]:
    found: list[dict[str, object]] = (await service.admin("GET", f"{HOME}/joins")).json["joins"]
    return found


async def test_a_join_by_token_waits_where_the_network_says_so_and_is_let_in(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        await service.edit(HOME, {"approval": True})
        token, host = await service.token("home"), Host(1)
        answer = await service.try_join(host, token)
        assert answer.status == 202
        asked = Waiting.from_json(answer.json)
        assert asked.expires_in == int(HELD_AGE)
        assert (await service.try_join(host, token)).json == answer.json  # the same, and no second use
        [row] = await waiting(service)
        assert (row["id"], row["name"], row["needs_code"]) == (asked.join, "host-1", False)
        assert (await service.admin("GET", HOME)).json["waiting"] == 1
        assert (await service.admin("GET", f"{HOME}/nodes")).json["nodes"] == []
        approved = await service.admin("POST", f"{HOME}/joins/{asked.join}/approve", {})
        assert approved.status == 200, approved.body
        membership = Membership.from_json((await service.try_join(host, token)).json)
        assert membership.node == approved.json["id"] == asked.join
        assert await waiting(service) == []
        assert (await service.try_join(Host(2), token)).code == "token_used"


@pytest.mark.parametrize(("network", "token", "waits"), [(True, False, False), (False, True, True)])
async def test_the_token_overrules_the_network(
    sqlite_rows: Rows, network: bool, token: bool, waits: bool
) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        await service.edit(HOME, {"approval": network})
        answer = await service.try_join(Host(1), await service.token("home", approval=token))
        assert answer.status == (202 if waits else 200)


async def test_a_node_that_cannot_wait_is_told_so_and_spends_nothing(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        token, old = await service.token("home", approval=True), Host(1)
        old.capabilities = ()
        assert (await service.try_join(old, token)).code == "needs_approval"
        assert (await service.try_join(Host(2), token)).status == 202


async def test_a_refused_join_hears_so_and_stays_refused(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        token, host = await service.token("home", approval=True), Host(1)
        await service.try_join(host, token)
        [row] = await waiting(service)
        assert (await service.admin("POST", f"{HOME}/joins/{row['id']}/refuse")).status == 200
        assert (await service.try_join(host, token)).code == "join_refused"
        assert await waiting(service) == []
        assert (await service.admin("POST", f"{HOME}/joins/{row['id']}/approve", {})).code == "not_found"
        sqlite_rows.now += HELD_AGE + 1
        assert (await service.try_join(host, token)).status == 403


async def test_without_a_token_the_code_of_the_hosts_screen_lets_it_in_and_no_other(
    sqlite_rows: Rows,
) -> None:
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home", **KEYLESS})
        host, other = Host(1), Host(2)
        made, code = await service.ask_keyless(host)
        _, wrong = await service.ask_keyless(other)
        [row, _] = await waiting(service)
        assert row["needs_code"]
        assert code not in str(await waiting(service))
        path = f"{HOME}/joins/{made.join}/approve"
        for body in ({}, {"code": wrong}, {"code": None}):
            assert (await service.admin("POST", path, body)).code == "wrong_code"
        assert (await service.admin("POST", path, {"code": "nonsense!"})).code == "malformed"
        answer, _ = await service.open(host, made)
        assert answer.status == 202
        typed = code.lower().replace("-", " ").replace("0", "o").replace("1", "l")
        approved = await service.admin("POST", path, {"code": typed})
        assert approved.status == 200, approved.body
        answer, _ = await service.open(host, made)
        host.membership = Membership.from_json(answer.json)
        assert host.id == made.join
        assert await service.session(host)
        assert (await service.open(host, made))[0].json == answer.json  # a lost answer costs nothing


async def test_who_sits_between_has_another_code_on_either_side(sqlite_rows: Rows) -> None:
    """The host speaks to somebody else, who speaks to the coordinator with keys of his own."""
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home", **KEYLESS})
        host, between = Host(1), Host(2)
        made, code_there = await service.ask_keyless(between)
        _, code_here = await service.open(host, made, leaf=bytes(32))  # the leaf is his, the answer a refusal
        assert code_here != code_there
        answer = await service.admin("POST", f"{HOME}/joins/{made.join}/approve", {"code": code_here})
        assert answer.code == "wrong_code"


async def test_only_what_was_committed_to_can_be_opened(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home", **KEYLESS})
        host = Host(1)
        made = CommitAnswer.from_json((await service.commit(host)).json)
        assert CommitAnswer.from_json((await service.commit(host)).json) == made
        assert (await service.open(Host(2), made))[0].code == "bad_signature"
        other = Host(1)
        other.nonce = bytes(32)
        assert (await service.open(other, made))[0].code == "bad_signature"
        assert (await service.open(host, dataclasses.replace(made, join="0" * 32)))[0].code == "join_unknown"
        assert (await service.open(host, made, leaf=bytes(32)))[0].code == "bad_signature"
        assert await waiting(service) == []
        assert (await service.open(host, made, leaf=NEXT_LEAF))[0].status == 202
        before = sqlite_rows.now
        sqlite_rows.now += OPEN_AGE + 1  # opened in time: the hour counts
        assert (await service.open(host, made, leaf=LEAF))[0].status == 202
        sqlite_rows.now = before + KEYLESS_AGE + 1
        assert (await service.open(host, made))[0].code == "join_unknown"
        assert await waiting(service) == []


async def test_a_commitment_that_is_not_opened_is_forgotten_after_a_minute(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home", **KEYLESS})
        host = Host(1)
        made = CommitAnswer.from_json((await service.commit(host)).json)
        sqlite_rows.now += OPEN_AGE + 1
        assert (await service.open(host, made))[0].code == "join_unknown"
        again = CommitAnswer.from_json((await service.commit(host)).json)
        assert again.nonce != made.nonce


async def test_a_network_that_takes_no_strangers_looks_like_one_that_is_not_there(
    sqlite_rows: Rows,
) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        closed, missing = await service.commit(Host(1)), await service.commit(Host(1), "nowhere")
        assert closed.code == missing.code == "not_keyless"
        assert closed.body == missing.body


async def test_what_strangers_can_leave_is_bounded_by_address_and_by_network(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        for name in ("home", "other"):
            await service.admin("POST", "networks", {"name": name, **KEYLESS})
        for number in range(MAX_OF_ADDRESS):
            assert (await service.commit(Host(number), ("home", "other")[number % 2])).status == 200
        refused = await service.commit(Host(99))
        assert (refused.status, refused.code) == (429, "too_many_joins")
        for number in range(100, 100 + MAX_OF_NETWORK):
            service.address = f"198.51.100.{number - 99}"
            answer = await service.commit(Host(number))
            if answer.status != 200:
                break
        assert answer.code == "too_many_joins"
        assert number == 100 + MAX_OF_NETWORK - (MAX_OF_ADDRESS + 1) // 2
        sqlite_rows.now += OPEN_AGE + 1
        assert (await service.commit(Host(number))).status == 200
        # an IPv6 customer's /64 is one address
        for last in range(MAX_OF_ADDRESS + 1):
            service.address = f"2001:db8::{last}"
            answer = await service.commit(Host(300 + last))
        assert answer.code == "too_many_joins"


async def test_an_admin_who_looks_hears_of_a_join_and_nodes_do_not(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home", **KEYLESS})
        _, bearer = await service.member(1)
        follower, headers = Follower(), {"authorization": f"Bearer {service.admin_key}"}
        async with service.watch(bearer, follower):
            await wait_until(lambda: follower.held is not None)
            revision = follower.held.revision if follower.held is not None else 0
            async with service.events("home", headers) as heard:
                await wait_until(lambda: bool(heard))
                before = len(heard)
                await service.ask_keyless(Host(2))
                await wait_until(lambda: len(heard) > before, 1)
        assert follower.held is not None
        assert follower.held.revision == revision
        assert not any(isinstance(frame, DeltaFrame) for frame in follower.frames)


async def test_approval_and_refusal_are_audited_and_codes_are_nowhere(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home", **KEYLESS})
        made, code = await service.ask_keyless(Host(1))
        gone, _ = await service.ask_keyless(Host(2))
        await service.admin("POST", f"{HOME}/joins/{made.join}/approve", {"code": code})
        await service.admin("POST", f"{HOME}/joins/{gone.join}/refuse")
        [refused, approved] = (await service.admin("GET", "audit?action=join")).json["entries"]
        assert (approved["action"], refused["action"]) == ("join.approve", "join.refuse")
        assert approved["before"]["name"] == "host-1"
        assert approved["after"]["addresses"]
        assert refused["after"]["refused_at"] == sqlite_rows.now
        assert (
            code
            not in (await service.request("GET", "/v1/admin/audit", bearer=service.admin_key)).body.decode()
        )


async def test_joins_by_token_are_audited_with_the_address(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        host, bearer = await service.member(1)
        await service.request("DELETE", "/v1/node", bearer=bearer)
        [left, joined] = (await service.admin("GET", "audit?action=node")).json["entries"]
        assert (joined["action"], left["action"]) == ("node.join", "node.leave")
        assert (joined["actor"], joined["address"]) == (host.name, service.address)


def test_joins_whose_time_is_over_are_dropped_on_either_database(rows: Rows) -> None:
    wish = networks.NetworkWish("home", (), KEYLESS)
    network = rows.write(networks.create_network, wish, rows.rng, rows.now)
    source = joins.Source("192.0.2.1", "192.0.2.1")
    made = rows.write(joins.commit_join, "home", bytes(32), source, rows.rng, rows.now)
    assert rows.write(joins.commit_join, network.network.id, bytes(32), source, rows.rng, rows.now) == made
    assert rows.write(joins.drop_old_joins, rows.now) == 0
    assert rows.write(joins.drop_old_joins, rows.now + OPEN_AGE) == 1


@pytest.mark.parametrize("code", [0, 1, 2**30 - 1, 123456789])
def test_a_code_is_read_as_it_is_written(code: int) -> None:
    assert parse_code(encode_code(code)) == code
    assert parse_code(encode_code(code).lower().replace("-", "")) == code
