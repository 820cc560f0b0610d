"""Two devices with utuns, the portable engine and real sockets: a tunnel, as far as it goes without a Mac."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from ipaddress import ip_address, ip_network

import pytest
import trio

from tests.darwin.kernel import FakeKernel
from wgpy.addresses import Endpoint
from wgpy.darwin.utun import Utun
from wgpy.device import Device, open_device
from wgpy.engine.portable_io import PortableDeviceEngine
from wgpy.keys import PrivateKey
from wgpy.uapi.messages import AddAllowedIp, SelectPeer, SetEndpoint, SetPrivateKey

KEYS = (PrivateKey(bytes([7] * 32)), PrivateKey(bytes([9] * 32)))
ADDRESSES = (("10.0.0.1/32", "fd00::1/128"), ("10.0.0.2/32", "fd00::2/128"))


def packet(version: int, source: int, destination: int) -> bytes:
    """UDP without a checksum, from one of the two to the other."""
    payload = bytes.fromhex("0009000900080000")
    if version == 6:
        addresses = ip_address(f"fd00::{source}").packed + ip_address(f"fd00::{destination}").packed
        return bytes.fromhex("6000000000081140") + addresses + payload
    addresses = bytes([10, 0, 0, source, 10, 0, 0, destination])
    return bytes.fromhex("4500001c00000000401100 00".replace(" ", "")) + addresses + payload


async def wait_for(condition: Callable[[], object]) -> None:
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110 (the kernel's end has no event)
            await trio.sleep(0.01)


@pytest.fixture
async def pair() -> AsyncIterator[tuple[FakeKernel, Device, Device]]:
    """utun0 and utun1, down, that know each other."""
    kernel = FakeKernel()
    engines = [PortableDeviceEngine(offload=False, is_utun=True) for _ in KEYS]
    with (
        open_device("utun", tun=Utun.create("utun", mtu=1420, control=kernel), engine=engines[0]) as one,
        open_device("utun", tun=Utun.create("utun", mtu=1420, control=kernel), engine=engines[1]) as other,
    ):
        async with trio.open_nursery() as nursery:
            for device, own, peer, prefixes in zip(
                (one, other), KEYS, reversed(KEYS), reversed(ADDRESSES), strict=True
            ):
                device.configure([SetPrivateKey(own), SelectPeer(peer.public_key())])
                device.configure(
                    [SelectPeer(peer.public_key()), *(AddAllowedIp(ip_network(each)) for each in prefixes)]
                )
                await nursery.start(device.run)
            yield kernel, one, other
            nursery.cancel_scope.cancel()
    kernel.close()


async def test_packets_of_both_families_cross_and_the_link_is_followed(
    pair: tuple[FakeKernel, Device, Device],
) -> None:
    kernel, one, other = pair
    assert (one.name, other.name, one.mtu) == ("utun0", "utun1", 1420)
    assert not one.is_up
    one.bring_up()
    assert one.is_up
    kernel.flags["utun1"] |= 1  # ifconfig utun1 up
    with trio.fail_after(5):
        await other.wait_up()
    one.configure(
        [
            SelectPeer(KEYS[1].public_key()),
            SetEndpoint(Endpoint(ip_address("127.0.0.1"), other.listen_port)),
        ]
    )
    for version, header in ((4, "00000002"), (6, "0000001e")):
        for name, far, ends in (("utun0", "utun1", (1, 2)), ("utun1", "utun0", (2, 1))):
            sent = packet(version, *ends)
            kernel.send(name, sent)
            with trio.fail_after(5):
                await trio.lowlevel.wait_readable(kernel.outside[far])
            assert kernel.received(far) == bytes.fromhex(header) + sent
    kernel.mtu["utun0"] = 1280  # ifconfig utun0 mtu 1280
    await wait_for(lambda: one.mtu == 1280)
    kernel.flags["utun1"] &= ~1
    with trio.fail_after(5):
        await other.wait_up(False)
