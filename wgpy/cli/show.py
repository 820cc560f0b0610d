"""`wgpy show`: what `wg show` tells, where wg(8) is not installed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import click

from wgpy.errors import ConfigError, WgpyError
from wgpy.keys import PresharedKey, PrivateKey
from wgpy.uapi.client import get_device, interfaces
from wgpy.uapi.messages import DeviceReport, PeerView


def _peer_field(value: Callable[[PeerView], str]) -> Callable[[DeviceReport], Iterator[str]]:
    def lines(device: DeviceReport) -> Iterator[str]:
        for peer in device.peers:
            yield f"{peer.public_key}\t{value(peer)}"

    return lines


def _public_key(device: DeviceReport) -> str:
    return "(none)" if device.private_key is None else str(device.private_key.public_key())


def _private_key(key: PrivateKey | None) -> str:
    return "(none)" if key is None else key.to_base64()


def _preshared_key(key: PresharedKey) -> str:
    return "(none)" if key.is_zero() else key.to_base64()


def _fwmark(device: DeviceReport) -> str:
    return hex(device.fwmark) if device.fwmark else "off"


def _keepalive(peer: PeerView) -> str:
    return str(peer.persistent_keepalive) if peer.persistent_keepalive else "off"


def _joined(items: Sequence[object], separator: str) -> str:
    return separator.join(map(str, items)) or "(none)"


def _dump(device: DeviceReport) -> Iterator[str]:
    yield "\t".join(
        [_private_key(device.private_key), _public_key(device), str(device.listen_port), _fwmark(device)]
    )
    for peer in device.peers:
        yield "\t".join(
            [
                str(peer.public_key),
                _preshared_key(peer.preshared_key),
                str(peer.endpoint or "(none)"),
                _joined(peer.allowed_ips, ","),
                str(peer.last_handshake_ns // 1_000_000_000),
                str(peer.rx_bytes),
                str(peer.tx_bytes),
                _keepalive(peer),
            ]
        )


FIELDS: Final[dict[str, Callable[[DeviceReport], Iterator[str]]]] = {
    "public-key": lambda device: iter([_public_key(device)]),
    "private-key": lambda device: iter([_private_key(device.private_key)]),
    "listen-port": lambda device: iter([str(device.listen_port)]),
    "fwmark": lambda device: iter([_fwmark(device)]),
    "peers": lambda device: (str(peer.public_key) for peer in device.peers),
    "preshared-keys": _peer_field(lambda peer: _preshared_key(peer.preshared_key)),
    "endpoints": _peer_field(lambda peer: str(peer.endpoint or "(none)")),
    "allowed-ips": _peer_field(lambda peer: _joined(peer.allowed_ips, " ")),
    "latest-handshakes": _peer_field(lambda peer: str(peer.last_handshake_ns // 1_000_000_000)),
    "transfer": _peer_field(lambda peer: f"{peer.rx_bytes}\t{peer.tx_bytes}"),
    "persistent-keepalive": _peer_field(_keepalive),
    "dump": _dump,
}
"""Fields of `wg show INTERFACE FIELD`, each as lines."""


@click.command()
@click.argument("interface", default="all")
@click.argument("field", required=False, type=click.Choice(list(FIELDS)), metavar="[FIELD]")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable; without private and preshared keys.")
def show(interface: str, field: str | None, as_json: bool) -> None:
    """Show WireGuard devices: INTERFACE, all of them (the default), or their names alone ("interfaces").

    \b
    FIELD is one of public-key, private-key, listen-port, fwmark, peers, preshared-keys,
    endpoints, allowed-ips, latest-handshakes, transfer, persistent-keepalive, dump.
    """
    if interface == "interfaces":
        if field is not None:
            raise ConfigError("`interfaces` has no fields; `wgpy show all FIELD` shows one of each")
        names = interfaces()
        click.echo(json.dumps(names) if as_json else " ".join(names))
        return
    devices = dict(_devices(interface))
    if as_json:
        reports = [_to_json(name, device) for name, device in devices.items()]
        click.echo(json.dumps(reports if interface == "all" else reports[0], indent=2))
    elif field is not None:
        for name, device in devices.items():
            for line in FIELDS[field](device):
                click.echo(f"{name}\t{line}" if interface == "all" else line)
    elif devices:
        click.echo("\n\n".join(_pretty(name, device, time.time()) for name, device in devices.items()))


def _devices(interface: str) -> Iterator[tuple[str, DeviceReport]]:
    if interface != "all":
        yield interface, get_device(interface)
        return
    for name in interfaces():
        try:
            yield name, get_device(name)
        except WgpyError as error:
            # One that is just going away does not hide the others.
            click.echo(f"wgpy: {error}", err=True)


def _to_json(name: str, device: DeviceReport) -> dict[str, object]:
    return {
        "interface": name,
        "public_key": None if device.private_key is None else _public_key(device),
        "listen_port": device.listen_port or None,
        "fwmark": device.fwmark or None,
        "peers": [
            {
                "public_key": str(peer.public_key),
                "has_preshared_key": not peer.preshared_key.is_zero(),
                "endpoint": None if peer.endpoint is None else str(peer.endpoint),
                "allowed_ips": [str(prefix) for prefix in peer.allowed_ips],
                "latest_handshake": peer.last_handshake_ns / 1e9 or None,
                "rx_bytes": peer.rx_bytes,
                "tx_bytes": peer.tx_bytes,
                "persistent_keepalive": peer.persistent_keepalive or None,
            }
            for peer in device.peers
        ],
    }


# --- for people


def _pretty(name: str, device: DeviceReport, now: float) -> str:
    hide = os.environ.get("WG_HIDE_KEYS", "always") != "never"
    lines = [f"{click.style('interface', fg='green', bold=True)}: {click.style(name, fg='green')}"]
    if device.private_key is not None:
        lines.append(_entry("public key", _public_key(device)))
        lines.append(_entry("private key", "(hidden)" if hide else _private_key(device.private_key)))
    if device.listen_port:
        lines.append(_entry("listening port", str(device.listen_port)))
    if device.fwmark:
        lines.append(_entry("fwmark", _fwmark(device)))
    for peer in sorted(device.peers, key=lambda peer: -peer.last_handshake_ns):
        key = str(peer.public_key)
        lines += ["", f"{click.style('peer', fg='yellow', bold=True)}: {click.style(key, fg='yellow')}"]
        if not peer.preshared_key.is_zero():
            shown = "(hidden)" if hide else _preshared_key(peer.preshared_key)
            lines.append(_entry("preshared key", shown))
        if peer.endpoint is not None:
            lines.append(_entry("endpoint", str(peer.endpoint)))
        lines.append(_entry("allowed ips", _joined(peer.allowed_ips, ", ")))
        if peer.last_handshake_ns:
            lines.append(_entry("latest handshake", ago(now - peer.last_handshake_ns // 1_000_000_000)))
        if peer.rx_bytes or peer.tx_bytes:
            sizes = f"{size(peer.rx_bytes)} received, {size(peer.tx_bytes)} sent"
            lines.append(_entry("transfer", sizes))
        if peer.persistent_keepalive:
            lines.append(_entry("persistent keepalive", f"every {duration(peer.persistent_keepalive)}"))
    return "\n".join(lines)


def _entry(title: str, value: str) -> str:
    return f"  {click.style(title, bold=True)}: {value}"


def ago(seconds: float) -> str:
    """How long ago, in words; a clock that was set back is said."""
    if seconds <= -1:
        return "(System clock wound backward; connection problems may ensue.)"
    return "Now" if seconds < 1 else f"{duration(int(seconds))} ago"


def duration(seconds: int) -> str:
    """`1 day, 2 minutes, 3 seconds`."""
    parts = []
    for unit, length in (("year", 31536000), ("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count, seconds = divmod(seconds, length)
        if count:
            parts.append(f"{count} {unit}{'' if count == 1 else 's'}")
    return ", ".join(parts)


def size(octets: int) -> str:
    """`732 B`, `1.50 KiB`, … `2.00 TiB`."""
    if octets < 1024:
        return f"{octets} B"
    value = float(octets)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.2f} {unit}"
    return f"{value / 1024:.2f} TiB"
