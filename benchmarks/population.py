"""Who the light nodes of a benchmark are: joined once, kept in a file, and there again in the next run."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from benchmarks.light_node import LightNode
from coordinator.addresses import RandomSource
from coordinator.client import open_client
from coordinator.state_dir import StateDir
from coordinator.store import admission
from coordinator.store.database import Database, Write, parse_database_url
from coordinator.store.networks import read_standing
from coordinator.store.nodes import NodeRow, put_record
from tests.coordinator.process import Coordinator
from wgpy.mesh.token import Token
from wgpy.mesh.wire import Membership

BATCH: Final = 200


@dataclass(frozen=True)
class Shape:
    """How many nodes, and how many of them are in one network."""

    nodes: int
    per_network: int

    @property
    def networks(self) -> int:
        return -(-self.nodes // self.per_network)


def make_networks(coordinator: Coordinator, shape: Shape) -> list[Token]:
    """A token without limit for each."""
    tokens = []
    with open_client(StateDir(coordinator.state_dir)) as client:
        for network in range(shape.networks):
            name = f"n{network}"
            client.call("POST", "networks", body={"name": name, "ranges": [_range(network)]})
            made = client.call("POST", "networks", name, "tokens", body={"uses": 0})
            tokens.append(Token.decode(made["token"]))
    return tokens


def _range(network: int) -> str:
    return f"10.{network}.0.0/16" if network < 256 else f"172.{16 + network % 16}.0.0/16"


def make_nodes(
    shape: Shape, tokens: Sequence[Token], urls: Sequence[str], context: ssl.SSLContext | None
) -> list[LightNode]:
    """Not joined yet. Of several URLs each takes another one than the node before it."""
    return [
        LightNode(number, urls[number % len(urls)], tokens[number // shape.per_network], context)
        for number in range(shape.nodes)
    ]


async def at_once(
    count: int, work: Callable[[LightNode], Awaitable[None]], nodes: Sequence[LightNode]
) -> None:
    """`work` for every node, `count` of them at a time."""
    waiting = iter(nodes)

    async def worker() -> None:
        for node in waiting:
            await work(node)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(count):
            tasks.create_task(worker())


def fill(coordinator: Coordinator, shape: Shape, keep: Path) -> None:
    """All of them, as rows, by the functions that serve a join: for who looks at streams and not at joins.
    Leaves the coordinator stopped.
    """
    coordinator.start()
    tokens = make_networks(coordinator, shape)
    nodes = make_nodes(shape, tokens, [coordinator.url], None)
    coordinator.stop()
    database = Database(parse_database_url(f"sqlite:///{coordinator.state_dir / 'coordinator.db'}"))
    rng, now = random.SystemRandom(), time.time()
    for start in range(0, len(nodes), BATCH):
        batch = nodes[start : start + BATCH]
        joins = [Write(partial(_join, node, rng, now)) for node in batch]
        database.write_all(joins)
        for node, joined in zip(batch, joins, strict=True):
            node.host.membership = joined.result()
        signs = [Write(partial(_sign, node, now)) for node in batch]
        database.write_all(signs)
        for signed in signs:
            signed.result()
    database.close()
    save(keep, coordinator.port, tokens, nodes)


def _join(node: LightNode, rng: RandomSource, now: float, connection: Connection) -> Membership:
    host = node.host
    machine, wireguard = host.machine_key.public_key(), host.wireguard_key.public_key()
    wish = admission.JoinWish(node.token.secret, host.name, machine, wireguard, ("approval",), node.source)
    row = admission.join(connection, wish, rng, now)
    assert isinstance(row, NodeRow)
    standing = read_standing(connection, row.network_id)
    assert standing is not None
    return Membership(standing.network, row.id, row.name, row.addresses)


def _sign(node: LightNode, now: float, connection: Connection) -> None:
    assert node.host.membership is not None
    put_record(connection, node.host.record(node.host.membership, 1), now)


def save(path: Path, port: int, tokens: Sequence[Token], nodes: Sequence[LightNode]) -> None:
    """What a later run needs beside the coordinator's state."""
    members = [node.host.membership for node in nodes]
    value = {
        "port": port,
        "tokens": [token.encode() for token in tokens],
        "members": [None if member is None else member.to_json() for member in members],
    }
    path.write_text(json.dumps(value))


def load(path: Path, shape: Shape, context: ssl.SSLContext | None) -> tuple[int, list[LightNode]]:
    """The port that they know, and the nodes."""
    value = json.loads(path.read_text())
    tokens = [Token.decode(text) for text in value["tokens"]]
    nodes = make_nodes(shape, tokens, [f"https://127.0.0.1:{value['port']}"], context)
    for node, member in zip(nodes, value["members"], strict=True):
        node.host.membership = Membership.from_json(member)
    return value["port"], nodes
