"""SaveConfig = true: the file follows the tunnel, as it is when it goes down."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path

from wgpy.config import PeerConfig, TunnelConfig, encode_config
from wgpy.device import Device
from wgpy.errors import HostError
from wgpy.netlink import Netlink


def save_config(path: Path, config: TunnelConfig, device: Device, automatic_mark: int) -> None:
    """Write what the device has now; what it cannot know (hooks, DNS, table) stays. Raises HostError.

    `automatic_mark`: chosen for policy routing, so not the file's.
    """
    report = device.report()
    with Netlink() as netlink:
        link = netlink.find_link(device.name)
        addresses = (
            [found.address for found in netlink.addresses(link.index) if not found.address.is_link_local]
            if link is not None
            else config.addresses
        )
    mark = config.fwmark if report.fwmark == automatic_mark else report.fwmark
    now = replace(
        config,
        private_key=report.private_key,
        listen_port=report.listen_port,
        fwmark=mark,
        addresses=addresses,
        mtu=device.mtu if config.mtu is not None else None,
        peers=[
            PeerConfig(
                public_key=peer.public_key,
                preshared_key=peer.preshared_key,
                endpoint=peer.endpoint,
                persistent_keepalive=peer.persistent_keepalive,
                allowed_ips=list(peer.allowed_ips),
            )
            for peer in report.peers
        ],
    )
    _write_private(path.resolve(), encode_config(now))


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            os.fchmod(fd, 0o600)
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.rename(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise HostError(f"cannot save {path}: {error.strerror}") from error
