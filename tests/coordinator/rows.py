"""A store with something in it, for tests below the API."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from coordinator.store import admission, networks, nodes, tokens
from coordinator.store.database import Database
from coordinator.store.migrate import migrate
from tests.coordinator.hosts import Host, seed
from wgpy.addresses import parse_prefix
from wgpy.mesh.signing import BearerSecret
from wgpy.mesh.wire import Membership

EPOCH = "0123456789abcdef"
URLS = ("https://coordinator.example:8443",)


class Rows:
    """A migrated database; every change says which second it happens in."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.rng = random.Random(7)
        self.now = 1_700_000_000.0
        migrate(database, EPOCH, self.now)
        self.write(networks.set_urls, URLS, self.now)

    def write(self, change: Callable[..., Any], *args: Any) -> Any:
        return self.database.write(change, *args)[0]

    def read(self, query: Callable[..., Any], *args: Any) -> Any:
        return self.database.read(query, *args)

    def network(self, name: str = "home", *ranges: str) -> networks.NetworkRow:
        wish = networks.NetworkWish(name, tuple(parse_prefix(text) for text in ranges))
        row = self.write(networks.create_network, wish, self.rng, self.now)
        assert isinstance(row, networks.NetworkRow)
        return row

    def token(self, network: networks.NetworkRow, uses: int = 0, expires_in: float = 86400.0) -> BearerSecret:
        secret = BearerSecret(self.rng.randbytes(32))
        self.write(
            tokens.create_token, network.network.id, secret, tokens.TokenTerms(uses, expires_in), self.now
        )
        return secret

    def join(self, host: Host, secret: BearerSecret) -> nodes.NodeRow:
        wish = admission.JoinWish(
            secret, host.name, host.machine_key.public_key(), host.wireguard_key.public_key(), ()
        )
        row = self.write(admission.join, wish, self.rng, self.now)
        assert isinstance(row, nodes.NodeRow)
        found = self.read(networks.read_standing, row.network_id)
        host.membership = Membership(found.network, row.id, row.name, row.addresses)
        return row

    def sign(self, host: Host, seq: int = 1) -> int | None:
        assert host.membership is not None
        revision = self.write(nodes.put_record, host.record(host.membership, seq), self.now)
        assert revision is None or isinstance(revision, int)
        return revision

    def member(self, network: networks.NetworkRow, number: int, secret: BearerSecret | None = None) -> Host:
        """A host that has joined and signed its record."""
        host = Host(number)
        self.join(host, secret or self.token(network))
        self.sign(host)
        return host

    def remove(self, host: Host) -> None:
        assert host.membership is not None
        self.write(nodes.remove_node, host.membership.network.id, host.id, self.now)


def secret_of(number: int) -> BearerSecret:
    return BearerSecret(seed("token", number))
