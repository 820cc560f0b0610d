"""`wgpy service`: a mesh that starts with the host, by systemd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import click

from wgpy.agent.options import REMOVED_EXIT_CODE
from wgpy.agent.places import state_directory
from wgpy.cli.up import choose_network
from wgpy.errors import HostError

UNIT_DIRECTORY: Final = Path("/etc/systemd/system")
_DIRECTORY: Final = click.Path(file_okay=False, path_type=Path)
_TIMEOUT: Final = 60.0
"""Seconds for systemctl."""


@click.group()
def service() -> None:
    """Start a mesh with the host, and keep it running."""


@service.command()
@click.argument("name", required=False)
@click.option("--dry-run", is_flag=True, help="Print the unit and do nothing.")
@click.option("--directory", type=_DIRECTORY, help="Only write the unit there, for an image.")
def install(name: str | None, dry_run: bool, directory: Path | None) -> None:
    """Make a unit for a network that this host joined, enable it and start it."""
    network = choose_network(name)
    text = make_unit(network, program_path(), state_directory())
    if dry_run:
        click.echo(text, nl=False)
        return
    if directory is None:
        check_systemd()
    path = (directory or UNIT_DIRECTORY) / unit_name(network)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}") from None
    click.echo(f"wrote {path}")
    if directory is None:
        systemctl("daemon-reload")
        systemctl("enable", "--now", unit_name(network))
        click.echo(f"{network} runs, and starts with the host: systemctl status {unit_name(network)}")


@service.command()
@click.argument("name", required=False)
@click.option("--directory", type=_DIRECTORY, help="Only remove it from there.")
def remove(name: str | None, directory: Path | None) -> None:
    """Stop the unit and remove it. The network stays joined."""
    path = find_unit(name, directory or UNIT_DIRECTORY)
    if directory is None:
        check_systemd()
        systemctl("disable", "--now", path.name)
    try:
        path.unlink()
    except OSError as error:
        raise HostError(f"cannot remove {path}: {error.strerror}") from None
    click.echo(f"removed {path}")
    if directory is None:
        systemctl("daemon-reload")


def unit_name(network: str) -> str:
    return f"wgpy-{network}.service"


def find_unit(name: str | None, directory: Path) -> Path:
    """The unit meant: of the network named, or the only one. Raises HostError."""
    units = sorted(directory.glob("wgpy-*.service"))
    if name is None and len(units) == 1:
        return units[0]
    if name is None:
        there = ", ".join(path.stem.removeprefix("wgpy-") for path in units) or "none"
        raise HostError(f"say which network's service is to be removed; there is: {there}")
    path = directory / unit_name(name)
    if path not in units:
        raise HostError(f"there is no service for {name!r} ({path} does not exist)")
    return path


def program_path() -> Path:
    """Where `wgpy` is, for the unit. Raises HostError."""
    beside = Path(sys.executable).with_name("wgpy")
    found = str(beside) if beside.exists() else shutil.which("wgpy")
    if found is None:
        raise HostError("cannot find the program wgpy: is it installed and in PATH?")
    return Path(found).absolute()


def make_unit(network: str, program: Path, state: Path) -> str:
    """The text of a systemd unit.

    It waits for no network and no coordinator: tunnels come up from the saved map. Its capabilities are
    what a TUN device, addresses and routes (CAP_NET_ADMIN) and echoes (CAP_NET_RAW) take.
    """
    homes = ("/home", "/root", "/run/user")
    at_home = any(path.is_relative_to(home) for path in (program, state) for home in homes)
    return f"""\
[Unit]
Description=wgpy: the mesh {network}
After=network.target modprobe@tun.service
Wants=modprobe@tun.service
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={_quote(program)} up {network}
Restart=on-failure
RestartSec=2
RestartPreventExitStatus={REMOVED_EXIT_CODE}
TimeoutStopSec=15
Environment=WGPY_STATE_DIR={_quote(state)}
Environment=WGPY_RUNTIME_DIR=/run/wgpy
RuntimeDirectory=wgpy wireguard
RuntimeDirectoryPreserve=yes
RuntimeDirectoryMode=0755
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW
DeviceAllow=/dev/net/tun rw
DevicePolicy=closed
LockPersonality=yes
NoNewPrivileges=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome={"no" if at_home else "yes"}
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectSystem=strict
ReadWritePaths=-{_quote(state)}
RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX
RestrictNamespaces=net
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""


def _quote(path: Path) -> str:
    """A path in a unit: specifiers doubled, spaces escaped (systemd.syntax(7))."""
    text = str(path).replace("\\", "\\\\").replace("%", "%%")
    return text.replace(" ", "\\x20").replace('"', '\\"')


def check_systemd() -> None:
    """Raises HostError where systemd does not run."""
    if not os.path.isdir("/run/systemd/system"):
        raise HostError(
            "this host is not run by systemd: start `wgpy up NAME` by its own means, "
            "or print a unit with --dry-run"
        )
    if os.geteuid() != 0:
        raise HostError("installing a service needs root")


def systemctl(*arguments: str) -> None:
    """Run it and say so. Raises HostError with its own words."""
    command = ["systemctl", *arguments]
    click.echo(" ".join(command))
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{' '.join(command)}: {error}") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise HostError(f"{' '.join(command)}: {lines[0]}")
