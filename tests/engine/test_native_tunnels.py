"""Whole tunnels of the native engine, with what may differ between hosts: MTUs, offloads, the other end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.interop.tunnel import WIREGUARD_GO, Implementation, Tunnel
from tests.netns.hosts import Internet, Lab
from wgpy.engine.native import OFFLOADS

pytestmark = [pytest.mark.root, pytest.mark.slow]

SIZE = 16 << 20


def native(name: str = "native", **environment: str) -> Implementation:
    variables = {"WGPY_ENGINE": "native", **environment}
    return Implementation(
        name, ("wgpy-device", "--foreground"), tuple(f"{key}={value}" for key, value in variables.items())
    )


PORTABLE = Implementation("portable", ("wgpy-device", "--foreground"), ("WGPY_ENGINE=portable",))
OTHERS = (native(), PORTABLE, WIREGUARD_GO)


@pytest.fixture(scope="module")
def internet() -> Iterator[Internet]:
    with Lab("native-tunnels") as lab:
        yield Internet(lab)


def exchange(tunnel: Tunnel, mtu: int) -> None:
    """Random octets each way in both families, which have to arrive as they were."""
    ends = (tunnel.initiator, tunnel.responder)
    for end in ends:
        end.host.ip(f"link set wg0 mtu {mtu}")
    for sender, receiver in itertools.permutations(ends):
        sender.send_to(receiver, "v4", SIZE, timeout=60)
    tunnel.initiator.send_to(tunnel.responder, "v6", SIZE, timeout=60)
    tunnel.check_session()
    tunnel.close()


@pytest.mark.parametrize("without", [*OFFLOADS, "all"])
def test_a_tunnel_works_without_each_offload_at_either_end(internet: Internet, without: str) -> None:
    limited = native(f"without {without}", WGPY_DISABLE_OFFLOADS=without)
    exchange(Tunnel(internet, f"off-{without}", limited, native()), 1420)


@pytest.mark.parametrize("other", OTHERS, ids=str)
@pytest.mark.parametrize("mtu", [1280, 8920, 34736])
def test_a_tunnel_works_at_every_mtu_while_it_runs(
    internet: Internet, other: Implementation, mtu: int
) -> None:
    exchange(Tunnel(internet, f"mtu-{other}-{mtu}", native(), other), mtu)


def test_a_small_host_has_a_tunnel_too(internet: Internet) -> None:
    exchange(Tunnel(internet, "small", native("small", WGPY_MEMORY="4"), native()), 1420)
