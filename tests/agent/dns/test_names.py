"""What of the host is touched when names change: counted at the file, the claim and the answers."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import dnslib
import pytest
import trio

from tests.own_network import own_network
from wgpy.agent.dns import names as names_module
from wgpy.agent.dns import shared_file
from wgpy.agent.dns.claims import Claim, HeldClaim
from wgpy.agent.dns.names import Names
from wgpy.agent.dns.resolvers import SHARED_FILE
from wgpy.agent.dns.zone import Zone
from wgpy.mesh.names import NameRecord

pytestmark = pytest.mark.root

OWN = ipaddress.ip_address("127.0.0.77")
HOME = "nameserver 192.0.2.53\n"


@pytest.fixture
def resolv_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """/etc/resolv.conf of a host that has no other resolver, in a network of its own."""
    monkeypatch.setenv("WGPY_RUNTIME_DIR", str(tmp_path / "runtime"))
    path = tmp_path / "resolv.conf"
    monkeypatch.setattr(shared_file, "RESOLV_CONF", path)
    monkeypatch.setattr(names_module, "find_resolver", lambda: SHARED_FILE)
    path.write_text(HOME)
    with own_network():
        yield path
    assert path.read_text() == HOME


def zone(last: str, *ranges: str) -> Zone:
    """Of 200 names, the last of which is at this address."""
    records = [NameRecord.parse(f"n{i}", f"10.77.1.{i}") for i in range(199)]
    return Zone.of(
        "home.internal",
        map(ipaddress.ip_network, ranges or ("10.77.0.0/16",)),
        {},
        records=[*records, NameRecord.parse("last", last)],
    )


async def ask(name: str) -> list[str]:
    asked = dnslib.DNSRecord.question(f"{name}.home.internal").pack()
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket, trio.fail_after(5):
        await socket.sendto(asked, (str(OWN), 53))
        return [str(each.rdata) for each in dnslib.DNSRecord.parse(await socket.recv(512)).rr]


async def test_of_two_hundred_names_a_change_of_one_changes_one_answer_and_nothing_of_the_host(
    resolv_conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims: list[Claim] = []
    write = HeldClaim.write

    def counted(self: HeldClaim, claim: Claim) -> None:
        claims.append(claim)
        write(self, claim)

    monkeypatch.setattr(HeldClaim, "write", counted)
    names = Names("lo")
    names.sync(zone("10.77.9.1"), [OWN], is_on=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(names.run)
        with trio.fail_after(10):
            while not shared_file.has_ours():  # noqa: ASYNC110
                await trio.sleep(0.01)
        stamp, told = shared_file.stamp(), len(claims)
        before = {name: await ask(name) for name in ("n0", "n198", "last")}
        names.sync(zone("10.77.9.2"), [OWN], is_on=True)
        after = {name: await ask(name) for name in before}
        assert before == {"n0": ["10.77.1.0"], "n198": ["10.77.1.198"], "last": ["10.77.9.1"]}
        assert after == before | {"last": ["10.77.9.2"]}

        # What is told at the next change that does concern the host shows that nothing was in between.
        names.sync(zone("10.77.9.2", "10.77.0.0/16", "10.78.0.0/16"), [OWN], is_on=True)
        with trio.fail_after(10):
            while len(claims) == told:  # noqa: ASYNC110
                await trio.sleep(0.01)
        [claim] = claims[told:]
        assert claim.domains == ("home.internal", "77.10.in-addr.arpa", "78.10.in-addr.arpa")
        assert shared_file.stamp() == stamp, "the file says no more than before"
        nursery.cancel_scope.cancel()
    assert not shared_file.has_ours()
