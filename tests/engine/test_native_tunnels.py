"""Whole tunnels of the native engine, with what may differ between hosts: MTUs, offloads, the other end.

What is sent is checked: octets of TCP by their hash, datagrams by the number that each carries.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest

from benchmarks.paths import Load, udp_load
from benchmarks.search import Trial, loss_free_rate
from tests.interop.tunnel import WIREGUARD_GO, End, Family, Implementation, Tunnel
from tests.netns.hosts import Internet, Lab
from wgpy.engine.native import OFFLOADS

pytestmark = [pytest.mark.root, pytest.mark.slow]

SIZE = 16 << 20
GIGABYTE = 10**9
MTUS = (1280, 1420, 8920, 34736)
TRIAL_SECONDS = 0.15
UDP_OVER_IPV4 = 28
QUEUE = 5000
"""Packets that wait for a device that other programs keep off the processor; a TUN's own 500 are a few ms."""
CHANCES = 3


def native(name: str = "native", **environment: str) -> Implementation:
    variables = {"WGPY_ENGINE": "native", **environment}
    return Implementation(
        name, ("wgpy-device", "--foreground"), tuple(f"{key}={value}" for key, value in variables.items())
    )


NATIVE = native()
PORTABLE = Implementation("portable", ("wgpy-device", "--foreground"), ("WGPY_ENGINE=portable",))
PAIRS = [
    (NATIVE, NATIVE),
    (NATIVE, PORTABLE),
    (PORTABLE, NATIVE),
    (NATIVE, WIREGUARD_GO),
    (WIREGUARD_GO, NATIVE),
]
"""Initiator and responder."""
PAIR_NAMES = [f"{initiator}-{responder}" for initiator, responder in PAIRS]
WITHOUT = [*OFFLOADS, "all"]


@pytest.fixture(scope="module")
def internet() -> Iterator[Internet]:
    with Lab("native-tunnels") as lab:
        yield Internet(lab)


def limited_pair(internet: Internet, name: str, without: str, both: bool) -> Tunnel:
    """A tunnel whose initiator, or both ends of it, has to make do without an offload."""
    limited = native(f"without {without}", WGPY_DISABLE_OFFLOADS=without)
    return Tunnel(internet, name, limited, limited if both else NATIVE)


def set_mtu(tunnel: Tunnel, mtu: int) -> None:
    for end in (tunnel.initiator, tunnel.responder):
        end.host.ip(f"link set wg0 mtu {mtu} txqueuelen {QUEUE}")


def exchange(tunnel: Tunnel, mtu: int) -> None:
    """Random octets each way in both families, which have to arrive as they were."""
    set_mtu(tunnel, mtu)
    ends = (tunnel.initiator, tunnel.responder)
    for sender, receiver in itertools.permutations(ends):
        sender.send_to(receiver, "v4", SIZE, timeout=60)
    tunnel.initiator.send_to(tunnel.responder, "v6", SIZE, timeout=60)
    tunnel.check_session()
    tunnel.close()


def send_numbered(sender: End, receiver: End, mtu: int, load: Load) -> None:
    """Datagrams at half the rate at which the first is lost: all arrive, and in order.

    `load.rate` is a first guess of that rate. Other programs may take the processor from a device for longer
    than its queues last, and the cable itself reorders when they make a sender change processors in the midst
    of a queue: then the next chance counts.
    """

    def send(rate: float, seconds: float) -> Trial:
        return udp_load(
            sender.host, receiver.host, receiver.inner["v4"], replace(load, rate=rate, seconds=seconds)
        )

    capacity = float("inf")
    trials = []
    for _ in range(CHANCES):
        found = loss_free_rate(lambda rate: send(rate, TRIAL_SECONDS), load.rate, growth=3.0, most_trials=12)
        assert found.rate > 0
        capacity = min(capacity, found.rate)
        before = sender.transfer[1]
        trial = send(capacity / 2, load.seconds)
        sent = (sender.transfer[1] - before) // message_size(load.size, mtu)
        lost = lost_by_ours(sender, receiver, trial, sent)
        if not lost and not trial.reordered:
            return
        trials.append((trial, lost))
    raise AssertionError(f"at half of {capacity:.0f}/s datagrams are lost by us or overtaken: {trials}")


def message_size(payload: int, mtu: int) -> int:
    """Of the message that carries a datagram: padded to 16, not past the MTU, with header and tag."""
    return min((payload + UDP_OVER_IPV4 + 15) // 16 * 16, mtu) + 32


def lost_by_ours(sender: End, receiver: End, trial: Trial, sent: int) -> int:
    """Of what was offered; what wireguard-go lost before it `sent`, or of what it was sent, is not ours."""
    if sender.implementation == WIREGUARD_GO:
        return min(sent, trial.sent) - trial.received
    if receiver.implementation == WIREGUARD_GO:
        return trial.sent - sent
    return trial.sent - trial.received


def send_numbered_both_ways(tunnel: Tunnel, mtu: int, seconds: float) -> None:
    """In datagrams that fill the MTU, each sent alone; and small ones, handed over in pieces."""
    set_mtu(tunnel, mtu)
    assert tunnel.initiator.ping(tunnel.responder)
    full, piece = Load(8000, seconds, mtu - UDP_OVER_IPV4), Load(24000, seconds, 512, 32)
    send_numbered(tunnel.initiator, tunnel.responder, mtu, full)
    send_numbered(tunnel.responder, tunnel.initiator, mtu, full)
    send_numbered(tunnel.initiator, tunnel.responder, mtu, piece)
    tunnel.check_session()
    tunnel.close()


needs_cargo = pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo is not installed")


@pytest.mark.parametrize("mtu", MTUS)
@pytest.mark.parametrize(("initiator", "responder"), PAIRS, ids=PAIR_NAMES)
def test_octets_arrive_as_they_were_at_every_mtu_while_it_runs(
    internet: Internet, initiator: Implementation, responder: Implementation, mtu: int
) -> None:
    exchange(Tunnel(internet, f"mtu-{initiator}-{responder}-{mtu}", initiator, responder), mtu)


@pytest.mark.parametrize("both", [False, True], ids=["one-end", "both-ends"])
@pytest.mark.parametrize("without", WITHOUT)
def test_octets_arrive_as_they_were_without_each_offload(
    internet: Internet, without: str, both: bool
) -> None:
    exchange(limited_pair(internet, f"off-{without}-{both}", without, both), 1420)


@needs_cargo
@pytest.mark.alone
@pytest.mark.parametrize(("initiator", "responder"), PAIRS, ids=PAIR_NAMES)
def test_no_datagram_is_lost_or_overtaken_at_half_of_capacity(
    internet: Internet, initiator: Implementation, responder: Implementation
) -> None:
    tunnel = Tunnel(internet, f"udp-{initiator}-{responder}", initiator, responder)
    send_numbered_both_ways(tunnel, 1420, 0.5)


@needs_cargo
@pytest.mark.alone
@pytest.mark.parametrize("mtu", [mtu for mtu in MTUS if mtu != 1420])
def test_no_datagram_is_lost_or_overtaken_at_every_mtu(internet: Internet, mtu: int) -> None:
    send_numbered_both_ways(Tunnel(internet, f"udp-{mtu}", NATIVE, NATIVE), mtu, 0.5)


@needs_cargo
@pytest.mark.alone
@pytest.mark.parametrize("without", WITHOUT)
def test_no_datagram_is_lost_or_overtaken_without_each_offload(internet: Internet, without: str) -> None:
    send_numbered_both_ways(limited_pair(internet, f"udp-off-{without}", without, True), 1420, 0.5)


def test_a_small_host_has_a_tunnel_too(internet: Internet) -> None:
    exchange(Tunnel(internet, "small", native("small", WGPY_MEMORY="4"), NATIVE), 1420)


@pytest.mark.soak
@pytest.mark.parametrize(("initiator", "responder"), PAIRS, ids=PAIR_NAMES)
def test_ten_gigabytes_arrive_as_they_were(
    internet: Internet, initiator: Implementation, responder: Implementation
) -> None:
    tunnel = Tunnel(internet, f"soak-{initiator}-{responder}", initiator, responder)
    families: tuple[Family, ...] = ("v4", "v6")
    for (sender, receiver), family in itertools.product(
        itertools.permutations((tunnel.initiator, tunnel.responder)), families
    ):
        sender.send_to(receiver, family, 5 * GIGABYTE // 2, timeout=600)
    tunnel.check_session()
    tunnel.close()


@needs_cargo
@pytest.mark.soak
@pytest.mark.parametrize("mtu", MTUS)
@pytest.mark.parametrize(("initiator", "responder"), PAIRS, ids=PAIR_NAMES)
def test_no_datagram_is_lost_or_overtaken_for_half_a_minute(
    internet: Internet, initiator: Implementation, responder: Implementation, mtu: int
) -> None:
    tunnel = Tunnel(internet, f"soak-udp-{initiator}-{responder}-{mtu}", initiator, responder)
    send_numbered_both_ways(tunnel, mtu, 10)
