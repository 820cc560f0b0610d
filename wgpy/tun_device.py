"""The TUN device of this host: Linux' or macOS'. Imports no trio: `wgpy-device` makes it before it goes to
the background.
"""

from __future__ import annotations

from wgpy.darwin import IS_DARWIN
from wgpy.darwin.utun import Utun
from wgpy.tun import Tun

TunDevice = Tun | Utun


def create_tun(name: str, *, vnet_hdr: bool = False, mtu: int | None = None) -> TunDevice:
    """Raises ConfigError for a name that cannot be, HostError for what the host refuses."""
    return Utun.create(name, mtu=mtu) if IS_DARWIN else Tun.create(name, vnet_hdr=vnet_hdr, mtu=mtu)


def adopt_tun(fd: int) -> TunDevice:
    """Take over a descriptor. Raises HostError when it is not a TUN device's."""
    return Utun(fd) if IS_DARWIN else Tun(fd)
