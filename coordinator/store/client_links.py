"""Links by which a client's file is fetched once: `wgpyc_` and 256 random bits, of which SHA-256 is kept.

The file has the client's private key in it, so it is sealed under the link's own secret: who has the database
has no file. It is gone with the first use, or with its time.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from coordinator.errors import Refusal
from coordinator.store.audit import Actor, write_audit
from coordinator.store.clients import client_json, find_client
from coordinator.store.secret_text import CLIENT_LINK, encode_secret, parse_secret_untrusted
from coordinator.store.tables import client_links, clients
from coordinator.vault import WrappingKey
from wgpy.mesh.signing import BearerSecret

LINK_AGE: Final = 86400
"""Seconds for which a link is good, unless told otherwise."""
MAX_LINK_AGE: Final = 30 * 86400

_SPENT: Final = "this link was used, is over or not from here: ask for another, with a new key"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A client's file, once."""

    name: str
    text: str


def client_link(url: str, secret: BearerSecret) -> str:
    """The secret stands behind the `#`, which browsers send to nobody."""
    return f"{url}/client#{encode_secret(CLIENT_LINK, secret)}"


def parse_link_untrusted(text: str) -> BearerSecret | None:
    """Of a whole link, or of its secret."""
    return parse_secret_untrusted(CLIENT_LINK, text.rpartition("#")[2])


def _seal_of(secret: BearerSecret) -> WrappingKey:
    return WrappingKey(hashlib.sha256(b"wgpy-client-link-v1\0" + bytes(secret)).digest())


def add_link(
    connection: Connection, secret: BearerSecret, client_id: str, text: str, expires_at: float
) -> None:
    """Links of this client from before end."""
    connection.execute(delete(client_links).where(client_links.c.client_id == client_id))
    sealed = _seal_of(secret).wrap(client_id, text.encode())
    connection.execute(
        insert(client_links).values(
            id=secret.id,
            secret_hash=secret.hash,
            client_id=client_id,
            sealed_file=sealed,
            expires_at=expires_at,
        )
    )


def use_link(connection: Connection, text: str, address: str, now: float) -> Fetched:
    """Raises Refusal `client_link`: which of the reasons it is, a stranger is not told."""
    secret = parse_link_untrusted(text)
    row = None
    if secret is not None:
        taken = delete(client_links).where(client_links.c.id == secret.id).returning(client_links)
        row = connection.execute(taken).one_or_none()
    if secret is None or row is None:
        raise Refusal("client_link", _SPENT)
    data = _seal_of(secret).unwrap(row.client_id, row.sealed_file)
    if not hmac.compare_digest(row.secret_hash, secret.hash) or row.expires_at <= now or data is None:
        raise Refusal("client_link", _SPENT)
    mine = clients.c.id == row.client_id
    network_id = connection.execute(select(clients.c.network_id).where(mine)).scalar_one()
    client = find_client(connection, network_id, row.client_id)
    actor = Actor("stranger", secret.id, "download link", address)
    shown = client_json(client)
    write_audit(
        connection, actor, "client.fetch", network_id, now, before=shown, after=shown | {"link": "used"}
    )
    return Fetched(client.name, data.decode())


def links_until(connection: Connection, network_id: str, now: float) -> dict[str, float]:
    """By client: until when its link is good. Those without one, or that was used, are not there."""
    joined = client_links.join(clients, clients.c.id == client_links.c.client_id)
    rows = connection.execute(
        select(client_links.c.client_id, client_links.c.expires_at)
        .select_from(joined)
        .where(clients.c.network_id == network_id, client_links.c.expires_at > now)
    )
    return {row.client_id: row.expires_at for row in rows}


def drop_old_client_links(connection: Connection, now: float) -> None:
    connection.execute(delete(client_links).where(client_links.c.expires_at <= now))
