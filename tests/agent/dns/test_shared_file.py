"""/etc/resolv.conf as several share it: claims come and go, others write it, processes are killed."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wgpy.agent.dns import shared_file
from wgpy.agent.dns.claims import Claim, Claims
from wgpy.agent.dns.resolv_conf import parse_nameservers
from wgpy.agent.dns.resolvers import (
    SHARED_FILE,
    Announcement,
    needs_repair_of_names,
    repair_names,
    upstream_endpoints,
)
from wgpy.errors import HostError

HOME = "# mine\nnameserver 192.0.2.53\n"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WGPY_RUNTIME_DIR", str(tmp_path / "runtime"))
    path = tmp_path / "resolv.conf"
    monkeypatch.setattr(shared_file, "RESOLV_CONF", path)
    path.write_text(HOME)
    return path


def claim(number: int) -> Claim:
    address = ipaddress.ip_address(f"10.{number}.0.2")
    return Claim(f"wg{number}", (address,), (f"n{number}.internal",), (f"n{number}.internal",))


def servers(path: Path) -> list[str]:
    return [str(address) for address in parse_nameservers(path.read_text())]


def update() -> bool:
    with Claims() as claims:
        return shared_file.update(claims)


def test_networks_stand_side_by_side_and_the_last_puts_back_what_was(path: Path) -> None:
    first, second = Announcement(SHARED_FILE, claim(1)), Announcement(SHARED_FILE, claim(2))
    assert servers(path) == ["10.1.0.2", "10.2.0.2", "192.0.2.53"]
    assert [str(each.address) for each in upstream_endpoints(SHARED_FILE)] == ["192.0.2.53"]
    first.withdraw()
    assert servers(path) == ["10.2.0.2", "192.0.2.53"]
    second.withdraw()
    assert path.read_text() == HOME


def test_an_exclusive_claim_has_no_server_beside_it(path: Path) -> None:
    mesh = Announcement(SHARED_FILE, claim(1))
    tunnel = Announcement(SHARED_FILE, Claim("home", (ipaddress.ip_address("10.9.9.9"),), is_exclusive=True))
    assert servers(path) == ["10.9.9.9"]
    tunnel.withdraw()
    assert servers(path) == ["10.1.0.2", "192.0.2.53"]
    mesh.withdraw()
    assert path.read_text() == HOME


def test_what_others_write_meanwhile_becomes_what_is_put_back(path: Path) -> None:
    announced = Announcement(SHARED_FILE, claim(1))
    before = shared_file.stamp()
    path.write_text("nameserver 198.51.100.1\n")
    assert shared_file.stamp() != before
    assert update()
    assert not update(), "once is enough"
    assert servers(path) == ["10.1.0.2", "198.51.100.1"]
    announced.withdraw()
    assert path.read_text() == "nameserver 198.51.100.1\n"


def test_a_link_comes_back_as_a_link_and_what_it_leads_to_is_read_anew(path: Path) -> None:
    behind = path.with_name("by-dhcp")
    path.rename(behind)
    path.symlink_to("by-dhcp")
    announced = Announcement(SHARED_FILE, claim(1))
    assert not path.is_symlink()
    before = shared_file.stamp()
    behind.write_text("nameserver 198.51.100.1\n")
    assert shared_file.stamp() != before
    assert update()
    assert servers(path) == ["10.1.0.2", "198.51.100.1"]
    assert [str(each.address) for each in upstream_endpoints(SHARED_FILE)] == ["198.51.100.1"]
    announced.withdraw()
    assert os.readlink(path) == "by-dhcp"
    assert behind.read_text() == "nameserver 198.51.100.1\n"


def test_a_host_without_the_file_has_none_afterwards(path: Path) -> None:
    path.unlink()
    Announcement(SHARED_FILE, claim(1)).withdraw()
    assert not path.exists()


def test_one_interface_is_claimed_once(path: Path) -> None:
    announced = Announcement(SHARED_FILE, claim(1))
    with pytest.raises(HostError, match="another process answers names for wg1"):
        Announcement(SHARED_FILE, claim(1))
    announced.withdraw()


def test_what_a_killed_process_left_is_repaired_and_others_stay(path: Path) -> None:
    announced = Announcement(SHARED_FILE, claim(2))
    program = (
        "import sys; from pathlib import Path; from wgpy.agent.dns import shared_file, resolvers\n"
        "from tests.agent.dns.test_shared_file import claim\n"
        "shared_file.RESOLV_CONF = Path(sys.argv[1])\n"
        "held = resolvers.Announcement(resolvers.SHARED_FILE, claim(1)); print('told', flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "told\n"
        assert servers(path)[:2] == ["10.1.0.2", "10.2.0.2"]
        process.send_signal(signal.SIGKILL)
    assert servers(path)[:2] == ["10.1.0.2", "10.2.0.2"]
    assert repair_names()
    assert servers(path)[:2] == ["10.2.0.2", "192.0.2.53"]
    assert not repair_names(), "nothing more to do"
    assert not needs_repair_of_names()
    announced.withdraw()
    assert path.read_text() == HOME


def test_after_a_reboot_the_file_alone_is_enough(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    announced = Announcement(SHARED_FILE, claim(1))
    monkeypatch.setenv("WGPY_RUNTIME_DIR", str(path.parent / "another-boot"))
    assert needs_repair_of_names()
    assert repair_names()
    assert path.read_text() == HOME
    monkeypatch.undo()
    del announced


def test_a_file_whose_end_was_cut_keeps_the_servers_that_were_not_ours(path: Path) -> None:
    announced = Announcement(SHARED_FILE, claim(1))
    text = path.read_text()
    path.write_text(text[: text.index("#wgpy-line")])
    announced.withdraw()
    assert path.read_text() == "nameserver 192.0.2.53\nsearch n1.internal\n"


def test_a_claim_for_the_rest_of_the_world_is_asked_alone_and_the_others_names_stay_short(path: Path) -> None:
    first = Announcement(SHARED_FILE, claim(1))
    leaving = Announcement(SHARED_FILE, dataclasses.replace(claim(2), is_default=True))
    assert servers(path) == ["10.2.0.2"]
    assert "search n1.internal n2.internal" in path.read_text()
    leaving.change(claim(2))
    assert servers(path) == ["10.1.0.2", "10.2.0.2", "192.0.2.53"]
    leaving.withdraw()
    first.withdraw()
    assert path.read_text() == HOME
