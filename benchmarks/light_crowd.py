"""Light nodes that are online and answer nothing: `python -m benchmarks.light_crowd TOKEN COUNT`, on the
coordinator's host. Says "ready" when all are there, and keeps them until its standard input ends.
"""

from __future__ import annotations

import asyncio
import ipaddress
import sys

from benchmarks.light_node import LightNode, client_context
from benchmarks.population import at_once
from wgpy.addresses import Endpoint
from wgpy.mesh.token import Token
from wgpy.mesh.wire import CheckinRequest

TOGETHER = 64


async def appear(node: LightNode) -> None:
    """Say where it is, and be there from then on."""
    wire = await node.connect()
    endpoint = Endpoint(ipaddress.IPv4Address(0x0AFF0000 + node.host.number), 51820)
    request = CheckinRequest(None, 1, 1, 51820, (endpoint,), brief=True)
    await node.call(wire, "POST", "/v1/checkin", request.to_json())
    node.hang_up()
    await node.watch()


async def run(text: str, count: int) -> None:
    token, context = Token.decode(text), client_context()
    nodes = [LightNode(number, token.urls[0], token, context) for number in range(1, count + 1)]
    # None is there before all have joined: each would be told of every one that comes, half a million times.
    await at_once(TOGETHER, LightNode.join, nodes)
    print("joined", flush=True)
    await at_once(TOGETHER, appear, nodes)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))
