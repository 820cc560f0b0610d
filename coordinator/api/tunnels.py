"""The tunnels of a network, as both ends report them: the truth of the mesh, not of the database."""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

from coordinator.api.call import Call
from coordinator.api.table import PAGE, Endpoint, Needs, Query
from coordinator.store import nodes
from wgpy.mesh.encoding import JsonObject, MalformedMessage

_CURSOR: Final = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{32})")


def _after(text: str | None) -> tuple[str, str]:
    """Raises MalformedMessage."""
    if text is None:
        return "", ""
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise MalformedMessage("after: expected the `next` of an answer, got other text")
    return found[1], found[2]


async def list_tunnels(call: Call[None]) -> JsonObject:
    """One entry for each pair of nodes of which at least one said something."""
    after, limit, wanted = _after(call.query("after")), call.limit(), call.query("node")
    of = None
    if wanted is not None:
        of = (await call.read(nodes.find_node_named, call.network_id, wanted)).id
    channel = await call.context.hub.tunnels_of(call.network_id)
    members, lane = channel.view.members, channel.lane
    found = channel.board.pairs(
        members.__contains__, lambda node_id: lane.presence_of(node_id).online, after, of
    )
    since = call.number("since")
    if since is not None:
        found = (pair for pair in found if pair.told_at >= since)
    pairs = list(islice(found, limit + 1))
    is_more = len(pairs) > limit
    pairs = pairs[:limit]
    return {
        "tunnels": [
            pair.to_json() | {"a_name": members[pair.a].name, "b_name": members[pair.b].name}
            for pair in pairs
        ],
        "every": channel.report_every,
        "at": int(call.now),
        "next": f"{pairs[-1].a}.{pairs[-1].b}" if is_more else None,
    }


ENDPOINTS: Final = (
    Endpoint(
        "GET", "/v1/admin/networks/{network}/tunnels", list_tunnels, Needs.READ, "tunnel.list",
        "Its tunnels, as both ends report them",
        query=(
            *PAGE, Query("node", "those of this node alone: its name or id"),
            Query("since", "those that an end told of since then: the `at` of an answer before", int),
        ),
    ),
)  # fmt: skip
