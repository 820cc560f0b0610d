"""wgpy-device, with each of its engines, and the distribution's wireguard-go as peers, driven by `wg`.

The cells of the matrix run side by side, and the two that wait for a rekey wait meanwhile. To prove this
harness itself, `WGPY_INTEROP_SUBJECT=wireguard-go` puts wireguard-go at both ends.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import pytest

from tests.interop.tunnel import WGPY, WIREGUARD_GO, Family, Implementation, Keys, Tunnel, run_wg
from tests.netns.hosts import Internet, Lab
from tests.netns.processes import HostFailure, Process, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(900)]

SUBJECTS: list[Implementation] = (
    [WIREGUARD_GO] if os.environ.get("WGPY_INTEROP_SUBJECT") == "wireguard-go" else list(WGPY.values())
)
MEBIBYTE = 1 << 20
REKEY_AFTER_TIME = 120
Role = Literal["initiator", "responder"]


def ends(subject: Implementation, role: Role) -> tuple[Implementation, Implementation]:
    """Initiator and responder, when ours has this role."""
    return (subject, WIREGUARD_GO) if role == "initiator" else (WIREGUARD_GO, subject)


@dataclass(frozen=True, slots=True)
class Cell:
    """Whom we test in which role, the families inside and outside the tunnel, a preshared key or none."""

    subject: Implementation
    role: Role
    inner: Family
    outer: Family
    preshared: bool

    def __str__(self) -> str:
        return f"{self.subject}-{self.role}-{self.inner}in{self.outer}-{'psk' if self.preshared else 'nopsk'}"

    def tunnel(self, internet: Internet) -> Tunnel:
        return Tunnel(
            internet, str(self), *ends(self.subject, self.role), outer=self.outer, preshared=self.preshared
        )

    def run(self, internet: Internet, size: int) -> None:
        """A session, and `size` octets each way. HostFailure says what went wrong."""
        tunnel = self.tunnel(internet)
        initiator, responder = tunnel.initiator, tunnel.responder
        if not initiator.ping(responder, self.inner, count=3):
            raise HostFailure(f"no echo; {initiator.device.tail()}; {responder.device.tail()}")
        tunnel.check_session()
        for sender, receiver in ((initiator, responder), (responder, initiator)):
            sender.send_to(receiver, self.inner, size, timeout=120 + size / MEBIBYTE)
        for end in (initiator, responder):
            if min(end.transfer) < size:
                raise HostFailure(f"{end.host.name} counts {end.transfer} for {size} octets each way")
        tunnel.close()


ROLES: tuple[Role, ...] = ("initiator", "responder")
FAMILIES: tuple[Family, ...] = ("v4", "v6")
CELLS = [
    Cell(*dimensions) for dimensions in itertools.product(SUBJECTS, ROLES, FAMILIES, FAMILIES, (False, True))
]


def run_cells(internet: Internet, size: int) -> dict[Cell, BaseException | None]:
    """All cells side by side, and what each failed with."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        running = {cell: pool.submit(cell.run, internet, size) for cell in CELLS}
        return {cell: future.exception() for cell, future in running.items()}


@pytest.fixture(scope="module")
def shared_internet() -> Iterator[Internet]:
    with Lab("interop") as lab:
        yield Internet(lab)


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Lab("interop") as lab:
        yield Internet(lab)


@dataclass(frozen=True, slots=True)
class Rekeying:
    """A tunnel with a ping on it that is still running, and when its first handshake was."""

    tunnel: Tunnel
    ping: Process
    first_handshake: int


@pytest.fixture(scope="module")
def rekeying(shared_internet: Internet) -> dict[tuple[Implementation, Role], Rekeying]:
    found: dict[tuple[Implementation, Role], Rekeying] = {}
    for subject, role in itertools.product(SUBJECTS, ROLES):
        tunnel = Tunnel(shared_internet, f"rekey-{subject}-{role}", *ends(subject, role))
        assert tunnel.initiator.ping(tunnel.responder)
        # Both directions carry data all the time; 640 echoes are 128 s.
        ping = tunnel.initiator.host.start("ping", "-i0.2", "-c640", "-W5", tunnel.responder.inner["v4"])
        found[subject, role] = Rekeying(tunnel, ping, tunnel.initiator.latest_handshake)
    return found


@pytest.fixture(scope="module")
def outcomes(shared_internet: Internet, rekeying: object) -> dict[Cell, BaseException | None]:
    return run_cells(shared_internet, 64 * MEBIBYTE)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_64_mib_go_each_way_unharmed(cell: Cell, outcomes: dict[Cell, BaseException | None]) -> None:
    error = outcomes[cell]
    if error is not None:
        raise error


@pytest.mark.parametrize("outer", ["v4", "v6"])
@pytest.mark.parametrize("roaming", ["initiator", "responder"])
@pytest.mark.parametrize("role", ["initiator", "responder"])
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_an_end_that_moves_takes_the_tunnel_with_it(
    internet: Internet, subject: Implementation, role: Role, roaming: Role, outer: Family
) -> None:
    tunnel = Tunnel(
        internet, f"roam-{subject}-{role[0]}{roaming[0]}{outer}", *ends(subject, role), outer=outer
    )
    assert tunnel.initiator.ping(tunnel.responder)
    tunnel.check_session()
    moving, staying = tunnel.initiator, tunnel.responder
    if roaming == "responder":
        moving, staying = staying, moving
    number = int(str(moving.host.ipv4).rpartition(".")[2]) + 128
    moving.host.readdress(*internet.addresses(number))
    # The first echo may meet a cached source that is gone; a WireGuard host recovers by itself.
    wait_until(lambda: moving.ping(staying, timeout=1), "an echo from the new address", timeout=20)
    assert staying.endpoint == moving.outer(outer)
    assert staying.ping(moving, count=3)
    tunnel.close()


@pytest.mark.parametrize("role", ["initiator", "responder"])
@pytest.mark.parametrize("wrong", ["initiator's key", "responder's key"])
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_a_wrong_key_is_never_answered(
    internet: Internet, subject: Implementation, role: Role, wrong: str
) -> None:
    tunnel = Tunnel(internet, f"wrong-{subject}-{role[0]}{wrong[0]}", *ends(subject, role), connect=False)
    initiator, responder = tunnel.initiator, tunnel.responder
    stranger = Keys.generate().public
    responder.add_peer(initiator, public=stranger if wrong == "initiator's key" else "")
    initiator.add_peer(
        responder, endpoint=responder.outer("v4"), public=stranger if wrong == "responder's key" else ""
    )
    assert not initiator.ping(responder, timeout=1)
    # A first initiation and a retry have been sent.
    wait_until(lambda: initiator.transfer[1] >= 2 * 148, "the initiator tries again", timeout=15)
    assert responder.datagrams_sent() == 0
    assert responder.latest_handshake == 0
    assert responder.transfer == (0, 0)
    assert initiator.latest_handshake == 0
    tunnel.close()


@pytest.mark.parametrize("role", ["initiator", "responder"])
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_a_wrong_preshared_key_gives_no_session(
    internet: Internet, subject: Implementation, role: Role
) -> None:
    tunnel = Tunnel(internet, f"psk-{subject}-{role[0]}", *ends(subject, role), connect=False)
    initiator, responder = tunnel.initiator, tunnel.responder
    responder.add_peer(initiator, preshared_key=run_wg("genpsk"))
    initiator.add_peer(responder, preshared_key=run_wg("genpsk"), endpoint=responder.outer("v4"))
    assert not initiator.ping(responder, timeout=2)
    assert initiator.latest_handshake == 0
    tunnel.close()


@pytest.mark.parametrize("role", ["initiator", "responder"])
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_a_rekey_loses_no_ping(
    rekeying: dict[tuple[Implementation, Role], Rekeying], subject: Implementation, role: Role
) -> None:
    cell = rekeying[subject, role]
    assert cell.ping.wait(timeout=200) == 0, cell.ping.tail()
    sent, received = map(int, re.findall(r"(\d+) packets transmitted, (\d+) received", cell.ping.text())[0])
    assert sent == received == 640
    age = cell.tunnel.initiator.latest_handshake - cell.first_handshake
    assert REKEY_AFTER_TIME - 1 <= age <= REKEY_AFTER_TIME + 3
    cell.tunnel.close()


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_gibibyte_goes_each_way_in_every_cell(internet: Internet) -> None:
    outcomes = run_cells(internet, 1024 * MEBIBYTE)
    assert {str(cell): error for cell, error in outcomes.items() if error is not None} == {}
