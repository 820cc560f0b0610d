"""A walk over every route with everybody who must not: each is refused, and nothing has changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import select

from coordinator.api.table import Endpoint, Needs
from coordinator.app import ENDPOINTS
from coordinator.auth import BEARER_AGE, Bearer, SessionKeys
from coordinator.rights import Right
from coordinator.store.tables import metadata
from tests.coordinator.asgi import SESSION_KEY, Service, running_service
from tests.coordinator.rows import Rows
from tests.coordinator.test_sign_in import add_person, first_admin

NONSENSE = ("", "x", "wgpyk_" + "A" * 43, "wgpyk_!", "ä" * 20, "A" * 102, "A" * 5000, "a b", "\x00")
HOME = "networks/home"
MOVES_BY_ITSELF = ("leases", "endpoints", "browser_sessions")


@dataclass(frozen=True)
class Asker:
    """Somebody, and the most that they hold on the network that the walk is about, and on the coordinator."""

    what: str
    bearer: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    here: Right | None = None
    everywhere: Right | None = None
    is_somebody: bool = True

    def may(self, endpoint: Endpoint) -> bool:
        if endpoint.needs is Needs.SIGNED_IN:
            return self.is_somebody
        right = endpoint.needs.right
        held = self.here if "{network}" in endpoint.path else self.everywhere
        return right is not None and held is not None and held >= right


def contents(rows: Rows) -> dict[str, list[Any]]:
    def read(connection: Any) -> dict[str, list[Any]]:
        tables = [table for table in metadata.sorted_tables if table.name not in MOVES_BY_ITSELF]
        return {table.name: [tuple(row) for row in connection.execute(select(table))] for table in tables}

    found: dict[str, list[Any]] = rows.read(read)
    return found


async def key(service: Service, scope: str, network: str | None = None, **more: object) -> str:
    made = await service.admin(
        "POST", "keys", {"name": f"{scope} {network}", "scope": scope, "network": network, **more}
    )
    assert made.status == 201, made.body
    return str(made.json["key"])


async def everybody(service: Service) -> list[Asker]:
    """Each kind of caller who holds something somewhere."""
    admin = await first_admin(service)
    people = {}
    for name, on, role in (
        ("viewer", "home", "viewer"), ("member", "home", "member"),
        ("stranger", "other", "admin"), ("nobody", "home", None),
    ):  # fmt: skip
        people[name] = await add_person(service, admin, name)
        path = f"/v1/admin/people/{name}/roles/{on}"
        put = await service.request("PUT", path, {"role": role}, headers=admin | {"if-match": "*"})
        assert put.status == 200, put.body
    return [
        Asker("a read key of this network", await key(service, "read", "home"), here=Right.READ),
        Asker("an enrol key of this network", await key(service, "enrol", "home"), here=Right.ENROL),
        Asker("an admin key of this network", await key(service, "admin", "home"), here=Right.ADMIN),
        Asker("an admin key of another network", await key(service, "admin", "other")),
        Asker("a read key", await key(service, "read"), here=Right.READ, everywhere=Right.READ),
        Asker("an enrol key", await key(service, "enrol"), here=Right.ENROL, everywhere=Right.ENROL),
        Asker("a viewer", headers=people["viewer"], here=Right.READ),
        Asker("a member", headers=people["member"], here=Right.OWN),
        Asker("an admin of another network", headers=people["stranger"]),
        Asker("a person without a role", headers=people["nobody"]),
    ]


async def outsiders(service: Service) -> list[Asker]:
    """Each kind of caller who is nobody to the administration."""
    _, bearer = await service.member(1)
    _, foreign_bearer = await service.member(2, "other")
    revoked = await key(service, "admin")
    [row] = [row for row in (await service.admin("GET", "keys")).json["keys"] if row["name"] == "admin None"]
    assert (await service.admin("DELETE", f"keys/{row['id']}")).status == 200
    expired = await key(service, "admin", None, expires_in=1)
    service.rows.now += 2
    found = [Asker("nobody"), Asker("a revoked key", revoked), Asker("an expired key", expired)]
    found += [Asker("a node", bearer), Asker("a node of another network", foreign_bearer)]
    found += [Asker(f"nonsense {text[:20]!r}", text) for text in NONSENSE]
    found.append(Asker("a cookie of nobody", headers={"cookie": "__Host-wgpy=" + "A" * 43}))
    return [Asker(one.what, one.bearer, one.headers, is_somebody=False) for one in found]


def target(endpoint: Endpoint) -> str:
    known = {"network": "home", "node": "host-1", "person": "viewer", "on": "home"}
    return re.sub(r"{(\w+)}", lambda found: known.get(found[1], "x"), endpoint.path)


ADMINISTRATION = [endpoint for endpoint in ENDPOINTS if endpoint.needs not in (Needs.NOTHING, Needs.NODE)]
OF_NODES = [endpoint for endpoint in ENDPOINTS if endpoint.needs is Needs.NODE]


FOR_EVERYONE = {
    "identity.show", "challenge.make", "node.join", "node.session", "setup.look", "setup.use", "session.open",
    "join.commit", "join.open", "relay.check_in", "relay.tunnel", "health.alive", "health.ready",
    "openapi.show",
    "session.ways", "session.begin", "session.return", "client.fetch",
}  # fmt: skip
"""What a stranger may ask: it is limited by address."""

LESS_THAN_ADMIN = {
    "network.list": Needs.SIGNED_IN,
    "token.create": Needs.ENROL,
    "join.claim": Needs.OWN,
    "token.revoke": Needs.ENROL,
    "join.approve": Needs.ENROL,
    "join.refuse": Needs.ENROL,
    "qr.draw": Needs.SIGNED_IN,
}
"""What below /v1/admin needs less than the right to administer, beside reading a network that is named."""


def test_what_routes_need_is_no_less_than_what_is_written_here() -> None:
    assert {endpoint.action for endpoint in ENDPOINTS if endpoint.needs is Needs.NOTHING} == FOR_EVERYONE
    for endpoint in ENDPOINTS:
        if endpoint.path.startswith("/v1/admin/"):
            reads = endpoint.method == "GET" and "{network}" in endpoint.path
            least = LESS_THAN_ADMIN.get(endpoint.action, Needs.READ if reads else Needs.ADMIN)
            assert endpoint.needs is least, endpoint.action


@pytest.mark.usefixtures("cheap_passwords")
async def test_every_route_refuses_who_has_not_the_right_and_nothing_changes(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        for name in ("home", "other"):
            await service.admin("POST", "networks", {"name": name})
        askers = [*await outsiders(service), *await everybody(service)]
        before = contents(sqlite_rows)
        refused = 0
        for endpoint in ADMINISTRATION:
            for asker in askers:
                if asker.may(endpoint):
                    continue
                refused += 1
                headers = {"if-match": "*", **asker.headers}
                answer = await service.request(
                    endpoint.method, target(endpoint), {}, bearer=asker.bearer, headers=headers
                )
                said = (endpoint.method, endpoint.path, asker.what, answer.body)
                if not asker.is_somebody:
                    assert (answer.status, answer.code) == (401, "unauthorized"), said
                elif "{network}" in endpoint.path and asker.here is None:
                    assert (answer.status, answer.code) == (404, "not_found"), said  # not even that it exists
                    assert b"there is home" not in answer.body
                else:
                    assert (answer.status, answer.code) == (403, "forbidden"), said
        assert refused > 10 * len(ADMINISTRATION)
        assert contents(sqlite_rows) == before


@pytest.mark.usefixtures("cheap_passwords")
async def test_what_is_refused_to_others_is_there_for_an_admin(sqlite_rows: Rows) -> None:
    """So that the walk above does not pass because its paths lead nowhere."""
    async with running_service(sqlite_rows) as service:
        for name in ("home", "other"):
            await service.admin("POST", "networks", {"name": name})
        await outsiders(service)
        await everybody(service)
        for endpoint in sorted(ADMINISTRATION, key=lambda endpoint: endpoint.method == "DELETE"):
            if "text/event-stream" in endpoint.media:
                continue  # it has no end
            answer = await service.request(
                endpoint.method, target(endpoint), {}, bearer=service.admin_key, headers={"if-match": "*"}
            )
            assert answer.code not in ("unauthorized", "forbidden", "internal"), (endpoint.path, answer.body)
            if "{" not in endpoint.path and endpoint.takes is None:
                assert answer.status in (200, 204), (endpoint.path, answer.body)


async def test_what_nodes_ask_opens_with_a_living_nodes_bearer_alone(sqlite_rows: Rows) -> None:
    async with running_service(sqlite_rows) as service:
        await service.admin("POST", "networks", {"name": "home"})
        host, bearer = await service.member(1)
        gone, gone_bearer = await service.member(2)
        await service.admin("DELETE", f"{HOME}/nodes/{gone.id}")
        network = host.membership.network.id if host.membership else ""
        now, keys = sqlite_rows.now, SessionKeys(SESSION_KEY)
        foreign = SessionKeys(bytes(32)).make_bearer(Bearer(network, host.id, 0), now)
        bad = {
            "no bearer": None,
            "an API key": service.admin_key,
            "another coordinator's": foreign,
            "of a node that never was": keys.make_bearer(Bearer(network, "0" * 32, 0), now),
            "of the wrong network": keys.make_bearer(Bearer("0" * 32, host.id, 0), now),
            "of another key epoch": keys.make_bearer(Bearer(network, host.id, 1), now),
            "expired": keys.make_bearer(Bearer(network, host.id, 0), now - BEARER_AGE),
            "cut": bearer[:-1],
            **{repr(text[:20]): text for text in NONSENSE},
        }
        before = contents(sqlite_rows)
        for endpoint in OF_NODES:
            for what, text in bad.items():
                answer = await service.request(endpoint.method, endpoint.path, {}, bearer=text)
                assert (answer.status, answer.code) == (401, "session_expired"), (endpoint.path, what)
            answer = await service.request(endpoint.method, endpoint.path, {}, bearer=gone_bearer)
            told = answer.json.get("removed") or answer.json.get("frame") or answer.json
            assert told["kind"] == "removed", endpoint.path  # the signed word, and nothing else
            assert not {"presence", "map"} & set(answer.json) or not answer.json["presence"]["nodes"]
        assert contents(sqlite_rows) == before
        assert (await service.check_in(bearer)).status == 200
