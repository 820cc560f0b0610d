"""`make demo`: three hosts without kernel WireGuard join a mesh with `wgpy up TOKEN`, and are gone again.

    python -m tests.netns.demo [--hold]

Each host is a network namespace with processes, addresses and state of its own; nothing of the machine itself
is changed. Everything is removed at the end, after Ctrl-C and after a failure. Needs root.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import re
import shlex
import signal
import sys
import time
from types import FrameType

from tests.netns.doorway import Doorway
from tests.netns.hosts import Internet, Lab
from tests.netns.mesh import ADMIN, TOKEN, Mesh, Node
from tests.netns.processes import HostFailure, wait_until

NODES = ("node1", "node2", "node3")
CODE = re.compile(r"^    ([0-9A-Z]{3}-[0-9A-Z]{3})$", re.MULTILINE)


class Narrator:
    """Says what happens. In colour only on a terminal, and where NO_COLOR does not forbid it."""

    def __init__(self) -> None:
        self.colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.started = time.monotonic()

    def paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.colour else text

    def step(self, text: str) -> None:
        seconds = f"{time.monotonic() - self.started:5.1f} s"
        print(f"\n{self.paint('1', text)} {self.paint('2', '· ' + seconds.strip())}", flush=True)

    def command(self, host: str, *words: str) -> None:
        line = TOKEN.sub(lambda token: token[0][:12] + "…", shlex.join(words))
        print(f"  {self.paint('36', host + '#')} {line}", flush=True)

    def output(self, text: str) -> None:
        for line in text.rstrip().splitlines():
            print(f"    {line}", flush=True)

    def good(self, text: str) -> None:
        print(f"  {self.paint('32', text)}", flush=True)

    def bad(self, text: str) -> None:
        print(f"\n{self.paint('1;31', text)}", file=sys.stderr, flush=True)


def start_mesh(say: Narrator, internet: Internet) -> Mesh:
    say.step("A coordinator: one process, no domain, no certificate to buy")
    mesh = Mesh(internet)
    say.command("coordinator", *mesh.serve_command)
    say.command("coordinator", *ADMIN, "network", "create", mesh.network)
    say.output(mesh.admin("network", "list"))
    return mesh


def join(say: Narrator, mesh: Mesh) -> list[Node]:
    say.step("Three hosts join: a token each, one command each")
    nodes = []
    for name in NODES:
        token = mesh.token()
        say.command("coordinator", *ADMIN, "token", "create", mesh.network)
        node = mesh.node(name)
        say.command(name, "wgpy", "up", token)
        node.up(token)
        nodes.append(node)
    for node in nodes:
        node.wait_up()
        say.good(f"{node.host.name} is {node.address('v4')} and {node.address('v6')} on {node.interface}")
    return nodes


def ping_all_pairs(say: Narrator, nodes: list[Node]) -> None:
    say.step("Every pair, over IPv4 and IPv6, round trip in ms")
    cells = {(a.host.name, b.host.name): a.wait_reach(b) for a, b in itertools.permutations(nodes, 2)}
    # The first echo has a handshake in it; the second is the tunnel's.
    for first, second in itertools.permutations(nodes, 2):
        cells[first.host.name, second.host.name] = first.wait_reach(second)
    names = [node.host.name for node in nodes]
    say.output("from \\ to " + "".join(f"{name:>18}" for name in names))
    for source in names:
        row = ""
        for target in names:
            trips = cells.get((source, target))
            cell = "·" if trips is None else f"{trips['v4'] * 1e3:.1f} / {trips['v6'] * 1e3:.1f}"
            row += f"{cell:>18}"
        say.output(f"{source:<10}{row}")
    say.good(f"{len(cells)} of {len(cells)} directions, each over IPv4 and IPv6")


def show(say: Narrator, node: Node) -> None:
    say.step("What the stock tools say, and what wgpy says")
    for words in (("wg", "show"), ("wgpy", "status")):
        say.command(node.host.name, *words)
        say.output(node.host.run(*words).stdout)


def move_data(say: Narrator, source: Node, target: Node) -> None:
    say.step("Data through the tunnel")
    target.host.start("iperf3", "--server", "--one-off", "--forceflush").wait_text("Server listening")
    words = ("iperf3", "--client", target.address("v6"), "--time", "4")
    say.command(target.host.name, "iperf3", "--server")
    say.command(source.host.name, *words)
    result = json.loads(source.host.run(*words, "--json").stdout)["end"]
    received = result["sum_received"]
    say.good(
        f"{received['bytes'] / 1e6:.0f} MB in {received['seconds']:.1f} s: "
        f"{received['bits_per_second'] / 1e6:.0f} Mbit/s, all hosts on this machine's {os.cpu_count()} cores"
    )


def show_page(say: Narrator, mesh: Mesh, port: int, code: str) -> None:
    found = re.search(r"https://\S+(/setup#\S+)", mesh.serving.text())
    say.step("The coordinator's page, for a browser on this machine")
    say.output(f"https://127.0.0.1:{port}{found[1] if found else ''}")
    say.output("The link is good once, for the first admin. A browser warns of the certificate, which is the")
    say.output("coordinator's own: nodes check it by the token.")
    say.output(f"In {mesh.network}, newcomer waits on top: type its code, {code}, and it is a node.")


def ask_to_join(say: Narrator, mesh: Mesh) -> str:
    """A host without a token, which waits → the code that it shows."""
    mesh.admin("network", "edit", mesh.network, "--keyless")
    node = mesh.node("newcomer")
    words = ("wgpy", "up", "--coordinator", mesh.url, "--network", mesh.network)
    say.step("A host without a token asks to join, and waits for your word")
    say.command(node.host.name, *words)
    node.agent = node.host.start(*words, log="agent")
    node.agent.wait_text("the code of this host is")
    found = wait_until(lambda: CODE.search(node.agent.text() if node.agent else ""), "the code is shown")
    return found[1] if found else ""


def hold(say: Narrator, lab: Lab, mesh: Mesh) -> None:
    code = ask_to_join(say, mesh)
    with Doorway(mesh.coordinator, (str(mesh.coordinator.ipv4), 8443), wished=8443) as door:
        show_page(say, mesh, door.port, code)
        show_around(say, lab, mesh)
        signal.pause()


def show_around(say: Narrator, lab: Lab, mesh: Mesh) -> None:
    say.step("Yours to look around, from another terminal")
    for host in (mesh.coordinator, *(node.host for node in mesh.nodes.values())):
        say.output(f"{host.enter}    a shell on {host.name}; with words, runs them there")
    node = mesh.nodes[NODES[0]]
    say.output("")
    for words in ("wgpy status --watch", "wg show", "ip route", f"ping {mesh.nodes[NODES[1]].address('v4')}"):
        say.output(f"{node.host.enter} {words}")
    say.output(f"{mesh.coordinator.enter} wgpy coordinator node list {mesh.network}")
    say.output(f"logs: {lab.directory}/*.d/*.log")
    say.good("Ctrl-C removes it all")


def run(say: Narrator, lab: Lab, *, holds: bool) -> None:
    say.step("Hosts: network namespaces on a switch, each with its own processes, /run and /var/lib")
    internet = Internet(lab)
    mesh = start_mesh(say, internet)
    nodes = join(say, mesh)
    ping_all_pairs(say, nodes)
    show(say, nodes[0])
    move_data(say, nodes[0], nodes[-1])
    if holds:
        hold(say, lab, mesh)
    say.step("Leaving, and removing everything")
    for node in nodes:
        say.command(node.host.name, "wgpy", "leave", mesh.network)
        node.host.run("wgpy", "leave", mesh.network)


def logs(lab: Lab) -> str:
    """The end of what each process wrote, for a failure."""
    return "\n".join(
        f"--- {host.name}: {process.words[0]} {' '.join(process.words[1:3])}\n{process.tail()}"
        for host in lab.hosts.values()
        for process in host.started
        if process.tail()
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hold", action="store_true", help="keep it running until Ctrl-C")
    arguments = parser.parse_args()
    say = Narrator()
    if os.geteuid():
        say.bad("the demo makes network namespaces, which takes root: sudo make demo")
        return 1

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    lab = None
    try:
        with Lab("demo") as lab:
            try:
                run(say, lab, holds=arguments.hold)
            except HostFailure as error:
                say.bad(f"failed: {error}")
                with contextlib.suppress(OSError):
                    print(TOKEN.sub("wgpy1_…", logs(lab)), file=sys.stderr)
                return 1
    except KeyboardInterrupt:
        if arguments.hold:
            say.good("removed")
            return 0
        say.bad("stopped; everything is removed")
        return 130
    say.good(f"all of it worked, in {time.monotonic() - say.started:.0f} s; nothing is left on this machine")
    return 0


if __name__ == "__main__":
    sys.exit(main())
