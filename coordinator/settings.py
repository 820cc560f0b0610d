"""What an admin decides about a network, and may decide anew at any time. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from coordinator.names import check_suffix
from coordinator.policy import Policy
from wgpy.errors import ConfigError
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.netmap import MAX_MTU, MIN_MTU, Network

DEFAULT_MTU: Final = 1380
"""Leaves room for a relay's header under a 1500-octet path."""
DEFAULT_KEEPALIVE: Final = 20
MAX_DESCRIPTION: Final = 500
MIN_ROTATION: Final = 3600
MAX_ROTATION: Final = 10 * 366 * 86400


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """`mtu` in octets, `keepalive` and `rotate_after` in seconds, 0 for none; `listen_port` 0: any.

    `keyless`: hosts may ask to join without a token. `approval`: joins wait for an admin, unless their token
    says otherwise. `rotate_after`: the age at which a node makes itself a new WireGuard key.
    """

    suffix: str
    description: str = ""
    mtu: int = DEFAULT_MTU
    keepalive: int = DEFAULT_KEEPALIVE
    listen_port: int = 0
    keyless: bool = False
    approval: bool = False
    rotate_after: int = 0
    visibility: Policy = field(default_factory=Policy)

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        check_suffix(self.suffix)
        if len(self.description) > MAX_DESCRIPTION or not self.description.isprintable():
            raise ConfigError(f"a description is at most {MAX_DESCRIPTION} printable characters, in one line")
        if not MIN_MTU <= self.mtu <= MAX_MTU:
            raise ConfigError(f"an MTU is {MIN_MTU} to {MAX_MTU} octets; got {self.mtu}")
        if not 0 <= self.keepalive <= 65535:
            raise ConfigError(f"a keepalive is 0 (none) to 65535 seconds; got {self.keepalive}")
        if not 0 <= self.listen_port <= 65535:
            raise ConfigError(f"a listen port is 0 (any) to 65535; got {self.listen_port}")
        if self.rotate_after and not MIN_ROTATION <= self.rotate_after <= MAX_ROTATION:
            raise ConfigError(
                f"keys rotate after {MIN_ROTATION} s (an hour) to ten years, or 0 for never; "
                f"got {self.rotate_after}"
            )

    def to_json(self) -> JsonObject:
        """All of it, as the API shows it."""
        return {
            "description": self.description,
            "mtu": self.mtu,
            "keepalive": self.keepalive,
            "listen_port": self.listen_port,
            "suffix": self.suffix,
            "keyless": self.keyless,
            "approval": self.approval,
            "rotate_after": self.rotate_after,
            "visibility": self.visibility.to_json(),
        }

    def in_maps(self, network: Network) -> Network:
        """The network as nodes are told of it, with what of these settings concerns them."""
        return replace(
            network,
            mtu=self.mtu,
            keepalive=self.keepalive,
            suffix=self.suffix,
            listen_port=self.listen_port,
        )
