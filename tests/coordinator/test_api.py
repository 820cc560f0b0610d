"""The routes: what a node does from its first join to its removal, and what is refused to whom."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from pathlib import Path

import pytest
import trio

from coordinator.api.edge import EXCEPTION_HANDLERS
from coordinator.app import ROUTES
from coordinator.auth import BEARER_AGE, CHALLENGE_AGE
from coordinator.ratelimit import RateLimit
from coordinator.store.log import LOG_AGE, trim_log
from tests.coordinator.asgi import (
    ADMIN_SECRET,
    IDENTITY_SEED,
    LEAF,
    SESSION_KEY,
    Service,
    running_service,
    wait_until,
)
from tests.coordinator.hosts import Follower, Host
from tests.coordinator.rows import Rows
from wgpy.mesh.encoding import encode_b64u
from wgpy.mesh.frames import RemovedFrame, read_frame
from wgpy.mesh.netmap import Node
from wgpy.mesh.signing import NO_LEAF
from wgpy.mesh.token import Token
from wgpy.mesh.wire import CheckinAnswer, Identity, Membership

HOME = "networks/home"


async def make_home(service: Service, name: str = "home") -> None:
    answer = await service.admin("POST", "networks", {"name": name})
    assert answer.status == 201, answer.body


# --- a node's life ---


async def test_the_identity_vouches_for_its_leaves(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        identity = Identity.from_json((await service.request("GET", "/v1/identity")).json)
    assert identity.verify()
    assert LEAF in identity.leaves


async def test_two_nodes_join_and_see_each_other(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        first, first_bearer = await service.member(1)
        follower = Follower()
        async with service.watch(first_bearer, follower):
            await wait_until(lambda: follower.held is not None)
            second, second_bearer = await service.member(2)
            await service.check_in(second_bearer, endpoints=("10.0.0.2:51820",))
            await wait_until(lambda: follower.peer_names() == {"host-2"}, 1)
            await wait_until(lambda: second.id in follower.presence, 1)
            await wait_until(lambda: len(follower.presence[second.id].endpoints) == 2, 1)
        assert not follower.refused
        assert follower.held is not None
        peer = follower.held.map.peers[second.id]
        assert isinstance(peer, Node)
        assert peer.record.verify()
        assert peer.record.wireguard_key == second.wireguard_key.public_key()
        shown = [str(endpoint) for endpoint in follower.presence[second.id].endpoints]
        assert shown == ["192.0.2.77:51820", "10.0.0.2:51820"]
        assert first.membership is not None
        assert {prefix.version for prefix in first.membership.addresses} == {4, 6}


async def test_a_join_answers_with_the_network_and_a_unique_label(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        token = await service.token("home", uses=0)
        names = [(await service.join(Host(number, "My Mac!"), token)).name for number in range(2)]
        assert names == ["my-mac", "my-mac-2"]
        again = await service.join(Host(0, "My Mac!"), token)
        assert again.name == "my-mac"
        assert again.network.urls == token.urls


async def test_what_the_join_must_prove(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        token = await service.token("home")
        host, other = Host(1), Host(2)
        challenge = await service.challenge()
        asked = host.join_request(token.secret, challenge, token.identity_hash, LEAF)
        elsewhere = host.join_request(token.secret, challenge, bytes(32), LEAF)
        for wrong in (
            dataclasses.replace(asked, name="another"),
            dataclasses.replace(asked, machine_key=other.machine_key.public_key()),
            dataclasses.replace(asked, wireguard_key=other.wireguard_key.public_key()),
            dataclasses.replace(asked, wireguard_proof=bytes(32)),
            dataclasses.replace(asked, token=dataclasses.replace(token).secret, signature=bytes(64)),
            elsewhere,
            host.join_request(token.secret, challenge, token.identity_hash, NO_LEAF),
        ):
            answer = await service.request("POST", "/v1/join", wrong.to_json())
            assert (answer.status, answer.code) == (403, "bad_signature")
        low_order = asked.to_json() | {"wireguard_key": "A" * 43 + "="}
        assert (await service.request("POST", "/v1/join", low_order)).code == "bad_signature"
        newer = asked.to_json() | {"wire": 2}
        assert (await service.request("POST", "/v1/join", newer)).code == "wire_version"
        assert (await service.request("POST", "/v1/join", asked.to_json())).status == 200


async def test_a_challenge_is_good_for_a_minute_and_only_ours(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        token = await service.token("home")
        challenge = await service.challenge()
        asked = Host(1).join_request(token.secret, challenge, token.identity_hash, LEAF)
        forged = dataclasses.replace(challenge, challenge=bytes(56))
        wrong = Host(1).join_request(token.secret, forged, token.identity_hash, LEAF)
        assert (await service.request("POST", "/v1/join", wrong.to_json())).code == "challenge_expired"
        sqlite_rows.now += CHALLENGE_AGE + 1
        assert (await service.request("POST", "/v1/join", asked.to_json())).code == "challenge_expired"


async def test_outside_pinned_mode_no_leaf_is_signed_and_tokens_have_no_pin(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows, pinned=False) as service:
        await make_home(service)
        token = await service.token("home", uses=0)
        assert not token.pinned
        assert (await service.try_join(Host(1), token, NO_LEAF)).status == 200
        assert (await service.try_join(Host(2), token, LEAF)).status == 200
        assert (await service.try_join(Host(3), token, b"x" * 32)).code == "bad_signature"


async def test_a_bearer_ends_after_a_quarter_of_an_hour(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        _, bearer = await service.member(1)
        assert (await service.check_in(bearer)).status == 200
        sqlite_rows.now += BEARER_AGE + 1
        answer = await service.check_in(bearer)
        assert (answer.status, answer.code) == (401, "session_expired")
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_check_in_answers_with_what_follows_and_everyones_presence(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        _, bearer = await service.member(1)
        follower = Follower()
        seen = []
        for number in (0, 2, 0):
            if number:
                await service.member(number)
            answer = (
                await service.check_in(bearer, number + 1, str(follower.since) if follower.since else None)
            ).json
            assert CheckinAnswer.from_json(answer)
            follower.take(json.dumps(answer["frame"]).encode())
            seen.append(answer["frame"]["kind"])
        assert seen == ["full", "delta", "keepalive"]
        assert follower.peer_names() == {"host-2"}


async def test_a_stream_resumes_by_delta_and_falls_back_to_the_whole_map(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        _, bearer = await service.member(1)
        follower = Follower()
        async with service.watch(bearer, follower):
            await wait_until(lambda: follower.held is not None)
        await service.member(2)
        follower.frames.clear()
        async with service.watch(bearer, follower, str(follower.since)):
            await wait_until(lambda: len(follower.frames) >= 2)
        assert follower.kinds() == ["presence", "delta"]
        sqlite_rows.write(trim_log, sqlite_rows.now, LOG_AGE, 1)
    async with running_service_again(sqlite_rows) as service:
        follower.frames.clear()
        async with service.watch(bearer, follower, "0123456789abcdef:1"):
            await wait_until(lambda: len(follower.frames) >= 2)
        assert follower.kinds() == ["presence", "full"]


def running_service_again(rows: Rows):  # type: ignore[no-untyped-def]
    rows.write(lambda connection: connection.exec_driver_sql("DELETE FROM api_keys"))
    return running_service(rows)


async def test_a_large_frame_goes_out_in_pieces(sqlite_rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.api.stream.PIECE", 100)
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        _, bearer = await service.member(1)
        await service.member(2)
        follower = Follower()
        async with service.watch(bearer, follower):
            await wait_until(lambda: follower.held is not None)
        assert follower.peer_names() == {"host-2"}
        assert not follower.refused


async def test_leaving_answers_with_the_signed_word_also_the_second_time(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        host, bearer = await service.member(1)
        for _ in range(2):
            answer = await service.request("DELETE", "/v1/node", bearer=bearer)
            frame = read_frame(answer.json)
            assert isinstance(frame, RemovedFrame)
            assert frame.verify(service.context.identity.public)
            assert frame.node == host.id


async def test_an_admins_removal_ends_the_session_at_once_and_tells_the_node(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        host, bearer = await service.member(1)
        follower = Follower()
        async with service.watch(bearer, follower) as ended:
            await wait_until(lambda: follower.held is not None)
            answer = await service.admin("DELETE", f"{HOME}/nodes/host-1")
            assert answer.status == 200
            with trio.fail_after(1):
                await ended.wait()
        assert follower.removed is not None
        assert follower.removed.verify(service.context.identity.public)
        assert host.membership is not None
        record = host.record(host.membership, 2).to_json()
        refused = await service.request("PUT", "/v1/node/record", record, bearer=bearer)
        assert refused.code == "session_expired"
        assert refused.json["removed"]["node"] == host.id
        polled = (await service.check_in(bearer)).json
        assert polled["frame"]["kind"] == "removed"
        assert polled["presence"]["nodes"] == {}
        async with service.watch(bearer, last := Follower()) as ended:
            await ended.wait()
        assert last.kinds() == ["removed"]


async def test_a_node_that_was_away_learns_of_its_removal_when_it_proves_who_it_is(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        host, _ = await service.member(1)
        await service.admin("DELETE", f"{HOME}/nodes/{host.id}")
        answer = await service.try_session(host)
        assert (answer.status, answer.code) == (404, "node_unknown")
        frame = read_frame(answer.json["removed"])
        assert isinstance(frame, RemovedFrame)
        assert frame.verify(service.context.identity.public)
        stranger = Host(2)
        stranger.membership = host.membership
        refused = await service.try_session(stranger)
        assert refused.code == "bad_signature"
        assert "removed" not in refused.json


async def test_a_node_of_another_database_is_unknown_and_told_nothing_to_forget(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        host, _ = await service.member(1)
        assert host.membership is not None
        host.membership = dataclasses.replace(host.membership, node="0" * 32)
        answer = await service.try_session(host)
        assert (answer.status, answer.code) == (404, "node_unknown")
        assert "removed" not in answer.json


# --- who may ---

BODIES = {
    "/v1/join": {},
    "/v1/session": {},
    "/v1/node/record": {},
    "/v1/checkin": {},
    "/v1/admin/networks": {"name": "stolen"},
    "/v1/admin/networks/{network}/tokens": {},
}


def target(path: str, node: str = "host-1") -> str:
    return re.sub(r"{\w+}", "x", path.replace("{network}", "home").replace("{node}", node))


async def test_every_route_of_the_document_exists_and_no_other() -> None:
    document = (Path(__file__).parents[2] / "docs" / "wire.md").read_text()
    written = {
        (method, re.sub("/[A-Z]+", "/…", path))
        for methods, path in re.findall(
            r"((?:(?:GET|POST|PUT|PATCH|DELETE)(?:, )?)+)\s+(/[A-Za-z][A-Za-z0-9/.-]*)", document
        )
        for method in methods.split(", ")
    }
    assert written == {(method, re.sub("/{\\w+}", "/…", path)) for method, path, _handler in ROUTES}


async def test_a_node_can_speak_only_for_itself(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        await make_home(service, "other")
        mine, bearer = await service.member(1)
        neighbour, _ = await service.member(2)
        foreigner, foreign_bearer = await service.member(3, "other")
        for victim in (neighbour, foreigner):
            assert victim.membership is not None
            forged = victim.record(victim.membership, 2)  # even with the victim's own signature
            answer = await service.request("PUT", "/v1/node/record", forged.to_json(), bearer=bearer)
            assert answer.code == "record_mismatch"
        assert mine.membership is not None
        stolen = dataclasses.replace(mine.record(mine.membership, 2), signature=bytes(64))
        answer = await service.request("PUT", "/v1/node/record", stolen.to_json(), bearer=bearer)
        assert answer.code == "record_mismatch"
        follower = Follower()
        async with service.watch(foreign_bearer, follower):
            await wait_until(lambda: follower.held is not None)
        assert follower.held is not None
        assert follower.held.map.network.name == "other"
        assert follower.peer_names() == set()
        assert set(follower.presence) <= {foreigner.id}


async def test_another_nodes_machine_key_opens_no_session(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        mine, _ = await service.member(1)
        victim, _ = await service.member(2)
        mine.membership = victim.membership
        assert (await service.try_session(mine)).code == "bad_signature"
        assert (await service.try_session(victim, NO_LEAF)).code == "bad_signature"


async def test_a_revoked_api_key_opens_nothing(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        assert (await service.admin("GET", "networks")).status == 200
        sqlite_rows.write(
            lambda connection: connection.exec_driver_sql("UPDATE api_keys SET revoked_at = 1.0")
        )
        assert (await service.admin("GET", "networks")).status == 401


# --- what comes in ---

NASTY: list[object] = [
    b"", b"{", b"[]", b"null", b"\xff\xfe", b'"text"', b"[" * 60000, b'{"wire": NaN}',
    {"wire": "1"}, {"wire": True}, {"wire": 1}, {"wire": 1, "token": 5}, {"since": 7},
    {"name": "x" * 64}, {"name": "a\x1b[31m"}, {"name": ""}, {"name": "Home"}, {"name": "-x"},
    {"name": "ok", "ranges": "10.0.0.0/8"}, {"name": "ok", "ranges": ["10.0.0.0/33"]},
    {"name": "ok", "ranges": ["0.0.0.0/0"]}, {"name": "ok", "ranges": ["127.0.0.0/8"]},
    {"name": "ok", "ranges": ["10.0.0.0/24", "10.0.0.0/16"]}, {"name": "ok", "ranges": ["fe80::/64"]},
    {"name": "ok", "ranges": ["10.0.0.0/31"]}, {"name": "ok", "ranges": ["10.0.0.0/24"] * 9},
    {"name": "ok", "mtu": 100}, {"name": "ok", "mtu": 99999}, {"name": "ok", "keepalive": -1},
    {"name": "ok", "keepalive": 1.5}, {"uses": -1}, {"uses": 10**9}, {"uses": "1"}, {"expires_in": 0},
    {"expires_in": 10**12}, {"expires_in": None, "uses": 2**64},
    {"since": None, "boot": -1, "sequence": 0, "listen_port": 1, "endpoints": []},
    {"since": None, "boot": 2**53, "sequence": 0, "listen_port": 1, "endpoints": []},
    {"since": None, "boot": 0, "sequence": 0, "listen_port": 0, "endpoints": []},
    {"since": "x", "boot": 0, "sequence": 0, "listen_port": 1, "endpoints": []},
    {"since": None, "boot": 0, "sequence": 0, "listen_port": 1, "endpoints": ["1.2.3.4:5"] * 17},
    {"since": None, "boot": 0, "sequence": 0, "listen_port": 1, "endpoints": ["example.com:5"]},
    {"since": None, "boot": 0, "sequence": 0, "listen_port": 1, "endpoints": ["[fe80::1%1]:5"]},
]  # fmt: skip


async def test_no_bad_body_gets_past_the_edge(sqlite_rows: Rows, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        _, bearer = await service.member(1)
        for method, path, _handler in ROUTES:
            if path not in BODIES or method == "GET":
                continue
            credential = service.admin_key if "/admin/" in path else bearer
            for nasty in NASTY:
                body = nasty
                if (
                    path.endswith("/tokens")
                    and isinstance(body, dict)
                    and not {"uses", "expires_in"} & set(body)
                ):
                    continue  # fields that it does not know
                if path.endswith("/networks") and isinstance(body, dict) and "name" not in body:
                    body = {"name": 7}
                answer = await service.request(method, target(path), body, bearer=credential)
                assert (answer.status, answer.code) == (400, "malformed"), (path, body, answer.body)
        assert [row["name"] for row in (await service.admin("GET", "networks")).json["networks"]] == ["home"]
        assert caplog.records == []


@pytest.mark.parametrize("since", ["", "x", "a:b", "a:-1", "a:" + "9" * 40, "%0a:1", "a:1:2"])
async def test_a_since_that_is_none_is_refused(sqlite_rows: Rows, since: str) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        _, bearer = await service.member(1)
        answer = await service.request("GET", f"/v1/watch?since={since}", bearer=bearer)
        assert answer.code == "malformed"


async def test_a_body_over_64_kib_is_refused(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        answer = await service.request("POST", "/v1/join", b" " * (64 * 1024 + 1))
        assert (answer.status, answer.code) == (413, "too_large")


async def test_what_is_not_there_is_a_problem_too(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        assert (await service.request("GET", "/nothing")).code == "not_found"
        answer = await service.request("GET", "/v1/join")
        assert (answer.status, answer.code) == (405, "method_not_allowed")
        assert answer.headers["allow"] == "POST"
        for method, path in (
            ("GET", "networks/none"), ("DELETE", "networks/none"), ("GET", "networks/none/nodes"),
            ("POST", "networks/none/tokens"), ("DELETE", "networks/none/tokens/x"),
        ):  # fmt: skip
            assert (await service.admin(method, path, {})).code == "not_found"
        await make_home(service)
        for method, path in (
            ("GET", f"{HOME}/nodes/x"), ("DELETE", f"{HOME}/nodes/x"),
            ("DELETE", f"{HOME}/tokens/x"),
        ):  # fmt: skip
            assert (await service.admin(method, path)).code == "not_found"
        assert (await service.admin("POST", "networks", {"name": "home"})).code == "name_in_use"


async def test_a_failure_of_ours_is_a_problem_without_details(
    sqlite_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise ZeroDivisionError("secret detail")

    async with running_service(sqlite_rows) as service:
        monkeypatch.setattr("coordinator.store.networks.list_networks", fail)
        answer = await service.admin("GET", "networks")
        assert (answer.status, answer.code) == (500, "internal")
        assert b"secret detail" not in answer.body
    assert Exception in EXCEPTION_HANDLERS


async def test_a_database_that_is_away_is_a_problem_that_passes(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        sqlite_rows.write(
            lambda connection: connection.exec_driver_sql("ALTER TABLE api_keys RENAME TO hidden")
        )
        answer = await service.admin("GET", "networks")
        assert (answer.status, answer.code) == (503, "unavailable")
        sqlite_rows.write(
            lambda connection: connection.exec_driver_sql("ALTER TABLE hidden RENAME TO api_keys")
        )
        assert (await service.admin("GET", "networks")).status == 200


async def test_strangers_who_ask_too_often_have_to_wait_and_members_do_not(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows, limit=RateLimit(1, 20)) as service:
        await make_home(service)
        _, bearer = await service.member(1)
        answers = [await service.request("POST", "/v1/challenge", {}) for _ in range(40)]
        limited = [answer for answer in answers if answer.code == "rate_limited"]
        assert 10 <= len(limited) < 40
        assert int(limited[0].headers["retry-after"]) >= 1
        assert (await service.request("GET", "/v1/admin/networks", bearer="wgpyk_x")).code == "rate_limited"
        assert (await service.check_in(bearer)).status == 200
        assert (await service.admin("GET", "networks")).status == 200
        service.address = "192.0.2.78"
        assert (await service.request("POST", "/v1/challenge", {})).status == 200
        sqlite_rows.now += 60
        service.address = "192.0.2.77"
        assert (await service.request("POST", "/v1/challenge", {})).status == 200


# --- secrets ---


async def test_no_secret_stands_in_the_database_or_in_the_log(
    sqlite_rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        token: Token = await service.token("home")
        host = Host(1)
        membership = await service.join(host, token)
        bearer = await service.session(host)
        record = host.record(membership).to_json()
        await service.request("PUT", "/v1/node/record", record, bearer=bearer)
        await service.check_in(bearer)
        await service.try_join(Host(2), token)
    folder = Path(str(sqlite_rows.database.url.database)).parent
    sqlite_rows.database.close()
    stored = b"".join(path.read_bytes() for path in folder.iterdir())
    logged = caplog.text.encode()
    secrets = [bytes(token.secret), ADMIN_SECRET, IDENTITY_SEED, SESSION_KEY]
    secrets += [bytes(host.machine_key), bytes(host.wireguard_key)]
    assert token.secret.hash in stored  # so the search would find them
    for place, content in (("database", stored), ("log", logged)):
        for secret in secrets:
            for spelling in (secret, encode_b64u(secret).encode(), secret.hex().encode()):
                assert spelling not in content, place
        assert bearer.encode() not in content
        assert service.admin_key.encode() not in content


async def test_a_listed_token_has_no_secret(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        token = await service.token("home", uses=3, expires_in=60)
        await service.join(Host(1), token)
        answer = await service.admin("GET", f"{HOME}/tokens")
        [row] = answer.json["tokens"]
        assert (row["id"], row["uses"], row["uses_allowed"], row["state"]) == (token.id, 1, 3, "usable")
        assert encode_b64u(bytes(token.secret)).encode() not in answer.body
        await service.admin("DELETE", f"{HOME}/tokens/{token.id}")
        assert (await service.try_join(Host(2), token)).code == "token_revoked"
        assert (await service.try_join(Host(1), token)).status == 200  # who is in stays in


async def test_membership_reads_as_the_wire_says(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        made = await service.admin(
            "POST", "networks", {"name": "lab", "ranges": ["10.55.1.0/24"], "mtu": 1300}
        )
        assert made.json["mtu"] == 1300
        membership = await service.join(Host(1), await service.token("lab"))
        assert isinstance(membership, Membership)
        assert str(membership.addresses[0]) == "10.55.1.1/32"
        assert membership.network.suffix == "lab.internal"


async def test_after_an_hour_without_the_coordinator_nodes_catch_up_by_the_difference(
    sqlite_rows: Rows,
) -> None:
    follower = Follower()
    async with running_service(sqlite_rows) as service:
        await make_home(service)
        host, bearer = await service.member(1)
        others = [await service.member(number) for number in (2, 3)]
        async with service.watch(bearer, follower):
            await wait_until(lambda: follower.held is not None)
            await service.check_in(others[0][1], endpoints=("198.51.100.2:1",))
            await wait_until(lambda: others[0][0].id in follower.presence)
    assert follower.peer_names() == {"host-2", "host-3"}
    sqlite_rows.now += 3600.0
    async with running_service_again(sqlite_rows) as service:  # another process, over the same rows
        removed = await service.admin("DELETE", f"{HOME}/nodes/host-3")
        assert removed.status == 200
        await service.member(4)
        refused = await service.request("GET", f"/v1/watch?since={follower.since}", bearer=bearer)
        assert refused.code == "session_expired"
        follower.frames.clear()
        async with service.watch(await service.session(host), follower, str(follower.since)):
            await wait_until(lambda: len(follower.frames) >= 2)
            assert follower.kinds()[:2] == ["presence", "delta"]
            assert not follower.refused  # so the map has the hash that the coordinator says
            assert follower.peer_names() == {"host-2", "host-4"}
            assert not follower.presence[others[0][0].id].online
            assert follower.presence[others[0][0].id].endpoints  # where it was is worth a try
        assert (await service.try_session(others[1][0])).json["removed"]["kind"] == "removed"
