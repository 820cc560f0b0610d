"""Many peers for one device: their keys, addresses, and the configuration that `wg setconf` loads.

Pure. Keys come from numbers, so that two processes know the same peers; they are good for nothing else.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator, Mapping

from wgpy.keys import PrivateKey

NEAR_NUMBER = 0
"""The number of the device that is measured; its peers count from 1."""
PORT = 51820
FIRST_INNER = ipaddress.IPv4Address("10.78.0.0")
FIRST_OUTER = ipaddress.IPv4Address("10.200.0.0")
OUTER_NETWORK = f"{FIRST_OUTER}/16"


def private_key(number: int) -> PrivateKey:
    key = bytearray(hashlib.sha256(b"benchmark" + number.to_bytes(4, "big")).digest())
    # As wg(8) prints keys; any 32 octets would do.
    key[0] &= 248
    key[31] = key[31] & 127 | 64
    return PrivateKey(key)


def inner_address(number: int) -> str:
    """In the tunnel: what a peer may send from."""
    return str(FIRST_INNER + number)


def outer_address(number: int) -> str:
    """Outside: each peer has its own, since devices limit handshakes by source."""
    return str(FIRST_OUTER + number)


def configuration(peers: int, endpoints: Mapping[int, str]) -> str:
    """What `wg setconf` takes: the device, and peers 1 to `peers`; `endpoints` by number."""
    return "\n".join(_lines(peers, endpoints)) + "\n"


def _lines(peers: int, endpoints: Mapping[int, str]) -> Iterator[str]:
    yield "[Interface]"
    yield f"PrivateKey = {private_key(NEAR_NUMBER).to_base64()}"
    yield f"ListenPort = {PORT}"
    for number in range(1, peers + 1):
        yield "[Peer]"
        yield f"PublicKey = {private_key(number).public_key()}"
        yield f"AllowedIPs = {inner_address(number)}/32"
        if number in endpoints:
            yield f"Endpoint = {endpoints[number]}"
