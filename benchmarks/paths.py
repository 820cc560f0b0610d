"""What traffic is measured on: two hosts joined by one cable, with a contender's tunnel or without."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.builds import BUILD, Unavailable, build
from benchmarks.contenders import Contender
from benchmarks.search import Trial
from tests.interop.tunnel import Family, Implementation, Tunnel
from tests.netns.hosts import Host, Internet, Lab
from tests.netns.processes import HostFailure, Process, wait_until

HERE = Path(__file__).parent
_IPERF_PORT = "5201"


@dataclass(frozen=True, slots=True)
class Load:
    """Datagrams of `size` octets, `rate` a second, `segments` in one send, to `spread` addresses in turn."""

    rate: float
    seconds: float
    size: int
    segments: int = 1
    spread: int = 1


class Cable(Internet):
    """Two hosts on a veth pair of their own: no switch between them that would cost time."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.ends: list[Host] = []

    def host(self, name: str, line: object = None) -> Host:
        """The first and the second end; a third would be an error."""
        if line is not None or len(self.ends) == 2:
            raise ValueError("a cable has two plain ends")
        host = self.lab.host(name)
        self.ends.append(host)
        if len(self.ends) == 2:
            self.ends[0].ip(f"link add eth0 type veth peer name eth0 netns {host.pid}")
            for number, end in enumerate(self.ends, 1):
                end.ip("link set eth0 up")
                end.readdress(*self.addresses(number))
        else:
            # The tunnel of the first end asks for its address before there is a cable.
            v4, v6 = (ipaddress.ip_interface(address).ip for address in self.addresses(1))
            host.ipv4, host.ipv6 = ipaddress.IPv4Address(v4), ipaddress.IPv6Address(v6)
        return host


class MeasuredPath:
    """`out` is from `near` to `far`. `devices` are the programs whose cost counts."""

    def __init__(self, lab: Lab, number: int, contender: Contender) -> None:
        self.contender = contender
        cable = Cable(lab)
        self.devices: list[Process] = []
        self.tunnel: Tunnel | None = None
        if contender.implementation is None:
            self.near, self.far = cable.host(f"c{number}-i"), cable.host(f"c{number}-r")
            ends = ((self.near, 1), (self.far, 2))
            self.inner: dict[tuple[Host, Family], str] = {}
            for host, _ in ends:
                self.inner[host, "v4"], self.inner[host, "v6"] = str(host.ipv4), str(host.ipv6)
        else:
            self.tunnel = tunnel = Tunnel(
                cable, f"c{number}", contender.implementation, contender.implementation
            )
            self.near, self.far = tunnel.initiator.host, tunnel.responder.host
            self.devices = [tunnel.initiator.device, tunnel.responder.device]
            self.inner = {
                (end.host, family): address
                for end in (tunnel.initiator, tunnel.responder)
                for family, address in end.inner.items()
            }
        wait_until(lambda: self._answers("v4"), f"{contender.name}: no echo", timeout=15)
        wait_until(lambda: self._answers("v6"), f"{contender.name}: no echo", timeout=15)
        self.far.start("iperf3", "--server", "--port", _IPERF_PORT, "--forceflush").wait_text("listening")

    def _answers(self, family: Family) -> bool:
        return self.near.run("ping", "-c1", "-W1", self.inner[self.far, family], check=False).returncode == 0

    def close(self) -> None:
        """End both hosts."""
        self.near.close()
        self.far.close()

    # --- cost -----------------------------------------------------------------------------------------------

    def cpu_seconds(self) -> float:
        """What both devices have spent so far, in user and kernel mode, all threads."""
        return sum(cpu_seconds(device.pid) for device in self.devices)

    def peak_resident_mib(self) -> list[float]:
        """The most memory that each device ever had."""
        return [status_mib(device.pid, "VmHWM") for device in self.devices]

    # --- traffic --------------------------------------------------------------------------------------------

    def start_tcp(self, seconds: float, streams: int, family: Family, *, back: bool) -> subprocess.Popen[str]:
        words = [
            "iperf3", "--client", self.inner[self.far, family], "--port", _IPERF_PORT, "--json",
            "--time", f"{seconds:g}", "--parallel", str(streams), *(["--reverse"] if back else []),
        ]  # fmt: skip
        return subprocess.Popen(
            self.near.command_prefix + words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def finish_tcp(self, client: subprocess.Popen[str], timeout: float) -> tuple[float, int]:
        """Mbit/s that arrived, and retransmissions."""
        try:
            output, error = client.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            client.kill()
            client.communicate()
            raise HostFailure(f"{self.contender.name}: iperf3 does not end") from None
        said: dict[str, Any] = json.loads(output) if output.strip() else {"error": error.strip()}
        if "error" in said:
            raise HostFailure(f"{self.contender.name}: iperf3: {said['error']}")
        end = said["end"]
        return end["sum_received"]["bits_per_second"] / 1e6, int(end["sum_sent"].get("retransmits", 0))

    def tcp(self, seconds: float, streams: int, family: Family, *, back: bool) -> tuple[float, int]:
        """Mbit/s that arrived, and retransmissions."""
        client = self.start_tcp(seconds, streams, family, back=back)
        return self.finish_tcp(client, seconds + 20)

    def udp(self, load: Load) -> Trial:
        """Datagrams from near to far."""
        return udp_load(self.near, self.far, self.inner[self.far, "v4"], load)

    def echoes(self, count: int, interval: float, *, patience: int = 1) -> list[float]:
        """The round trips of those that came back, in ms."""
        output = self.near.run(
            "ping", f"-c{count}", f"-i{interval:g}", f"-W{patience}", self.inner[self.far, "v4"], check=False
        ).stdout
        return [float(value) for value in re.findall(r"time=([\d.]+) ms", output)]


def start_device(host: Host, implementation: Implementation) -> Process:
    """wg0 on this host, without any configuration."""
    environment = dict(variable.split("=", 1) for variable in implementation.env)
    quiet = {"LOG_LEVEL": "error", "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD": "1"}
    device = host.start(*implementation.command, "wg0", log="device", env=quiet | environment)
    wait_until(
        lambda: host.run("wg", "show", "wg0", check=False).returncode == 0,
        f"{implementation}: the UAPI socket answers", timeout=20,
    )  # fmt: skip
    return device


def load_peers(host: Host, text: str) -> None:
    """By `wg setconf`, in one go."""
    path = host.path / "wg0.conf"
    path.touch(0o600)
    path.write_text(text)
    host.run("wg", "setconf", "wg0", path)


def udp_load(source: Host, target: Host, address: str, load: Load) -> Trial:
    """Run our own sender and receiver (udp_load/). Raises HostFailure."""
    places = [f"/proc/{host.pid}/ns/net" for host in (source, target)]
    done = subprocess.run(
        [build_udp_load(), *places, address, str(load.size), f"{load.rate:.1f}", f"{load.seconds:g}",
         str(load.segments), str(load.spread)],
        capture_output=True, text=True, check=False, timeout=load.seconds + 20,
    )  # fmt: skip
    if done.returncode:
        raise HostFailure(done.stderr.strip())
    said = json.loads(done.stdout)
    return Trial(said["sent"], said["received"], said["seconds"], said["drain"], said["reordered"])


def build_udp_load() -> Path:
    """Raises HostFailure when there is no cargo to build it with."""
    target = BUILD / "udp_load"
    program = target / "release" / "udp-load"
    sources = [*(HERE / "udp_load").glob("src/*.rs"), HERE / "udp_load" / "Cargo.toml"]
    try:
        return build(
            program, "cargo", "build", "--release", "--locked", "--quiet",
            "--manifest-path", str(HERE / "udp_load" / "Cargo.toml"), "--target-dir", str(target),
            sources=sources,
        )  # fmt: skip
    except Unavailable as error:
        raise HostFailure(f"the UDP load generator cannot be built: {error}") from None


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def status_mib(pid: int, name: str) -> float:
    """A line of /proc/PID/status that is in kB, in MiB."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), flags=re.M)
    if found is None:
        raise HostFailure(f"process {pid} has no {name}")
    return int(found[1]) / 1024
