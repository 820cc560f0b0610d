"""`wgpy coordinator clients`: phones and whatever else runs stock WireGuard, and the gateways for them."""

from __future__ import annotations

import io
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coordinator.ages import parse_age, parse_end, show_age
from coordinator.command import (
    client_of,
    dry_run_option,
    json_option,
    one_line_errors,
    only_network,
    print_changes,
    print_done,
    print_json,
    print_table,
    state_dir_option,
    trying,
)
from wgpy.errors import ConfigError, StateError
from wgpy.keys import PrivateKey
from wgpy.mesh.client_file import insert_key

if TYPE_CHECKING:
    from segno import QRCode

    from coordinator.client import AdminClient

network_option = click.option("--network", help="Which network's; not needed when there is one.")
qr_option = click.option("--qr", is_flag=True, help="Show the file as a QR code on this terminal.")
qr_file_option = click.option(
    "--qr-file", type=click.Path(path_type=Path), help="Write the QR code there: FILE.svg or FILE.png."
)
out_option = click.option(
    "--out", type=click.Path(path_type=Path), help="Write the file there, mode 0600, not to the screen."
)
link_option = click.option(
    "--link", metavar="TIME", help="Print a link that gives the file once, and is good for that long."
)
key_option = click.option("--public-key", metavar="KEY", help="Of a key that was made on the client.")


@click.group()
def clients() -> None:
    """Let phones, and whatever else runs stock WireGuard, into a network."""


# --- clients --------------------------------------------------------------------------------------


@clients.command("add")
@click.argument("name")
@click.option(
    "--reach", multiple=True, metavar="NODE|RANGE", help="What alone it may reach. May be repeated."
)
@click.option("--internet", is_flag=True, help="All that it sends goes by the gateway, the internet too.")
@click.option("--address", "addresses", multiple=True, help="An address of your choice, of each family.")
@click.option("--expires", metavar="TIME", help="Keep it out after that long from now, or never.")
@click.option("--group", help="The gateways that it comes in by; not needed when there is one group.")
@key_option
@link_option
@out_option
@qr_option
@qr_file_option
@dry_run_option
@network_option
@state_dir_option
@json_option
@one_line_errors
def add(
    *,
    name: str,
    reach: tuple[str, ...],
    internet: bool,
    addresses: tuple[str, ...],
    expires: str | None,
    group: str | None,
    public_key: str | None,
    link: str | None,
    out: Path | None,
    qr: bool,
    qr_file: Path | None,
    dry_run: bool,
    network: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Make a client, and print its file for wg-quick or an app.

    Its key is made here and goes nowhere but into the file; with --link the coordinator makes it and keeps
    nothing but the file, sealed under the link, until that is used.
    """
    body: dict[str, object] = {"name": name, "group": group, "addresses": list(addresses)}
    if reach or internet:
        body["reach"] = _reach(reach, internet=internet)
    if expires is not None and (age := parse_end(expires)) is not None:
        body["expires_at"] = time.time() + age
    with client_of(state_dir) as client:
        place = ("networks", only_network(client, network), "clients")
        showing = _Showing(out, qr, qr_file, as_json, dry_run)
        _give(client, place, body, showing, public_key=public_key, link=link)
    if internet and not dry_run and not as_json:
        click.echo(
            "the gateway's host has to agree, unless it did: wgpy set --advertise exit,ingress", err=True
        )


@clients.command("key")
@click.argument("name")
@key_option
@link_option
@out_option
@qr_option
@qr_file_option
@dry_run_option
@network_option
@state_dir_option
@json_option
@one_line_errors
def renew(
    *,
    name: str,
    public_key: str | None,
    link: str | None,
    out: Path | None,
    qr: bool,
    qr_file: Path | None,
    dry_run: bool,
    network: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Give a client another key, and so another file: the one of before ends."""
    with client_of(state_dir) as client:
        place = ("networks", only_network(client, network), "clients", name, "key")
        showing = _Showing(out, qr, qr_file, as_json, dry_run)
        _give(client, place, {}, showing, public_key=public_key, link=link)


class _Showing:
    """Where a file is to go."""

    def __init__(
        self, out: Path | None, qr: bool, qr_file: Path | None, as_json: bool, dry_run: bool
    ) -> None:
        if qr_file is not None and qr_file.suffix not in (".svg", ".png"):
            raise ConfigError(f"a QR code is written to FILE.svg or FILE.png; got {qr_file.name!r}")
        self.out, self.qr, self.qr_file, self.as_json, self.dry_run = out, qr, qr_file, as_json, dry_run

    def show(self, made: Mapping[str, Any], text: str) -> None:
        if self.qr_file is not None:
            picture = io.BytesIO()
            _code(text).save(picture, kind=self.qr_file.suffix[1:], border=4, scale=6)
            _write_private(self.qr_file, picture.getvalue())
        if self.out is not None:
            _write_private(self.out, text.encode())
        if self.as_json:
            print_json({**made, "config": text})
            return
        if self.qr:
            terminal = io.StringIO()
            _code(text).terminal(terminal, compact=True, border=2)
            click.echo(terminal.getvalue(), nl=False)
        if self.out is None and not self.qr and self.qr_file is None:
            click.echo(text, nl=False)
        for path in (self.out, self.qr_file):
            if path is not None:
                click.echo(f"{made['name']} is {' and '.join(made['addresses'])}; its file: {path}", err=True)


def _code(text: str) -> QRCode:
    import segno  # noqa: PLC0415 - few commands draw one

    return segno.make(text, error="l", micro=False)


def _write_private(path: Path, data: bytes) -> None:
    """Raises StateError. What was there goes, so that nobody who has it open reads the new one."""
    try:
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror}") from None


def _give(
    client: AdminClient,
    place: Sequence[str],
    body: dict[str, object],
    showing: _Showing,
    *,
    public_key: str | None,
    link: str | None,
) -> None:
    tried = trying(showing.dry_run)
    if link is not None:
        if public_key is not None:
            raise ConfigError("--link is for a key that the coordinator makes: leave out --public-key")
        made = client.call("POST", *place, body=body | {"link_for": parse_age(link)}, query=tried)
        if showing.dry_run:
            print_changes([made], as_json=showing.as_json)
        elif showing.as_json:
            print_json(made)
        else:
            click.echo(made["link"])
            click.echo(f"good once, for {link}; its QR code is that of the file behind it", err=True)
        return
    private = None
    if public_key is None:
        private = PrivateKey(secrets.token_bytes(32))
        public_key = str(private.public_key())
    made = client.call("POST", *place, body=body | {"public_key": public_key}, query=tried)
    if showing.dry_run:
        print_changes([made], as_json=showing.as_json)
        return
    text = made["config"] if private is None else insert_key(made["config"], private)
    showing.show(made, text)


def _reach(words: Sequence[str], *, internet: bool) -> dict[str, object]:
    """Names of nodes, and ranges: what has a dot, a colon or a slash in it. None: everything."""
    ranges = [word for word in words if any(char in word for char in "./:")]
    nodes = [word for word in words if word not in ranges]
    return {"everything": not words, "nodes": nodes, "ranges": ranges, "internet": internet}


@clients.command("list")
@click.argument("network", required=False)
@state_dir_option
@json_option
@one_line_errors
def list_clients(network: str | None, state_dir: Path | None, as_json: bool) -> None:
    """The clients of a network, and when each was last there."""
    with client_of(state_dir) as client:
        found = client.call("GET", "networks", only_network(client, network), "clients")["clients"]
    if as_json:
        print_json(found)
        return
    header = ("NAME", "ADDRESSES", "STATE", "REACHES", "HANDSHAKE", "FROM", "BY")
    print_table(header, [_row(row) for row in found])


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["name"], ", ".join(row["addresses"]), row["state"], _reach_shown(row), _age_shown(row),
        row["endpoint"] or "-", row["gateway_name"] or "-",
    )  # fmt: skip


def _reach_shown(row: Mapping[str, Any]) -> str:
    reach = row["reach"]
    names = [node["name"] or node["id"][:8] for node in row["reach_nodes"]]
    words = ["everything"] if reach["everything"] else [*names, *reach["ranges"]]
    return ", ".join([*words, *(["the internet"] if reach["internet"] else [])])


def _age_shown(row: Mapping[str, Any]) -> str:
    at = row["latest_handshake_at"]
    return "never" if at is None else f"{show_age(max(0, time.time() - at))} ago"


@clients.command("show")
@click.argument("name")
@click.option("--config", is_flag=True, help="Its file, without the private key.")
@network_option
@state_dir_option
@json_option
@one_line_errors
def show(name: str, config: bool, network: str | None, state_dir: Path | None, as_json: bool) -> None:
    """All about a client."""
    with client_of(state_dir) as client:
        place = ("networks", only_network(client, network), "clients", name)
        if config:
            for piece in client.download(*place, "config"):
                click.echo(piece, nl=False)
            return
        row = client.call("GET", *place)
    if as_json:
        print_json(row)
        return
    expires = row["expires_at"]
    rows = (
        ("name", row["name"]),
        ("state", row["state"]),
        ("addresses", ", ".join(row["addresses"])),
        ("reaches", _reach_shown(row)),
        ("public key", f"{row['public_key']} (made by the {row['key_by']})"),
        ("comes in by", f"{row['group_name']}, now {row['gateway_name'] or 'nowhere'}"),
        ("handshake", _age_shown(row)),
        ("from", row["endpoint"] or "-"),
        ("traffic", f"{row['rx_bytes']} octets from it, {row['tx_bytes']} to it"),
        ("expires", "never" if expires is None else _when(expires)),
        ("link", "none" if row["link_until"] is None else f"good until {_when(row['link_until'])}"),
    )
    for what, value in rows:
        click.echo(f"{what:<12} {value}")


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _edit(
    name: str,
    change: Mapping[str, object],
    said: str,
    network: str | None,
    state_dir: Path | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    with client_of(state_dir) as client:
        place = ("networks", only_network(client, network), "clients", name)
        row = client.call("PATCH", *place, body=dict(change), if_match="*", query=trying(dry_run))
    print_done(row, lambda row: f"{row['name']} {said}", dry_run=dry_run, as_json=as_json)


@clients.command("disable")
@click.argument("name")
@network_option
@dry_run_option
@state_dir_option
@json_option
@one_line_errors
def disable(*, name: str, network: str | None, dry_run: bool, state_dir: Path | None, as_json: bool) -> None:
    """Keep a client out, at once; its name, addresses and key stay."""
    _edit(name, {"disabled": True}, "is kept out", network, state_dir, dry_run=dry_run, as_json=as_json)


@clients.command("enable")
@click.argument("name")
@network_option
@dry_run_option
@state_dir_option
@json_option
@one_line_errors
def enable(*, name: str, network: str | None, dry_run: bool, state_dir: Path | None, as_json: bool) -> None:
    """Let a client in again."""
    _edit(name, {"disabled": False}, "may come in", network, state_dir, dry_run=dry_run, as_json=as_json)


@clients.command("edit")
@click.argument("name")
@click.option("--rename", metavar="NAME", help="Call it by another name.")
@click.option(
    "--reach", multiple=True, metavar="NODE|RANGE", help="What alone it may reach. May be repeated."
)
@click.option("--reach-everything", is_flag=True, help="Whatever its gateway reaches.")
@click.option("--internet/--no-internet", default=None, help="Whether the internet too, by the gateway.")
@click.option("--expires", metavar="TIME", help="Keep it out after that long from now, or never.")
@network_option
@dry_run_option
@state_dir_option
@json_option
@one_line_errors
def edit(
    *,
    name: str,
    rename: str | None,
    reach: tuple[str, ...],
    reach_everything: bool,
    internet: bool | None,
    expires: str | None,
    network: str | None,
    dry_run: bool,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Change a client: its gateway follows within seconds, its file need not change for less."""
    change: dict[str, object] = {}
    if rename is not None:
        change["name"] = rename
    if reach and reach_everything:
        raise ConfigError("say either --reach or --reach-everything")
    if reach or reach_everything or internet is not None:
        with client_of(state_dir) as client:
            found = client.call("GET", "networks", only_network(client, network), "clients", name)["reach"]
        wanted = _reach(reach, internet=found["internet"]) if reach or reach_everything else dict(found)
        change["reach"] = wanted if internet is None else wanted | {"internet": internet}
    if expires is not None:
        age = parse_end(expires)
        change["expires_at"] = None if age is None else time.time() + age
    if not change:
        raise ConfigError(
            "say what to change: --rename, --reach, --reach-everything, --internet, --no-internet "
            "or --expires"
        )
    _edit(name, change, "is changed", network, state_dir, dry_run=dry_run, as_json=as_json)


@clients.command("remove")
@click.argument("name")
@network_option
@dry_run_option
@state_dir_option
@json_option
@one_line_errors
def remove(*, name: str, network: str | None, dry_run: bool, state_dir: Path | None, as_json: bool) -> None:
    """Remove a client, at once."""
    with client_of(state_dir) as client:
        place = ("networks", only_network(client, network), "clients", name)
        row = client.call("DELETE", *place, query=trying(dry_run))
    print_done(row, lambda row: f"{row['name']} is removed", dry_run=dry_run, as_json=as_json)


# --- gateways -------------------------------------------------------------------------------------


@clients.group("gateway")
def gateway() -> None:
    """The nodes by which clients come in."""


@gateway.command("add")
@click.argument("nodes", nargs=-1, required=True, metavar="NODE…")
@click.option(
    "--endpoint", metavar="HOST:PORT", help="Where clients connect to: fixed, it is in their files."
)
@click.option("--listen-port", type=int, help="Of the nodes, where that port is forwarded to another.")
@click.option(
    "--group", default="clients", show_default=True, help="What these gateways are called together."
)
@click.option("--dns/--no-dns", default=None, help="Whether they answer names for clients. Default: yes.")
@network_option
@dry_run_option
@state_dir_option
@json_option
@one_line_errors
def add_gateway(
    *,
    nodes: tuple[str, ...],
    endpoint: str | None,
    listen_port: int | None,
    group: str,
    dns: bool | None,
    network: str | None,
    dry_run: bool,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Make nodes gateways for clients, or add standbys to those that there are.

    The hosts have to agree: `wgpy set --advertise ingress` there. Of several the one that clients connect to
    is in use: move the endpoint's address or DNS name, and a standby takes over with the same key.
    """
    more = {"endpoint": endpoint, "listen_port": listen_port, "dns": dns}
    given: dict[str, object] = {name: value for name, value in more.items() if value is not None}
    with client_of(state_dir) as client:
        place = ("networks", only_network(client, network), "ingress")
        known = {row["name"]: row for row in client.call("GET", *place)["groups"]}
        if group in known:
            wanted = [*known[group]["nodes"], *(node for node in nodes if node not in known[group]["nodes"])]
            body = given | {"nodes": wanted}
            row = client.call("PATCH", *place, group, body=body, if_match="*", query=trying(dry_run))
        elif endpoint is None:
            raise ConfigError(
                "name the endpoint that clients connect to: --endpoint HOST:PORT, such as "
                "vpn.example.org:51820"
            )
        else:
            body = given | {"name": group, "nodes": list(nodes)}
            row = client.call("POST", *place, body=body, query=trying(dry_run))
    if dry_run:
        print_changes([row], as_json=as_json)
        return
    if as_json:
        print_json(row)
        return
    click.echo(f"clients come in by {row['endpoint']}: {', '.join(row['nodes'])}")
    click.echo("each host has to agree, unless it did: wgpy set --advertise ingress", err=True)


@gateway.command("list")
@click.argument("network", required=False)
@state_dir_option
@json_option
@one_line_errors
def list_gateways(network: str | None, state_dir: Path | None, as_json: bool) -> None:
    """The gateways for clients, and what keeps one from working."""
    with client_of(state_dir) as client:
        groups = client.call("GET", "networks", only_network(client, network), "ingress")["groups"]
    if as_json:
        print_json(groups)
        return
    rows = [
        (group["name"], group["endpoint"], each["node_name"], _gateway_state(each), each["problem"])
        for group in groups
        for each in group["gateways"]
    ]
    print_table(("GROUP", "ENDPOINT", "NODE", "STATE", ""), rows)


def _gateway_state(row: Mapping[str, Any]) -> str:
    if row["state"] != "active":
        return "waits for the node"
    if not row["online"]:
        return "offline"
    return "in use" if row["elected"] else "standby"


@gateway.command("remove")
@click.argument("node")
@click.option("--group", default="clients", show_default=True, help="Out of which gateways.")
@network_option
@dry_run_option
@state_dir_option
@json_option
@one_line_errors
def remove_gateway(
    *,
    node: str,
    group: str,
    network: str | None,
    dry_run: bool,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Take a node out; a group without clients goes with its last one."""
    with client_of(state_dir) as client:
        place = ("networks", only_network(client, network), "ingress")
        row = client.call("GET", *place, group)
        there = {each["node_name"]: each["node"] for each in row["gateways"]}
        left = [name for name, id_ in there.items() if node not in (name, id_)]
        if len(left) == len(there):
            raise ConfigError(f"{node} is no gateway of {group}; there is: {', '.join(there) or 'none'}")
        if not left and row["clients"]:
            raise ConfigError(
                f"{node} is the last gateway of {group}, by which {row['clients']} clients come in: with it "
                "goes the key that their files name; add another one first, or remove the clients"
            )
        if left:
            body: dict[str, object] = {"nodes": left}
            row = client.call("PATCH", *place, group, body=body, if_match="*", query=trying(dry_run))
        else:
            row = client.call("DELETE", *place, group, query=trying(dry_run))
    said = f"{node} is no gateway of {group} any more"
    print_done(row, lambda _: said, dry_run=dry_run, as_json=as_json)
