"""What an admin adds to a network's names (docs/names.md)."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from sqlalchemy import Connection

from coordinator.api.call import Call
from coordinator.api.table import Endpoint, Needs, Subject
from coordinator.errors import Refusal
from coordinator.store import names, networks
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.names import MAX_DOMAINS, MAX_RECORDS, MAX_SERVERS, DomainServers, NameRecord, NetworkNames


class NewRecord(msgspec.Struct):
    """`name` without the network's suffix; `value` an address, or another name without the suffix."""

    name: str
    value: str


class NewDomain(msgspec.Struct):
    """Name servers (addresses) that know `domain` and all below it."""

    domain: str
    servers: Annotated[list[str], msgspec.Meta(min_length=1, max_length=MAX_SERVERS)]


class NewNames(msgspec.Struct):
    """All of a network's records and domains: what is not in it is gone."""

    records: Annotated[list[NewRecord], msgspec.Meta(max_length=MAX_RECORDS)]
    domains: Annotated[list[NewDomain], msgspec.Meta(max_length=MAX_DOMAINS)]


def _read(connection: Connection, _network_id: str, wanted: str) -> JsonObject | None:
    try:
        network = networks.find_network(connection, wanted).network
    except Refusal:
        return None
    return {"id": network.id, **names.read_names(connection, network.id).to_json()}


async def show_names(call: Call[None]) -> JsonObject:
    return (await call.read(names.read_names, call.network_id)).to_json()


async def set_names(call: Call[NewNames]) -> JsonObject:
    wanted = NetworkNames(
        tuple(NameRecord.parse(record.name, record.value) for record in call.body.records),
        tuple(DomainServers.parse(each.domain, each.servers) for each in call.body.domains),
    )
    return (await call.change(names.set_names, call.network_id, wanted, call.now)).to_json()


_NAMES: Final = Subject(_read, "network")
_PATH: Final = "/v1/admin/networks/{network}/names"

ENDPOINTS: Final = (
    Endpoint(
        "GET", _PATH, show_names, Needs.READ, "names.show", "Records and name servers that were added",
        subject=_NAMES,
    ),
    Endpoint(
        "PUT", _PATH, set_names, Needs.ADMIN, "names.set", "Put these in the place of those before",
        takes=NewNames, subject=_NAMES, codes=("not_found",), previews=True,
    ),
)  # fmt: skip
