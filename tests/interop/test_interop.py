"""wgpy-device, with each of its engines, and the distribution's wireguard-go as peers, driven by `wg`.

Scenarios of one kind run side by side, each with a tunnel of its own, and those that wait for a rekey wait
meanwhile. To prove this harness itself, `WGPY_INTEROP_SUBJECT=wireguard-go` puts wireguard-go at both ends.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import pytest

from tests.interop.tunnel import WGPY, WIREGUARD_GO, Family, Implementation, Keys, Tunnel, run_wg
from tests.netns.hosts import Internet, Lab
from tests.netns.processes import HostFailure, Process, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900)]

SUBJECTS: list[Implementation] = (
    [WIREGUARD_GO] if os.environ.get("WGPY_INTEROP_SUBJECT") == "wireguard-go" else list(WGPY.values())
)
MEBIBYTE = 1 << 20
REKEY_AFTER_TIME = 120
Role = Literal["initiator", "responder"]


def ends(subject: Implementation, role: Role) -> tuple[Implementation, Implementation]:
    """Initiator and responder, when ours has this role."""
    return (subject, WIREGUARD_GO) if role == "initiator" else (WIREGUARD_GO, subject)


class Scenario(Protocol):
    """Something between two new hosts. `run` raises when it does not go as it should."""

    def run(self, internet: Internet) -> None: ...


@dataclass(frozen=True, slots=True)
class Cell:
    """Whom we test in which role, the families inside and outside the tunnel, a preshared key or none."""

    subject: Implementation
    role: Role
    inner: Family
    outer: Family
    preshared: bool
    size: int = 64 * MEBIBYTE

    def __str__(self) -> str:
        return f"{self.subject}-{self.role}-{self.inner}in{self.outer}-{'psk' if self.preshared else 'nopsk'}"

    def tunnel(self, internet: Internet) -> Tunnel:
        return Tunnel(
            internet, str(self), *ends(self.subject, self.role), outer=self.outer, preshared=self.preshared
        )

    def run(self, internet: Internet) -> None:
        """A session, and `size` octets each way. HostFailure says what went wrong."""
        tunnel = self.tunnel(internet)
        initiator, responder = tunnel.initiator, tunnel.responder
        if not initiator.ping(responder, self.inner, count=3):
            raise HostFailure(f"no echo; {initiator.device.tail()}; {responder.device.tail()}")
        tunnel.check_session()
        for sender, receiver in ((initiator, responder), (responder, initiator)):
            sender.send_to(receiver, self.inner, self.size, timeout=120 + self.size / MEBIBYTE)
        for end in (initiator, responder):
            if min(end.transfer) < self.size:
                raise HostFailure(f"{end.host.name} counts {end.transfer} for {self.size} octets each way")
        tunnel.close()


@dataclass(frozen=True, slots=True)
class Roaming:
    """The end with the role `roaming` gets another address while the tunnel is in use."""

    subject: Implementation
    role: Role
    roaming: Role
    outer: Family

    def __str__(self) -> str:
        return f"roam-{self.subject}-{self.role}-{self.roaming}-{self.outer}"

    def run(self, internet: Internet) -> None:
        tunnel = Tunnel(internet, str(self), *ends(self.subject, self.role), outer=self.outer)
        assert tunnel.initiator.ping(tunnel.responder)
        tunnel.check_session()
        moving, staying = tunnel.initiator, tunnel.responder
        if self.roaming == "responder":
            moving, staying = staying, moving
        moving.host.readdress(*internet.next_addresses())
        # The first echo may meet a cached source that is gone; a WireGuard host recovers by itself,
        # wireguard-go when nothing was heard for 15 s.
        wait_until(lambda: moving.ping(staying, timeout=1), "an echo from the new address", timeout=30)
        assert staying.endpoint == moving.outer(self.outer)
        assert staying.ping(moving, count=3)
        tunnel.close()


@dataclass(frozen=True, slots=True)
class WrongKey:
    """One end has a stranger's key for the other."""

    subject: Implementation
    role: Role
    wrong: Role

    def __str__(self) -> str:
        return f"wrong-{self.subject}-{self.role}-{self.wrong}s-key"

    def run(self, internet: Internet) -> None:
        tunnel = Tunnel(internet, str(self), *ends(self.subject, self.role), connect=False)
        initiator, responder = tunnel.initiator, tunnel.responder
        stranger = Keys.generate().public
        responder.add_peer(initiator, public=stranger if self.wrong == "initiator" else "")
        initiator.add_peer(
            responder, endpoint=responder.outer("v4"), public=stranger if self.wrong == "responder" else ""
        )
        assert not initiator.ping(responder, timeout=1)
        # A first initiation and a retry have been sent.
        wait_until(lambda: initiator.transfer[1] >= 2 * 148, "the initiator tries again", timeout=15)
        assert responder.datagrams_sent() == 0
        assert responder.latest_handshake == 0
        assert responder.transfer == (0, 0)
        assert initiator.latest_handshake == 0
        tunnel.close()


@dataclass(frozen=True, slots=True)
class WrongPresharedKey:
    """Each end has another one."""

    subject: Implementation
    role: Role

    def __str__(self) -> str:
        return f"psk-{self.subject}-{self.role}"

    def run(self, internet: Internet) -> None:
        tunnel = Tunnel(internet, str(self), *ends(self.subject, self.role), connect=False)
        initiator, responder = tunnel.initiator, tunnel.responder
        responder.add_peer(initiator, preshared_key=run_wg("genpsk"))
        initiator.add_peer(responder, preshared_key=run_wg("genpsk"), endpoint=responder.outer("v4"))
        assert not initiator.ping(responder, timeout=2)
        assert initiator.latest_handshake == 0
        tunnel.close()


ROLES: tuple[Role, ...] = ("initiator", "responder")
FAMILIES: tuple[Family, ...] = ("v4", "v6")
CELLS = [Cell(*each) for each in itertools.product(SUBJECTS, ROLES, FAMILIES, FAMILIES, (False, True))]
ROAMINGS = [Roaming(*each) for each in itertools.product(SUBJECTS, ROLES, ROLES, FAMILIES)]
WRONG_KEYS = [WrongKey(*each) for each in itertools.product(SUBJECTS, ROLES, ROLES)]
WRONG_PRESHARED_KEYS = [WrongPresharedKey(*each) for each in itertools.product(SUBJECTS, ROLES)]

Outcomes = Mapping[Scenario, BaseException | None]


def side_by_side(internet: Internet, scenarios: Sequence[Scenario], at_once: int) -> Outcomes:
    """What each failed with; None: it went as it should."""
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        running = {scenario: pool.submit(scenario.run, internet) for scenario in scenarios}
        return {scenario: future.exception() for scenario, future in running.items()}


def check(outcome: BaseException | None) -> None:
    if outcome is not None:
        raise outcome


@pytest.fixture(scope="module")
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
def rekeying(internet: Internet) -> dict[tuple[Implementation, Role], Rekeying]:
    found: dict[tuple[Implementation, Role], Rekeying] = {}
    for subject, role in itertools.product(SUBJECTS, ROLES):
        tunnel = Tunnel(internet, f"rekey-{subject}-{role}", *ends(subject, role))
        assert tunnel.initiator.ping(tunnel.responder)
        # Both directions carry data all the time; 640 echoes are 128 s.
        ping = tunnel.initiator.host.start("ping", "-i0.2", "-c640", "-W5", tunnel.responder.inner["v4"])
        found[subject, role] = Rekeying(tunnel, ping, tunnel.initiator.latest_handshake)
    return found


@pytest.fixture(scope="module")
def of_cells(internet: Internet, rekeying: object) -> Outcomes:
    """These take all the processor that there is: as many at once as keep it busy."""
    return side_by_side(internet, CELLS, 4)


@pytest.fixture(scope="module")
def of_those_that_wait(internet: Internet) -> Outcomes:
    return side_by_side(internet, [*ROAMINGS, *WRONG_KEYS, *WRONG_PRESHARED_KEYS], 14)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_64_mib_go_each_way_unharmed(cell: Cell, of_cells: Outcomes) -> None:
    check(of_cells[cell])


@pytest.mark.parametrize("scenario", ROAMINGS, ids=str)
def test_an_end_that_moves_takes_the_tunnel_with_it(scenario: Roaming, of_those_that_wait: Outcomes) -> None:
    check(of_those_that_wait[scenario])


@pytest.mark.parametrize("scenario", WRONG_KEYS, ids=str)
def test_a_wrong_key_is_never_answered(scenario: WrongKey, of_those_that_wait: Outcomes) -> None:
    check(of_those_that_wait[scenario])


@pytest.mark.parametrize("scenario", WRONG_PRESHARED_KEYS, ids=str)
def test_a_wrong_preshared_key_gives_no_session(
    scenario: WrongPresharedKey, of_those_that_wait: Outcomes
) -> None:
    check(of_those_that_wait[scenario])


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
    outcomes = side_by_side(internet, [replace(cell, size=1024 * MEBIBYTE) for cell in CELLS], 4)
    assert {str(cell): error for cell, error in outcomes.items() if error is not None} == {}
