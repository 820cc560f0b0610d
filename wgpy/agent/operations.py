"""What the control socket offers: status, ping, netcheck, set, preview, down, leave."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

import trio

from wgpy.agent.agent import Agent
from wgpy.agent.control import Answer, Operation
from wgpy.agent.echo import echo
from wgpy.agent.reachability import (
    describe_port_mapping,
    describe_reachability,
    reachability_to_json,
)
from wgpy.agent.report import PeerReport
from wgpy.errors import ConfigError, CoordinatorError
from wgpy.mesh.encoding import Fields, JsonObject

ECHO_TIMEOUT: Final = 5.0
"""Seconds."""
NETCHECK_TIMEOUT: Final = 8.0
"""Seconds for STUN servers, which are given up after six."""
LEAVE_TIMEOUT: Final = 15.0
"""Seconds for the coordinator to take our leave."""


class Operations:
    """Of one agent. Each takes the request's fields."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def table(self) -> Mapping[str, Operation]:
        return {
            "status": self.status,
            "ping": self.ping,
            "netcheck": self.netcheck,
            "set": self.set,
            "preview": self.preview,
            "down": self.down,
            "leave": self.leave,
        }

    async def status(self, fields: Fields) -> Answer:
        """`{"op": "status"}` → the report (report.py)."""
        await self._agent.names.look()
        return Answer(self._agent.report().to_json())

    async def ping(self, fields: Fields) -> Answer:
        """`{"op": "ping", "node": name or address, "sequence": n, "timeout": s}` → one echo.

        `rtt_ms` null: no answer.
        """
        wanted, sequence = fields.text("node"), fields.integer("sequence", 0, 65535)
        limit = ECHO_TIMEOUT if fields.is_null("timeout") else fields.integer("timeout", 1, 60)
        peer, address = find_peer(self._agent.report().peers, wanted)
        rtt = await echo(ipaddress.ip_address(address), sequence, limit)
        after, _ = find_peer(self._agent.report().peers, peer.id)
        value: JsonObject = {
            "name": after.name,
            "address": address,
            "rtt_ms": None if rtt is None else round(rtt * 1000, 2),
            "path": after.path,
            "reason": after.reason,
            "endpoint": after.endpoint,
            "latest_handshake": after.latest_handshake,
        }
        return Answer(value)

    async def netcheck(self, fields: Fields) -> Answer:
        """`{"op": "netcheck"}`: ask the STUN servers anew → how we are seen (reachability.py)."""
        outside = self._agent.outside
        outside.begin()
        with trio.move_on_after(NETCHECK_TIMEOUT):
            await outside.wait_answered()
        views = outside.views()
        router = self._agent.router_port
        findings = [
            *describe_reachability(
                views, outside.own(), outside.servers(), has_port=router.mapping is not None
            ),
            describe_port_mapping(router.mapping, router.reason),
        ]
        return Answer(reachability_to_json(views, findings, router.mapping))

    async def set(self, fields: Fields) -> Answer:
        """`{"op": "set", "choices": {…}}`: change what was chosen here; `name` is the node's new name."""
        await self._agent.choose(fields.fields("choices").extra(frozenset()))
        state = self._agent.state
        return Answer({"name": state.node_name, "choices": state.choices.to_json()})

    async def preview(self, fields: Fields) -> Answer:
        """`{"op": "preview", "choices": {…}}` → `steps`: what `set` would change on this host, in words."""
        return Answer({"steps": self._agent.preview(fields.fields("choices").extra(frozenset()))})

    async def down(self, fields: Fields) -> Answer:
        """`{"op": "down"}`: stop; the state stays."""
        return Answer({"name": self._agent.state.name}, self._agent.stop)

    async def leave(self, fields: Fields) -> Answer:
        """`{"op": "leave"}`: tell the coordinator if it can be reached, stop, forget.

        `told` false: `reason` says why the coordinator still lists us.
        """
        reason = f"no answer within {LEAVE_TIMEOUT:.0f} s"
        told = False
        with trio.move_on_after(LEAVE_TIMEOUT):
            try:
                await self._agent.leave()
                told = True
            except CoordinatorError as error:
                reason = str(error)
        return Answer({"told": told, "reason": "" if told else reason}, self._agent.stop)


def find_peer(peers: tuple[PeerReport, ...], wanted: str) -> tuple[PeerReport, str]:
    """The peer of that name, address or id, and the address to ping. Raises ConfigError."""
    for peer in peers:
        if wanted in peer.addresses:
            return peer, wanted
    for peer in peers:
        # `alice.home.internal` is alice; 10.1.0.9 is not the peer called 10.
        name = wanted if wanted[-1:].isdigit() else wanted.partition(".")[0]
        if name == peer.name or wanted in (peer.id, peer.public_key):
            if not peer.addresses:
                raise ConfigError(f"{peer.name} has no address that this node follows")
            return peer, peer.addresses[0]
    known = ", ".join(peer.name for peer in peers) or "none yet"
    raise ConfigError(f"no node {wanted!r} in this network; there is: {known}")
