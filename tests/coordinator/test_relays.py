"""Relays at the API: made, in every map, their tickets and what they ask; over TLS, who is let through."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from coordinator.api.relays import LOOK_INTERVAL
from coordinator.own_relay import relay_hosts
from coordinator.store.relays import list_relays, read_removed, set_own_relay
from tests.coordinator.asgi import IDENTITY_SEED, LEAF, Answer, Service, running_service, wait_until
from tests.coordinator.hosts import Follower
from tests.coordinator.rows import Rows
from wgpy.mesh.encoding import encode_b64u
from wgpy.mesh.relay_ticket import TICKET_AGE
from wgpy.mesh.relay_token import RelayToken
from wgpy.mesh.relays import MAX_RELAYS, RelayCheckin, RelayNews, RelayTickets, digest_of
from wgpy.mesh.signing import IdentityKey, RelayKey, RelayPublicKey, relay_checkin_input

HOME = "networks/home"
IDENTITY = IdentityKey(IDENTITY_SEED).public_key()


async def create(service: Service, name: str = "paris", **more: object) -> Answer:
    body = {"name": name, "endpoints": [f"{name}.example:3478"], **more}
    return await service.admin("POST", "relays", body)


async def checkin(
    service: Service,
    key: RelayKey,
    since: int,
    *,
    signed_by: RelayKey | None = None,
    kept_out: str | None = None,
) -> Answer:
    challenge = (await service.challenge()).challenge
    relay_id = key.public_key().id
    signature = (signed_by or key).sign(relay_checkin_input(IDENTITY.hash, LEAF, challenge, relay_id))
    asked = RelayCheckin(relay_id, challenge, signature, since, kept_out=kept_out)
    return await service.request("POST", "/v1/relay/checkin", body=asked.to_json())


async def test_a_relay_is_made_is_in_the_map_of_every_node_at_once_and_goes_as_fast(
    sqlite_rows: Rows,
) -> None:
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home"})
        _, bearer = await service.member(1)
        follower = Follower()
        async with service.watch(bearer, follower):
            await wait_until(lambda: follower.held is not None)
            made = await create(service, url="https://paris.example")
            assert made.status == 201, made.body
            token = RelayToken.decode(made.json["key"])
            assert (token.identity, token.key.public_key().id) == (IDENTITY, made.json["id"])

            def names() -> list[str]:
                assert follower.held is not None
                return [relay.name for relay in follower.held.map.network.relays]

            await wait_until(lambda: names() == ["paris"], 2)
            assert follower.held is not None
            (relay,) = follower.held.map.network.relays
            assert (relay.hosts, relay.url) == (("paris.example:3478",), "https://paris.example")
            assert relay.key == token.key.public_key()
            listed = (await service.admin("GET", "relays")).json["relays"]
            assert [each["name"] for each in listed] == ["paris"]
            assert "key" not in listed[0]
            assert (await service.admin("DELETE", "relays/paris")).status == 200
            await wait_until(lambda: names() == [], 2)
        assert not follower.refused


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"name": "Paris!"}, "malformed"),
        ({"endpoints": []}, "malformed"),
        ({"endpoints": ["paris.example"]}, "malformed"),
        ({"endpoints": ["paris.example:70000"]}, "malformed"),
        ({"endpoints": ["a b:1"]}, "malformed"),
        ({"url": "http://paris.example"}, "malformed"),
    ],
)
async def test_what_is_no_relay_is_refused(sqlite_rows: Rows, body: dict[str, object], code: str) -> None:
    async with running_service(sqlite_rows) as service:
        answer = await service.admin("POST", "relays", {"name": "paris", "endpoints": ["a.example:1"]} | body)
        assert (answer.status, answer.code) == (400, code)
        assert (await service.admin("GET", "relays")).json == {"relays": []}


async def test_names_are_used_once_and_there_are_so_many_relays_at_most(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        assert (await create(service)).status == 201
        again = await create(service)
        assert (again.status, again.code) == (409, "name_in_use")
        for number in range(MAX_RELAYS - 1):
            assert (await create(service, f"relay{number}")).status == 201
        assert (await create(service, "one-more")).code == "conflict"
        assert (await service.admin("DELETE", "relays/nobody")).code == "not_found"


async def test_a_node_gets_a_ticket_for_each_relay_and_nobody_else_does(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home"})
        ids = [(await create(service, name)).json["id"] for name in ("paris", "oslo")]
        host, bearer = await service.member(1)
        answer = await service.request("POST", "/v1/relay/tickets", bearer=bearer, body={})
        tickets = RelayTickets.from_json(answer.json).tickets
        assert [ticket.relay for ticket in tickets] == ids
        assert host.membership is not None
        for ticket in tickets:
            assert ticket.verify(IDENTITY)
            assert (ticket.network, ticket.node) == (host.membership.network.id, host.id)
            assert ticket.machine_key == host.machine_key.public_key()
            assert 0 <= service.context.clock() + TICKET_AGE - ticket.not_after < 60
        assert (await service.request("POST", "/v1/relay/tickets", body={})).status == 401


async def test_a_relay_hears_of_a_removed_node_within_a_second_and_once(sqlite_rows: Rows) -> None:
    sqlite_rows.now += 0.000_75  # what is told is in milliseconds
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home"})
        key = RelayToken.decode((await create(service)).json["key"]).key
        host, _ = await service.member(1)
        first = RelayNews.from_json((await checkin(service, key, 0)).json)
        assert first.removed == ()
        answers: list[RelayNews] = []

        async def ask() -> None:
            answers.append(RelayNews.from_json((await checkin(service, key, first.until)).json))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert answers == []
            await service.admin("DELETE", f"{HOME}/nodes/{host.id}")
            await wait_until(lambda: bool(answers), 2)
        assert host.membership is not None
        assert answers[0].removed == ((host.membership.network.id, host.id),)
        assert answers[0].until > first.until
        # What was told is no news: to the next question there is no answer until there is something new.
        with trio.move_on_after(2 * LOOK_INTERVAL) as patience:
            await checkin(service, key, answers[0].until)
        assert patience.cancelled_caught


async def test_a_relay_hears_within_a_second_who_is_kept_out_and_who_is_let_in_again(
    sqlite_rows: Rows,
) -> None:
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home"})
        key = RelayToken.decode((await create(service)).json["key"]).key
        host, bearer = await service.member(1)
        await service.member(2)
        assert host.membership is not None
        first = RelayNews.from_json((await checkin(service, key, 0, kept_out=digest_of(()))).json)
        assert first.kept_out == ()

        async def wait_news(known: str, edit: dict[str, object]) -> RelayNews:
            """The answer to a question that waited, told by the edit and not by its end."""
            news: list[RelayNews] = []

            async def ask() -> None:
                answer = await checkin(service, key, first.until, kept_out=known)
                news.append(RelayNews.from_json(answer.json))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert news == []
                changed = await service.edit(f"{HOME}/nodes/{host.id}", edit)
                assert changed.status == 200, changed.body
                await wait_until(lambda: bool(news), 2)
            return news[0]

        out = (host.membership.network.id, host.id)
        disabled = await wait_news(digest_of(()), {"disabled": True})
        assert (disabled.kept_out, disabled.removed) == ((out,), ())
        none = RelayTickets.from_json(
            (await service.request("POST", "/v1/relay/tickets", bearer=bearer, body={})).json
        )
        assert none.tickets == ()
        back = await wait_news(digest_of([out]), {"disabled": False})
        assert back.kept_out == ()
        again = await service.request("POST", "/v1/relay/tickets", bearer=bearer, body={})
        assert len(RelayTickets.from_json(again.json).tickets) == 1
        # One of an older version is not told, and so is not answered for it.
        with trio.move_on_after(2 * LOOK_INTERVAL) as patience:
            await checkin(service, key, first.until)
        assert patience.cancelled_caught


async def test_a_relay_has_to_prove_its_key(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        key = RelayToken.decode((await create(service)).json["key"]).key
        other = RelayKey(bytes(range(32)))
        assert (await checkin(service, key, 0, signed_by=other)).code == "bad_signature"
        assert (await checkin(service, other, 0)).code == "not_found"


def test_the_coordinators_own_relay_is_told_when_it_is_news_alone(sqlite_rows: Rows) -> None:
    key = RelayKey(bytes(range(32))).public_key()
    hosts, url = ("a.example:443",), "https://a.example"

    def tell(key: RelayPublicKey | None, hosts: tuple[str, ...], now: float) -> bool:
        return sqlite_rows.database.write(set_own_relay, key, hosts, url, now)[0]

    assert tell(key, hosts, 1.0)
    assert not tell(key, hosts, 2.0)
    assert tell(key, ("b.example:443",), 3.0)
    (row,) = sqlite_rows.database.read(list_relays)
    assert (row.hosts, row.is_own, row.name) == (("b.example:443",), True, "coordinator")
    another = RelayKey(bytes(32)).public_key()
    assert tell(another, hosts, 4.0)
    assert [row.key for row in sqlite_rows.database.read(list_relays)] == [another]
    assert tell(None, (), 5.0)
    assert not tell(None, (), 6.0)
    assert sqlite_rows.database.read(list_relays) == []
    assert sqlite_rows.database.read(read_removed, 0.0, 7.0) == []


def test_a_relays_hosts_are_those_of_the_coordinators_urls() -> None:
    urls = ("https://a.example", "https://192.0.2.1:8443", "https://[2001:db8::1]", "https://[2001:db8::2]:1")
    expected = ("a.example:5", "192.0.2.1:5", "[2001:db8::1]:5", "[2001:db8::2]:5")
    assert relay_hosts(urls, 5, 4) == expected
    assert relay_hosts(("https://a.example", "https://a.example:1"), 5, 4) == ("a.example:5",)


async def test_the_tunnel_of_a_coordinator_without_a_relay_is_not_there(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        answer = await service.request("GET", "/v1/relay/tunnel")
        assert (answer.status, answer.code) == (404, "not_found")


def test_octets_of_tickets_are_what_the_wire_says() -> None:
    assert RelayTickets.from_json({"tickets": []}).tickets == ()
    assert RelayTickets.from_json({"tickets": [encode_b64u(bytes(153))]}).tickets == ()
