from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.agent.server import STREAM, Certificate, Request, Send, Server, answer, chunk, problem, serving
from tests.mesh.examples import NETWORK_ID, identity_key, machine_key, make_node, node_id, wireguard_key
from tests.mesh.messages import (
    EPHEMERAL,
    make_challenge,
    make_held,
    make_membership,
    make_presence,
    make_removed,
    make_token,
)
from wgpy.agent.client import CoordinatorClient, Credentials, Trust
from wgpy.errors import CoordinatorError
from wgpy.mesh.delta import make_full
from wgpy.mesh.encoding import encode_json
from wgpy.mesh.frames import Frame, KeepaliveFrame, Since
from wgpy.mesh.signing import NO_LEAF, IdentityKey, join_input, leaves_input, session_input, wireguard_proof
from wgpy.mesh.wire import CheckinAnswer, CheckinRequest, JoinRequest, Session, SessionRequest

WHO = Credentials(NETWORK_ID, node_id(1), machine_key(1))
CHECKIN = CheckinRequest(None, 1, 1, 51820)


@pytest.fixture
def patient_clock() -> MockClock:
    """Jumps over any wait in which nothing at all happens, sockets included."""
    return MockClock(autojump_threshold=0.3)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path) as server:
        server.routes["POST /v1/challenge"] = answer(make_challenge().to_json())
        server.routes["POST /v1/session"] = answer(Session("bearer-1", 900).to_json())
        yield server


def client_of(server: Server, **changes: Any) -> CoordinatorClient:
    return CoordinatorClient([server.url], dataclasses.replace(server.trust, **changes))


async def refusal(client: CoordinatorClient, call: Any) -> CoordinatorError:
    with pytest.raises(CoordinatorError) as caught:
        await call
    assert "\n" not in str(caught.value)
    return caught.value


# --- who answers ----------------------------------------------------------------------------------


async def test_a_join_signs_what_the_document_says_and_saves_keys_before_it_is_sent(server: Server) -> None:
    server.routes["POST /v1/join"] = answer(make_membership().to_json())
    saved: list[int] = []
    token = make_token()
    membership = await client_of(server).join(
        token,
        machine_key=machine_key(1),
        wireguard_key=wireguard_key(1),
        name="alice",
        before=lambda: saved.append(len(server.seen)),
    )
    assert membership == make_membership()
    assert [request.path for request in server.seen] == ["/v1/identity", "/v1/challenge", "/v1/join"]
    assert saved == [2]
    join = JoinRequest.from_json(server.seen[-1].json)
    signed = join_input(
        identity_hash=token.identity_hash,
        leaf_hash=server.certificate.leaf_hash,
        challenge=join.challenge,
        token_id=token.id,
        wireguard_key=wireguard_key(1).public_key(),
        name="alice",
    )
    assert machine_key(1).public_key().verify(join.signature, signed)
    shared = EPHEMERAL.exchange(join.wireguard_key)
    assert join.wireguard_proof == wireguard_proof(shared, join.challenge, join.machine_key)


async def test_a_certificate_that_the_identity_does_not_vouch_for_stops_all_before_a_secret_is_sent(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Certificate(tmp_path / "other")
    leaves = (other.leaf_hash,)
    wrong = server.identity(leaves=leaves, signature=identity_key().sign(leaves_input(leaves)))
    server.routes["GET /v1/identity"] = answer(wrong.to_json())
    error = await refusal(client := client_of(server), client.checkin(WHO, CHECKIN))
    assert error.code == "leaf_mismatch"
    assert "pin mismatch" in str(error)
    assert [request.path for request in server.seen] == ["/v1/identity"]


async def test_leaves_signed_by_another_identity_are_not_believed(server: Server) -> None:
    stranger = IdentityKey(bytes(range(32)))
    for changes in ({"identity": stranger.public_key()}, {"signature": bytes(64)}):
        server.routes["GET /v1/identity"] = answer(server.identity(**changes).to_json())
        error = await refusal(client := client_of(server), client.checkin(WHO, CHECKIN))
        assert error.code == "identity_mismatch"
    assert {request.path for request in server.seen} == {"/v1/identity"}


async def test_a_token_of_another_coordinator_is_told_apart(server: Server) -> None:
    error = await refusal(client := client_of(server, identity_hash=bytes(32)), client.checkin(WHO, CHECKIN))
    assert error.code == "identity_mismatch"


async def test_outside_pinned_mode_the_systems_authorities_decide(server: Server) -> None:
    error = await refusal(client := client_of(server, pinned=False), client.checkin(WHO, CHECKIN))
    assert "its certificate is not valid" in str(error)
    assert server.seen == []


async def test_a_coordinator_of_another_wire_version_says_who_has_to_upgrade(server: Server) -> None:
    server.routes["GET /v1/identity"] = answer(server.identity(wire=2).to_json())
    error = await refusal(client := client_of(server), client.checkin(WHO, CHECKIN))
    assert str(error).endswith("speaks version 2 of the mesh's wire, this wgpy 1: upgrade wgpy")


# --- getting there --------------------------------------------------------------------------------


async def test_urls_are_tried_in_order_and_a_foreign_answer_does_not_end_the_search(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "second").mkdir()
    async with serving(tmp_path / "second") as stranger:
        stranger.routes["GET /v1/identity"] = problem("not_found", 404)
        client = CoordinatorClient(["https://127.0.0.1:1", stranger.url, server.url], server.trust)
        async with await client.connect() as connection:
            assert connection.url == server.url
        assert len(stranger.seen) == 1


async def test_when_nobody_answers_every_address_is_named_with_its_reason() -> None:
    client = CoordinatorClient(["https://127.0.0.1:1", "https://[::1]:2"], Trust(bytes(32), True))
    error = await refusal(client, client.connect())
    assert error.code == "unreachable"
    assert str(error) == (
        "cannot reach the coordinator at https://127.0.0.1:1: Connection refused; "
        "https://[::1]:2: Connection refused"
    )


async def test_a_name_that_does_not_resolve_is_said_in_words() -> None:
    client = CoordinatorClient(["https://no-such-host.invalid"], Trust(bytes(32), True))
    error = await refusal(client, client.connect())
    assert str(error).startswith("cannot reach the coordinator at https://no-such-host.invalid: ")
    assert "ame" in str(error)


async def test_a_server_without_tls_is_said_in_words() -> None:
    async def plain(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 smtp.example ready\r\n")
        await stream.receive_some()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, plain, listeners)
        url = f"https://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        client = CoordinatorClient([url], Trust(bytes(32), True))
        assert "no TLS 1.3" in str(await refusal(client, client.connect()))
        nursery.cancel_scope.cancel()


async def test_a_server_that_never_finishes_tls_is_given_up(patient_clock: MockClock) -> None:
    async def mute(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, mute, listeners)
        url = f"https://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        client = CoordinatorClient([url], Trust(bytes(32), True))
        assert "no answer within 10 s" in str(await refusal(client, client.connect()))
        nursery.cancel_scope.cancel()


async def test_a_server_that_never_answers_is_given_up(server: Server, patient_clock: MockClock) -> None:
    async def mute(request: Request, send: Send) -> None:
        await trio.sleep_forever()

    server.routes["GET /v1/identity"] = mute
    error = await refusal(client := client_of(server), client.connect())
    assert "silent for 20 s" in str(error)


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        answer(b"{}"),
        answer(b"[1]"),
        answer(b"\xff"),
        b"",
    ],
    ids=["no HTTP", "no length", "empty object", "a list", "not UTF-8", "nothing"],
)
async def test_nonsense_for_an_identity_is_one_line(server: Server, reply: bytes) -> None:
    async def nonsense(request: Request, send: Send) -> None:
        await send(reply)
        raise OSError("hang up")

    server.routes["GET /v1/identity"] = nonsense
    await refusal(client := client_of(server), client.connect())


# --- refusals and sessions ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", ["token_unknown", "token_used", "token_expired", "token_revoked", "key_in_use"]
)
async def test_a_refused_join_says_what_to_do(server: Server, code: str) -> None:
    server.routes["POST /v1/join"] = problem(code)
    client = client_of(server)
    keys = {"machine_key": machine_key(1), "wireguard_key": wireguard_key(1)}
    error = await refusal(client, client.join(make_token(), **keys, name="a", before=lambda: None))  # type: ignore[arg-type]
    assert (error.code, error.status) == (code, 403)
    assert "ask for a new one" in str(error) or "copied from another host" in str(error)


async def test_a_refusal_of_an_unknown_code_is_given_in_the_coordinators_words(server: Server) -> None:
    server.routes["POST /v1/checkin"] = problem("on_holiday", 503, "The coordinator is on holiday.")
    error = await refusal(client := client_of(server), client.checkin(WHO, CHECKIN))
    assert str(error).endswith(": The coordinator is on holiday.")
    assert (error.code, error.status) == ("on_holiday", 503)


async def test_a_session_is_bound_to_the_leaf_seen_and_used_again(server: Server) -> None:
    server.routes["POST /v1/checkin"] = answer(
        CheckinAnswer(make_full(make_held(7)), make_presence()).to_json()
    )
    client = client_of(server)
    for _ in range(2):
        assert (await client.checkin(WHO, CHECKIN)).presence == make_presence()
    paths = [request.path for request in server.seen]
    assert paths == ["/v1/identity", "/v1/challenge", "/v1/session", "/v1/checkin", "/v1/checkin"]
    session = SessionRequest.from_json(server.seen[2].json)
    for leaf, good in ((server.certificate.leaf_hash, True), (NO_LEAF, False)):
        signed = session_input(server.trust.identity_hash, leaf, NETWORK_ID, node_id(1), session.challenge)
        assert machine_key(1).public_key().verify(session.signature, signed) is good
    assert server.seen[-1].headers["authorization"] == "Bearer bearer-1"


async def test_a_bearer_that_ended_is_renewed_once_and_no_more(server: Server) -> None:
    server.routes["POST /v1/checkin"] = problem("session_expired", 401)
    error = await refusal(client := client_of(server), client.checkin(WHO, CHECKIN))
    assert error.code == "session_expired"
    assert [request.path for request in server.seen].count("/v1/session") == 2
    assert [request.path for request in server.seen].count("/v1/checkin") == 2


async def test_a_bearer_is_renewed_before_it_ends(server: Server, patient_clock: MockClock) -> None:
    server.routes["PUT /v1/node/record"] = answer(b"", 204)
    client = client_of(server)
    for _ in range(3):
        await client.put_record(WHO, make_node(1).record)
        await trio.sleep(800)
    assert [request.path for request in server.seen].count("/v1/session") == 2


async def test_leaving_needs_the_coordinators_signature_about_us(server: Server) -> None:
    client = client_of(server)
    server.routes["DELETE /v1/node"] = answer(make_removed().to_json())
    assert await client.leave(WHO) == make_removed()
    forged = dataclasses.replace(make_removed(), signature=bytes(64))
    other = dataclasses.replace(make_removed(), node=node_id(2))
    for frame in (forged, other):
        server.routes["DELETE /v1/node"] = answer(frame.to_json())
        assert "signed removal" in str(await refusal(client, client.leave(WHO)))


async def frames_of(client: CoordinatorClient) -> list[Frame | None]:
    return [frame async for frame in client.watch(WHO, None)]


# --- the stream -----------------------------------------------------------------------------------


async def test_frames_arrive_however_the_stream_is_cut(server: Server) -> None:
    last = KeepaliveFrame("e0a1", 7, make_held(7).map.hash)
    frames: list[Frame] = [make_full(make_held(7)), make_presence(), last]
    lines = b"".join(encode_json(frame.to_json()) + b"\n" for frame in frames) + b'\n{"kind":"news"}\n'

    async def stream(request: Request, send: Send) -> None:
        await send(STREAM)
        for start in range(0, len(lines), 37):
            await send(chunk(lines[start : start + 37]))
        await send(b"0\r\n\r\n")

    server.routes["GET /v1/watch"] = stream
    found = [frame async for frame in client_of(server).watch(WHO, Since("e0a1", 7))]
    assert found == [None, *frames]
    assert server.seen[-1].path == "/v1/watch?since=e0a1:7"


async def test_a_stream_silent_for_45_seconds_is_dead(server: Server, patient_clock: MockClock) -> None:
    async def stream(request: Request, send: Send) -> None:
        await send(STREAM + chunk(encode_json(make_presence().to_json()) + b"\n"))
        await trio.sleep(44)
        await send(chunk(b"\n"))
        await trio.sleep_forever()

    server.routes["GET /v1/watch"] = stream
    started = trio.current_time()
    with pytest.raises(CoordinatorError, match="silent for 45 s"):
        await frames_of(client_of(server))
    assert 89 <= trio.current_time() - started < 95


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"not json\n", "cannot read"),
        (b'{"kind":"full"}\n', "epoch: expected"),
        (b"[" * 70000, "a frame of more than 65536 octets"),
    ],
    ids=["no JSON", "no frame", "no end"],
)
async def test_a_malformed_stream_is_one_line(
    server: Server, line: bytes, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stream(request: Request, send: Send) -> None:
        await send(STREAM)
        await send(chunk(line))
        await trio.sleep_forever()

    monkeypatch.setattr("wgpy.agent.client.MAX_FRAME_SIZE", 65536)
    server.routes["GET /v1/watch"] = stream
    with pytest.raises(CoordinatorError, match=text):
        await frames_of(client_of(server))


async def test_a_stream_refused_with_401_takes_a_new_session_next_time(server: Server) -> None:
    server.routes["GET /v1/watch"] = problem("session_expired", 401)
    client = client_of(server)
    for _ in range(2):
        with pytest.raises(CoordinatorError) as caught:
            await frames_of(client)
        assert caught.value.status == 401
    assert [request.path for request in server.seen].count("/v1/session") == 2


async def test_nothing_shows_a_secret(server: Server) -> None:
    client = client_of(server)
    server.routes["POST /v1/join"] = problem("malformed", 400, "token: expected 32 octets, got other text")
    error = await refusal(
        client,
        client.join(
            make_token(),
            machine_key=machine_key(1),
            wireguard_key=wireguard_key(1),
            name="a",
            before=lambda: None,
        ),
    )
    secret = json.loads(server.seen[-1].body)["token"]
    assert secret not in str(error)
    assert secret not in repr(vars(client))
