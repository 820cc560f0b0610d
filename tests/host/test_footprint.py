"""Our footprint on a real kernel: made, kept, taken back exactly, also after a crash and beside others."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
import trio

from tests.own_network import own_network
from wgpy.errors import HostError
from wgpy.host import ledger
from wgpy.host.footprint import Footprint, clear_left_behind, has_left_behind
from wgpy.host.nft import Chain, NftSet, NftTable
from wgpy.host.policy import SRC_VALID_MARK
from wgpy.host.setting import GuestRule, HostSetting
from wgpy.netlink import Netlink, Route, Rule
from wgpy.netlink.monitor import Monitor, RuleChanged, Watch
from wgpy.netlink.nft_news import NftNews

pytestmark = pytest.mark.root

FORWARDING = "net/ipv4/conf/veth0/forwarding"
DOCKERLIKE = """
table ip filter {
  chain DOCKER-USER { }
  chain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER; }
}
"""


def shell(command: str, text: str | None = None) -> str:
    done = subprocess.run(["sh", "-c", command], input=text, text=True, capture_output=True, check=True)
    return done.stdout


def everything() -> str:
    """All of this network that we might touch, without counters and lifetimes."""
    return shell(
        "nft -s list ruleset; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all;"
        "cat /proc/sys/net/ipv4/conf/*/forwarding /proc/sys/net/ipv6/conf/*/force_forwarding"
        " /proc/sys/net/ipv4/conf/all/src_valid_mark"
    )


@pytest.fixture(autouse=True)
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WGPY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("WGPY_RUNTIME_DIR", str(tmp_path / "run"))
    with own_network():
        shell("ip link add veth0 type veth peer name veth1; ip link set veth0 up; ip link set veth1 up")
        shell("ip address add 192.0.2.1/24 dev veth0")
        shell("nft -f -", DOCKERLIKE)
        yield


def table(*ranges: str, survives: bool = False, name: str = "wgpy-veth0") -> NftTable:
    forward = Chain(
        "forward", "filter hook forward priority -5; policy accept;", ("ip daddr @ranges4 accept",)
    )
    return NftTable(name, (forward,), (NftSet("ranges4", "ipv4_addr", frozenset(ranges)),), survives=survives)


def wanted(*ranges: str) -> HostSetting:
    with Netlink() as netlink:
        index = netlink.link("veth0").index
    guest = GuestRule("ip", "filter", "DOCKER-USER", 'iifname "veth0" accept', "wgpy home")
    return HostSetting(
        {FORWARDING: "1", SRC_VALID_MARK: "1"},
        {"wgpy-veth0": table(*ranges)},
        frozenset([Route(ip_network("0.0.0.0/0"), index, 51820)]),
        frozenset([Rule(4, 51820, mark=51820, invert=True, priority=32000)]),
        frozenset([guest]),
    )


def test_all_is_there_and_all_is_taken_back() -> None:
    before = everything()
    footprint = Footprint("home")
    assert len(footprint.apply(wanted("10.0.0.0/24"))) == 6
    assert footprint.problems == {}
    during = everything()
    assert "10.0.0.0/24" in during
    assert 'iifname "veth0" accept comment "wgpy home"' in during
    assert "32000:\tnot from all fwmark 0xca6c lookup 51820" in during
    assert footprint.apply(wanted("10.0.0.0/24")) == []
    footprint.roll_back()
    assert everything() == before
    assert not ledger.ledger_path().exists()


def test_what_was_there_before_us_stays() -> None:
    shell(f"echo 1 > /proc/sys/{FORWARDING}")
    footprint = Footprint("home")
    footprint.apply(wanted())
    footprint.roll_back()
    assert shell(f"cat /proc/sys/{FORWARDING}") == "1\n"


def test_a_sysctl_that_somebody_else_has_set_since_is_not_ours_to_restore() -> None:
    footprint = Footprint("home")
    footprint.apply(HostSetting({"net/ipv4/conf/veth0/rp_filter": "2"}))
    shell("echo 1 > /proc/sys/net/ipv4/conf/veth0/rp_filter")
    footprint.roll_back()
    assert shell("cat /proc/sys/net/ipv4/conf/veth0/rp_filter") == "1\n"


def test_of_two_holders_the_last_restores_a_sysctl() -> None:
    before = everything()
    first, second = Footprint("home"), Footprint("work.conf")
    first.apply(HostSetting({FORWARDING: "1"}))
    second.apply(HostSetting({FORWARDING: "1"}))
    first.roll_back()
    assert shell(f"cat /proc/sys/{FORWARDING}") == "1\n"
    second.roll_back()
    assert everything() == before


def test_after_a_crash_all_is_cleared_and_foreign_rules_added_since_survive() -> None:
    before = everything()
    Footprint("home").apply(wanted("10.0.0.0/24"))  # and then the process is killed
    shell("nft add table inet foreign; nft add rule ip filter DOCKER-USER ip saddr 192.0.2.9 drop")
    shell("ip rule add from 192.0.2.9 lookup 77 priority 400; ip route add 203.0.113.0/24 dev veth0")
    foreign = "nft delete table inet foreign; nft flush chain ip filter DOCKER-USER"
    foreign += "; ip rule delete priority 400; ip route delete 203.0.113.0/24"
    assert has_left_behind("home")
    done = clear_left_behind("home", lift=False)
    shell("ip route flush table 51820")  # the interface that it was on went with the process
    assert "delete the nftables table inet wgpy-veth0" in done
    during = everything()
    for mine in (
        "table inet foreign",
        "ip saddr 192.0.2.9 drop",
        "from 192.0.2.9 lookup 77",
        "203.0.113.0/24",
    ):
        assert mine in during
    shell(foreign)
    assert everything() == before
    assert not has_left_behind("home")
    assert clear_left_behind("home", lift=False) == []


def test_what_is_to_survive_a_crash_does_until_it_is_lifted() -> None:
    before = everything()
    kill_switch = HostSetting(tables={"wgpy-lock": table(survives=True, name="wgpy-lock")})
    Footprint("home").apply(kill_switch)
    assert clear_left_behind("home", lift=False) == []
    assert "table inet wgpy-lock" in everything()
    assert clear_left_behind("home", lift=True) == ["delete the nftables table inet wgpy-lock"]
    assert everything() == before


def test_the_intention_is_on_disk_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def die(*_arguments: object) -> None:
        raise Killed

    before = everything()
    setting = wanted("10.0.0.0/24")
    with monkeypatch.context() as patch:
        patch.setattr("wgpy.host.footprint.run_nft", die)
        with pytest.raises(Killed):
            Footprint("home").apply(setting)
    assert "wgpy-veth0" in ledger.read_ledger().holdings["home"].tables
    clear_left_behind("home", lift=False)
    assert everything() == before


def test_another_boot_has_forgotten_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Footprint("home").apply(wanted())
    monkeypatch.setattr(ledger, "boot_id", lambda: "another")
    assert not has_left_behind("home")
    with ledger.open_ledger():
        pass
    assert clear_left_behind("home", lift=True) == []


def test_a_damaged_ledger_is_set_aside_and_said(caplog: pytest.LogCaptureFixture) -> None:
    Footprint("home").apply(HostSetting({FORWARDING: "1"}))
    ledger.ledger_path().write_text("{")
    Footprint("home").apply(HostSetting({SRC_VALID_MARK: "1"}))
    assert "is damaged" in caplog.text
    assert ledger.ledger_path().with_name(".host-ledger.damaged").read_text() == "{"


async def test_a_flush_by_somebody_else_is_noticed_and_put_right() -> None:
    footprint = Footprint("home")
    footprint.apply(wanted("10.0.0.0/24"))
    during = everything()
    with NftNews() as news, Monitor(Watch.RULE) as monitor:
        shell("nft delete table inet wgpy-veth0")
        with trio.fail_after(5):
            await news.wait()
        footprint.suspect()
        assert [str(step) for step in footprint.apply(wanted("10.0.0.0/24"))] == [
            "make the nftables table inet wgpy-veth0"
        ]
        shell("nft add element inet wgpy-veth0 ranges4 { 10.77.0.0/24 }")
        footprint.suspect()
        footprint.apply(wanted("10.0.0.0/24"))
        shell("nft flush chain ip filter DOCKER-USER; ip rule delete priority 32000")
        with trio.fail_after(5):
            [change] = await monitor.wait_changes()
        assert isinstance(change, RuleChanged)
        assert change.gone
        footprint.suspect()
        assert len(footprint.apply(wanted("10.0.0.0/24"))) == 2
    assert sorted(everything().splitlines()) == sorted(during.splitlines())


def test_what_the_host_refuses_is_said_and_the_rest_is_done() -> None:
    footprint = Footprint("home")
    bad = NftTable("wgpy-bad", (Chain("forward", "filter hook forward priority 0;", ("nonsense",)),))
    footprint.apply(HostSetting({FORWARDING: "1", "net/no/such": "1"}, {"wgpy-bad": bad}))
    texts = sorted(footprint.problems.values())
    assert texts[0] == "cannot set net.no.such to 1: No such file or directory"
    assert texts[1].startswith("nft refuses the rules: ")
    assert shell(f"cat /proc/sys/{FORWARDING}") == "1\n"
    footprint.roll_back()


def test_without_a_place_for_the_ledger_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WGPY_STATE_DIR", "/proc/nowhere")
    before = everything()
    with pytest.raises(HostError, match="cannot make the directory"):
        Footprint("home").apply(wanted("10.0.0.0/24"))
    assert everything() == before


def _seconds(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


MANY = tuple(f"10.{i // 128}.{i % 128 * 2}.0/24" for i in range(500))


@pytest.mark.alone
def test_five_hundred_ranges_are_applied_in_under_a_second() -> None:
    footprint = Footprint("home")
    assert _seconds(lambda: footprint.apply(wanted(*MANY))) < 1
    footprint.roll_back()


def transactions(do: Callable[[], object], path: Path) -> list[list[str]]:
    """What the kernel was told of our tables, as `nft monitor` hears it: a list of lines each transaction."""
    with path.open("w") as file, subprocess.Popen(["nft", "monitor"], stdout=file) as monitor:
        try:
            _wait_heard(path, "begin")
            do()
            _wait_heard(path, "end")
        finally:
            monitor.kill()
    told = path.read_text().split("# new generation")
    ours = ([line.strip() for line in each.splitlines() if "wgpy-" in line] for each in told)
    return [lines for lines in ours if lines]


def _wait_heard(path: Path, mark: str) -> None:
    """Until the monitor has heard of a table of this name, and so of all before it."""
    deadline = time.monotonic() + 20
    while f"table inet {mark}" not in path.read_text():
        assert time.monotonic() < deadline, "nft monitor hears nothing"
        shell(f"nft add table inet {mark}; nft delete table inet {mark}")


def test_five_hundred_ranges_are_one_transaction_and_a_change_of_one_touches_one(tmp_path: Path) -> None:
    footprint, path, one = Footprint("home"), tmp_path / "monitor", "172.16.0.0/24"
    [told] = transactions(lambda: footprint.apply(wanted(*MANY)), path)
    assert {line.split()[-2] for line in told if line.startswith("add element")} == set(MANY)
    for many, verb in (((*MANY, one), "add"), (MANY, "delete")):
        told = transactions(lambda many=many: footprint.apply(wanted(*many)), path)  # type: ignore[misc]
        assert told == [[f"{verb} element inet wgpy-veth0 ranges4 {{ {one} }}"]]
    # That holds for one that was looked at, too, and when nothing changes nothing is told.
    footprint.suspect()
    assert transactions(lambda: footprint.apply(wanted(*MANY)), path) == []
    footprint.roll_back()
