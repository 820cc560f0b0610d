"""What breaks while two nodes talk, one thing at a time, and how long it takes them to heal by themselves."""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tests.netns.hosts import Host
from tests.netns.meeting import MeetingGround, PathClass, Pings, path_class
from tests.netns.mesh import Node
from tests.netns.nat import Home, Nat
from tests.netns.processes import HostFailure, Process, wait_until

HELD: Final = 6.0
"""Seconds for which what is restored stays broken."""
ASLEEP: Final = 200.0
"""Seconds: keys are good for 180, a relay waits for 90, routers remember for 30."""
PING_INTERVAL: Final = 0.1


@dataclass(slots=True)
class Scene:
    """Two nodes that talk, and all that can be broken between them."""

    ground: MeetingGround
    hosts: tuple[Host, Host]
    homes: tuple[Home, Home]
    nodes: tuple[Node, Node] = field(init=False)

    @property
    def coordinator(self) -> Host:
        return self.ground.mesh.coordinator

    def move(self, host: Host) -> None:
        """Another address of the internet, as after a change of network."""
        host.readdress(*self.ground.internet.next_addresses())

    def set_link(self, host: Host, name: str, *, up: bool) -> None:
        host.ip(f"link set {name} {'up' if up else 'down'}")
        if up and name == "eth0" and host.ipv4 is not None and not host.ipv4.is_global:
            host.ip("route replace default via 192.168.1.1")

    def sleep(self) -> None:
        """The first node stops, as with the lid of a laptop; its router forgets it meanwhile."""
        self._agent.signal(signal.SIGSTOP)
        self.homes[0].reboot()

    def wake(self) -> None:
        self._agent.signal(signal.SIGCONT)

    @property
    def _agent(self) -> Process:
        agent = self.nodes[0].agent
        assert agent is not None
        return agent

    def kill_coordinator(self) -> None:
        self.ground.mesh.serving.kill()

    def kill_relay(self) -> None:
        """The one by which the first node sends."""
        peer = self.nodes[0].peer(self.nodes[1])
        assert peer is not None
        self.ground.relays[peer["endpoint"].removeprefix("relay ")].kill()


@dataclass(frozen=True, slots=True)
class Break:
    """`nats`: of the two homes. `act` breaks something; `mend`, if there is one, restores it after `held`
    seconds.
    """

    name: str
    nats: tuple[Nat, Nat]
    act: Callable[[Scene], None]
    mend: Callable[[Scene], None] | None = None
    expected: PathClass = "direct"
    after: PathClass | None = None
    """The best path afterwards, where it is another."""
    has_cable: bool = False
    """A second cable joins the two, with addresses of its own."""
    held: float = HELD


def _both_move(scene: Scene) -> None:
    for host in scene.hosts:
        scene.move(host)


def _router_moves(scene: Scene) -> None:
    router = scene.homes[0].router
    assert router is not None
    scene.move(router)


def _sleep_and_move(scene: Scene) -> None:
    scene.sleep()
    _router_moves(scene)


def _restart(scene: Scene) -> None:
    agent = scene.nodes[0].agent
    assert agent is not None
    agent.kill()
    scene.nodes[0].up()


def _both_move_and_kill(scene: Scene) -> None:
    scene.kill_coordinator()
    _both_move(scene)


def _reboot_and_kill(scene: Scene) -> None:
    scene.kill_coordinator()
    scene.homes[0].reboot()


_PAIR: Final = (Nat.PORT_RESTRICTED, Nat.PORT_RESTRICTED)
_HOSTS: Final = (Nat.FIREWALL, Nat.FIREWALL)

BREAKS: Final = {
    one.name: one
    for one in (
        Break(
            "a router forgets its mappings",
            (Nat.PORT_MOVED, Nat.PORT_RESTRICTED),
            lambda s: s.homes[0].reboot(),
        ),
        Break(
            "a symmetric router forgets its mappings",
            (Nat.SYMMETRIC, Nat.FULL_CONE),
            lambda s: s.homes[0].reboot(),
        ),
        Break(
            "both routers forget their mappings",
            _PAIR,
            lambda s: [home.reboot() for home in s.homes] and None,
        ),
        Break("one end gets another address", _HOSTS, lambda s: s.move(s.hosts[0])),
        Break("both ends get other addresses at once", _HOSTS, _both_move),
        Break("a provider gives a router another address", _PAIR, _router_moves),
        Break(
            "the cable between the two is unplugged",
            _PAIR,
            lambda s: s.set_link(s.hosts[0], "eth1", up=False),
            expected="lan",
            after="direct",
            has_cable=True,
        ),
        Break(
            "the cable between the two is unplugged, then back",
            _PAIR,
            lambda s: s.set_link(s.hosts[0], "eth1", up=False),
            lambda s: s.set_link(s.hosts[0], "eth1", up=True),
            expected="lan",
            has_cable=True,
        ),
        Break(
            "the uplink of one is unplugged, then back",
            _PAIR,
            lambda s: s.set_link(s.hosts[0], "eth0", up=False),
            lambda s: s.set_link(s.hosts[0], "eth0", up=True),
        ),
        Break("UDP is blocked", _PAIR, lambda s: s.homes[0].block_udp(), after="relayed"),
        Break(
            "UDP is blocked, then allowed",
            _PAIR,
            lambda s: s.homes[0].block_udp(),
            lambda s: s.homes[0].block_udp(blocked=False),
        ),
        Break("the coordinator is killed", _PAIR, lambda s: s.kill_coordinator()),
        Break("a router forgets its mappings, without a coordinator", _PAIR, _reboot_and_kill),
        Break(
            "both ends get other addresses, without a coordinator",
            _HOSTS,
            _both_move_and_kill,
        ),
        Break(
            "the relay in use is killed",
            (Nat.SYMMETRIC, Nat.SYMMETRIC),
            lambda s: s.kill_relay(),
            expected="relayed",
        ),
        Break("an agent is killed and started again", _PAIR, _restart),
        Break("a node sleeps and wakes", _PAIR, Scene.sleep, Scene.wake, held=ASLEEP),
        Break("a node wakes in another place", _PAIR, _sleep_and_move, Scene.wake, held=ASLEEP),
    )
}


@dataclass(frozen=True, slots=True)
class Healing:
    """Seconds. `gap`: without an answer to pings, from the break, or from its mending if it is mended.
    `best_path`: from the same instant until answers come by the best path. None: not within the patience.
    """

    name: str
    gap: float | None
    best_path: float | None
    found: PathClass
    reason: str


def heal(ground: MeetingGround, broken: Break, patience: float = 60.0) -> Healing:
    """Let two new nodes talk, break it, and watch. HostFailure when they never talked."""
    with ground.visitors():
        homes = tuple(
            Home(ground.internet, f"home{number}", nat) for number, nat in enumerate(broken.nats, 1)
        )
        hosts = tuple(home.host(f"node{number}") for number, home in enumerate(homes, 1))
        assert len(hosts) == len(homes) == 2
        scene = Scene(ground, hosts, homes)
        if broken.has_cable:
            _join(*hosts)
        with ground.join(*hosts) as (first, second):
            scene.nodes = first, second
            try:
                return _watch(scene, broken, patience)
            finally:
                if ground.mesh.serving.returncode is not None:
                    ground.mesh.serve()
                for name, relay in ground.relays.items():
                    if relay.returncode is not None:
                        ground.start_relay(name)


def _join(one: Host, other: Host) -> None:
    one.ip(f"link add eth1 type veth peer name eth1 netns {other.pid}")
    for number, host in enumerate((one, other), 1):
        host.ip("link set eth1 up", f"address add 10.99.0.{number}/24 dev eth1")


def _watch(scene: Scene, broken: Break, patience: float) -> Healing:
    first, second = scene.nodes
    pings = Pings(first.host, second.address("v4"), PING_INTERVAL)

    def uses(path: PathClass) -> bool:
        return all(path_class(one, other) == path for one, other in ((first, second), (second, first)))

    wait_until(lambda: len(pings.answers()) > 10 and uses(broken.expected), "the path before", 30)
    at = time.time()
    broken.act(scene)
    if broken.mend is not None:
        time.sleep(broken.held)
        at = time.time()
        broken.mend(scene)
    after = broken.after or broken.expected
    best_path = None

    def is_well() -> bool:
        return any(answer > at + 0.2 for answer in pings.answers()) and uses(after)

    with contextlib.suppress(HostFailure):
        wait_until(is_well, "the best path", patience)
        best_path = time.time() - at
        # A path that was not seen to be broken yet looks as good as one that is mended.
        wait_until(lambda: time.time() > at + 5 and is_well(), "the best path", patience)
    answers = pings.stop()
    return Healing(
        broken.name,
        _gap(answers, at, is_mended=broken.mend is not None),
        best_path,
        path_class(first, second),
        "",
    )


def _gap(answers: list[float], at: float, *, is_mended: bool) -> float | None:
    later = [answer for answer in answers if answer > at]
    if not later or later[-1] < at + 3:
        return None
    if is_mended:
        return later[0] - at
    earlier = [answer for answer in answers if answer <= at][-1:]
    return max(b - a for a, b in itertools.pairwise([*earlier, *later]))
