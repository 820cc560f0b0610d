"""The machines that the other tests stand on: separate, and gone when their owner is."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.hosts import PREFIX, REPOSITORY, Host, Internet, Lab
from tests.netns.impairment import Impairment, Line
from tests.netns.processes import HostFailure, wait_until

pytestmark = [pytest.mark.root, pytest.mark.alone]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("hosts") as lab:
        yield lab


def round_trips(host_output: str) -> list[float]:
    """The round trips of a ping's output, in seconds."""
    return [float(value) / 1000 for value in re.findall(r"time=([\d.]+) ms", host_output)]


def marks(host: Host) -> list[str]:
    """What a test left in the directories that each host has of its own (a clone may lie in one of them)."""
    return sorted(host.run("find", "/run", "/var/lib", "-maxdepth", "1", "-name", "wgpy-*").stdout.split())


def test_hosts_reach_each_other_over_ipv4_and_ipv6(lab: Lab) -> None:
    internet = Internet(lab)
    first, second = internet.host("first"), internet.host("second")
    for address in (second.ipv4, second.ipv6):
        first.run("ping", "-c1", "-W2", str(address))


def test_each_host_has_its_own_run_and_state_and_name(lab: Lab) -> None:
    first, second = lab.host("first"), lab.host("second")
    first.run("touch", "/run/wgpy-mark", "/var/run/wgpy-other", "/var/lib/wgpy-mark")
    assert marks(first) == ["/run/wgpy-mark", "/run/wgpy-other", "/var/lib/wgpy-mark"]
    assert marks(second) == []
    assert not Path("/run/wgpy-mark").exists()
    assert not Path("/var/lib/wgpy-mark").exists()
    assert first.run("uname", "-n").stdout == "first\n"


def test_a_command_that_fails_says_host_command_and_output(lab: Lab) -> None:
    host = lab.host("first")
    with pytest.raises(HostFailure, match=r"first: ls /nowhere: exit code 2: .*No such file"):
        host.run("ls", "/nowhere")
    assert host.run("false", check=False).returncode == 1


def test_a_command_that_hangs_is_killed_in_the_host_too(lab: Lab) -> None:
    host = lab.host("first")
    with pytest.raises(HostFailure, match="no end after"):
        host.run("sleep", "1000", timeout=0.2)
    wait_until(lambda: not host.processes(), "the sleep is gone")


def test_a_killed_process_is_dead_and_its_exit_is_known(lab: Lab) -> None:
    host = lab.host("first")
    process = host.start("sleep", "1000")
    assert [process.pid] == host.processes()
    process.kill()
    assert process.returncode == -signal.SIGKILL
    assert host.processes() == []


def test_a_reboot_keeps_state_and_link_and_nothing_else(lab: Lab) -> None:
    internet = Internet(lab)
    first, second = internet.host("first"), internet.host("second")
    first.run(
        "sh", "-c", "setsid sleep 1000 </dev/null >/dev/null 2>&1 & touch /run/wgpy-mark /var/lib/wgpy-mark"
    )
    first.reboot()
    assert first.processes() == []
    assert first.run("ls", "/run").stdout == ""
    assert marks(first) == ["/var/lib/wgpy-mark"]
    first.run("ping", "-c1", "-W2", str(second.ipv4))


def test_a_program_that_enters_a_host_is_made(lab: Lab) -> None:
    host = lab.host("first")
    assert subprocess.run([host.enter, "uname", "-n"], capture_output=True, check=True).stdout == b"first\n"


def test_nothing_is_left_of_a_lab_whose_owner_was_killed() -> None:
    program = (
        "import signal, sys; from tests.netns.hosts import Internet, Lab\n"
        "lab = Lab('doomed'); host = Internet(lab).host('first')\n"
        "process = host.start('sleep', '1000')\n"
        "print(host.pid, process.pid, lab.directory, flush=True); signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        *pids, directory = owner.stdout.readline().decode().split()
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        owner.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "its processes are gone")
    assert Path(directory).exists()
    with Lab("next"):
        assert not Path(directory).exists()


def test_a_lab_in_use_is_not_taken_for_a_leftover(lab: Lab) -> None:
    with Lab("other") as other:
        assert lab.directory.exists()
        assert other.directory.name.startswith(PREFIX)
    assert not other.directory.exists()


def test_hosts_can_be_made_and_used_from_several_threads(lab: Lab) -> None:
    internet = Internet(lab)
    failures: list[BaseException] = []

    def use(number: int) -> None:
        try:
            host = internet.host(f"host{number}")
            host.run("ping", "-c1", "-W2", str(host.ipv4))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    # The thread that made a host may end before it.
    lab.hosts["host0"].run("ping", "-c1", "-W2", str(lab.hosts["host3"].ipv6))


def test_a_line_delays_each_direction(lab: Lab) -> None:
    internet = Internet(lab)
    first = internet.host("first")
    second = internet.host("second", Line(Impairment(delay=0.05)))
    # The first round trip has the neighbour's resolution in it.
    times = round_trips(first.run("ping", "-c4", "-i0.2", str(second.ipv4)).stdout)[1:]
    assert all(0.1 <= seconds < 0.13 for seconds in times), times


def test_a_cut_line_carries_nothing_until_it_is_mended(lab: Lab) -> None:
    internet = Internet(lab)
    line = Line(Impairment())
    first, second = internet.host("first"), internet.host("second", line)
    ping = ("ping", "-c1", "-W1", str(second.ipv6))
    first.run(*ping)
    line.set(Impairment(cut=True))
    assert first.run(*ping, check=False).returncode != 0
    line.set(Impairment())
    first.run(*ping)


def test_a_line_loses_doubles_and_reorders(lab: Lab) -> None:
    internet = Internet(lab)
    line = Line(Impairment(), seed=7)
    first, second = internet.host("first"), internet.host("second", line)
    first.run("ping", "-c1", "-W2", str(second.ipv4))
    line.set(Impairment(loss=0.2, duplicate=0.2, reorder=0.3, delay=0.02))
    output = first.run("ping", "-c200", "-i0.002", "-W1", str(second.ipv4), check=False).stdout
    numbers = [int(value) for value in re.findall(r"icmp_seq=(\d+)", output)]
    assert 50 < len(set(numbers)) < 190
    assert "(DUP!)" in output
    assert numbers != sorted(numbers)


def test_bulk_data_passes_a_line_unharmed(lab: Lab) -> None:
    # Checksums and segments that veth leaves to the device must be done by the time a frame is copied.
    internet = Internet(lab)
    first, second = internet.host("first"), internet.host("second", Line(Impairment(delay=0.001)))
    server = first.start("iperf3", "--server", "--one-off", "--forceflush")
    server.wait_text("Server listening")
    second.run("iperf3", "--client", str(first.ipv4), "--bytes", "8M")
    assert server.wait() == 0


def test_a_lab_is_made_and_removed_quickly() -> None:
    started = time.monotonic()
    with Lab("quick") as lab:
        internet = Internet(lab)
        for number in range(4):
            internet.host(f"host{number}")
    assert time.monotonic() - started < 5
    assert not os.path.exists(lab.directory)
