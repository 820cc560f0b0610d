"""Two hosts with a WireGuard device each, of any implementation that wireguard-tools can drive."""

from __future__ import annotations

import itertools
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from tests.netns.hosts import Host, Internet
from tests.netns.processes import HostFailure, Process, wait_until
from wgpy.engine import ENGINES

PORT = 51820
_transfers = itertools.count()
_LISTENS = 1 << 16
"""Of the flags of /proc/net/unix."""
Family = Literal["v4", "v6"]


@dataclass(frozen=True, slots=True)
class Implementation:
    """A program that makes the interface named by its last argument and serves its UAPI socket.

    `env` are further environment variables, as NAME=VALUE.
    """

    name: str
    command: tuple[str, ...]
    env: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


WIREGUARD_GO = Implementation("wireguard-go", ("wireguard-go", "--foreground"))
WGPY = {
    engine: Implementation(f"wgpy-{engine}", ("wgpy-device", "--foreground"), (f"WGPY_ENGINE={engine}",))
    for engine in ENGINES
}


def run_wg(*arguments: str, input: str | None = None) -> str:
    return subprocess.run(
        ["wg", *arguments], input=input, text=True, capture_output=True, check=True
    ).stdout.strip()


@dataclass(frozen=True, slots=True)
class Keys:
    private: str
    public: str

    @classmethod
    def generate(cls) -> Self:
        private = run_wg("genkey")
        return cls(private, run_wg("pubkey", input=private))


class End:
    """One end of a tunnel: wg0 on a host. `inner` are its addresses in the tunnel, by family."""

    def __init__(self, host: Host, implementation: Implementation, number: int) -> None:
        self.host = host
        self.implementation = implementation
        self.keys = Keys.generate()
        self.inner: dict[Family, str] = {"v4": f"10.77.0.{number}", "v6": f"fd77::{number}"}
        self.device: Process = host.start(
            *implementation.command,
            "wg0",
            log="device",
            env={"LOG_LEVEL": "error", "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD": "1"}
            | dict(variable.split("=", 1) for variable in implementation.env),
        )
        try:
            wait_until(self._is_up, "the UAPI socket answers", timeout=20)
        except HostFailure as error:
            raise HostFailure(f"{implementation} on {host.name}: {error}: {self.device.tail()}") from None
        self.wg("set", "wg0", "listen-port", str(PORT), "private-key", "/dev/stdin", input=self.keys.private)
        host.ip(
            f"address add {self.inner['v4']}/24 dev wg0",
            f"address add {self.inner['v6']}/64 dev wg0 nodad",
            "link set wg0 mtu 1420 up",
        )

    def _is_up(self) -> bool:
        if self.device.returncode:  # 0: it goes on in the background
            raise HostFailure(f"it ended by itself, with {self.device.returncode}")
        # Before: wg removes a socket that does not listen yet, and wireguard-go ends when its socket is gone.
        return self._listens() and self.host.run("wg", "show", "wg0", check=False).returncode == 0

    def _listens(self) -> bool:
        sockets = Path(f"/proc/{self.host.pid}/net/unix").read_text().splitlines()[1:]
        return any(
            int(flags, 16) & _LISTENS and path and "/wireguard/" in path[0]
            for _, _, _, flags, _, _, _, *path in map(str.split, sockets)
        )

    def wg(self, *arguments: str, input: str | None = None) -> str:
        return self.host.run("wg", *arguments, input=input).stdout.strip()

    def outer(self, family: Family) -> str:
        """The host's own address, as an endpoint."""
        return f"{self.host.ipv4}:{PORT}" if family == "v4" else f"[{self.host.ipv6}]:{PORT}"

    def add_peer(
        self, other: End, *, endpoint: str | None = None, preshared_key: str | None = None, public: str = ""
    ) -> None:
        """`public` stands in for the other end's key, to be wrong on purpose."""
        words = ["set", "wg0", "peer", public or other.keys.public]
        words += ["allowed-ips", f"{other.inner['v4']}/32,{other.inner['v6']}/128"]
        words += ["endpoint", endpoint] if endpoint else []
        words += ["preshared-key", "/dev/stdin"] if preshared_key else []
        self.wg(*words, input=preshared_key)

    def ping(self, other: End, family: Family = "v4", *, count: int = 1, timeout: int = 5) -> bool:
        """Do all of `count` echoes come back?"""
        return (
            self.host.run(
                "ping", f"-c{count}", "-i0.2", f"-W{timeout}", other.inner[family], check=False
            ).returncode
            == 0
        )

    def shown(self, what: str) -> list[str]:
        """The columns after the key of the one peer, of `wg show wg0 WHAT`."""
        return self.wg("show", "wg0", what).split()[1:]

    @property
    def latest_handshake(self) -> int:
        return int(self.shown("latest-handshakes")[0])

    @property
    def endpoint(self) -> str:
        return self.shown("endpoints")[0]

    @property
    def transfer(self) -> tuple[int, int]:
        """Octets received, sent."""
        received, sent = self.shown("transfer")
        return int(received), int(sent)

    def send_to(self, other: End, family: Family, size: int, timeout: float) -> None:
        """Send random octets over TCP inside the tunnel; HostFailure unless the same arrive."""
        program = Path(__file__).with_name("transfer.py")
        port = str(20000 + secrets.randbelow(10000))
        address = other.inner[family]
        # The same port may come again: each log is of one transfer.
        log = f"receive-{next(_transfers)}"
        receiver = other.host.start(sys.executable, program, "receive", address, port, log=log)
        receiver.wait_text("listening\n")
        sent = self.host.run(
            sys.executable, program, "send", address, port, str(size), timeout=timeout
        ).stdout
        receiver.wait(timeout)
        received = receiver.text().removeprefix("listening\n")
        if sent != received or not sent.startswith(f"{size} "):
            raise HostFailure(f"sent {sent!r}, received {received!r}")

    def datagrams_sent(self) -> int:
        """UDP datagrams that the host has ever sent, of both families."""
        v4 = self.host.run("grep", "^Udp:", "/proc/net/snmp").stdout.splitlines()
        names, values = (line.split() for line in v4)
        v6 = self.host.run("grep", "^Udp6OutDatagrams", "/proc/net/snmp6").stdout.split()
        return int(values[names.index("OutDatagrams")]) + int(v6[1])

    def stop(self) -> None:
        self.device.stop()


class Tunnel:
    """An initiator, who knows the responder's endpoint, and a responder, who has to learn the initiator's."""

    def __init__(
        self,
        internet: Internet,
        name: str,
        initiator: Implementation,
        responder: Implementation,
        *,
        outer: Family = "v4",
        preshared: bool = False,
        connect: bool = True,
    ) -> None:
        self.initiator = End(internet.host(f"{name}-i"), initiator, 1)
        self.responder = End(internet.host(f"{name}-r"), responder, 2)
        self.outer: Family = outer
        if connect:
            key = run_wg("genpsk") if preshared else None
            self.responder.add_peer(self.initiator, preshared_key=key)
            self.initiator.add_peer(self.responder, preshared_key=key, endpoint=self.responder.outer(outer))

    def check_session(self) -> None:
        """Both ends have one, with each other, over the family that was asked for."""
        for end, other in ((self.initiator, self.responder), (self.responder, self.initiator)):
            if end.latest_handshake == 0:
                raise HostFailure(f"{end.host.name} ({end.implementation}) shows no handshake")
            if end.endpoint != other.outer(self.outer):
                raise HostFailure(f"{end.host.name}: endpoint {end.endpoint}, not {other.outer(self.outer)}")

    def close(self) -> None:
        self.initiator.stop()
        self.responder.stop()
