"""What gateways of external clients ask (docs/wire.md §7)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from coordinator.api.context import context_of
from coordinator.api.edge import answer, authorise_node, read_body
from coordinator.store import clients, ingress
from wgpy.mesh.ingress import KeyHandover


async def show_group(request: Request) -> Response:
    node = await authorise_node(request)
    context = context_of(request)
    group = await context.store.read(clients.read_group, node.network_id, node.id, context.clock())
    return answer(group.to_json())


async def hand_over_key(request: Request) -> Response:
    node = await authorise_node(request)
    context = context_of(request)
    handover = KeyHandover.from_json(await read_body(request))
    group = await context.store.write(ingress.hand_over, node.network_id, node.id, handover, context.clock())
    return answer({"public_key": str(group.public_key)})
