"""A client's file, as wg-quick and the apps for phones read it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wgpy.addresses import Prefix
from wgpy.keys import PrivateKey, PublicKey

MAX_FILE: Final = 2300
"""Octets that fit a QR code at the lowest level of correction, with room to spare."""


@dataclass(frozen=True, slots=True)
class ClientFile:
    """`servers` are name servers' addresses, then a suffix to search; none: the client keeps its own.
    `keepalive` in seconds, 0: none.
    """

    addresses: tuple[Prefix, ...]
    servers: tuple[str, ...]
    mtu: int
    peer: PublicKey
    allowed_ips: Sequence[Prefix]
    endpoint: str
    keepalive: int

    def text(self, private_key: PrivateKey | None) -> str:
        """The file. Without its key it has none: whoever made the key puts it in by `insert_key`."""
        lines = ["[Interface]"]
        lines.append(f"Address = {', '.join(map(str, self.addresses))}")
        if self.servers:
            lines.append(f"DNS = {', '.join(self.servers)}")
        lines += [f"MTU = {self.mtu}", "", "[Peer]", f"PublicKey = {self.peer}"]
        lines.append(f"AllowedIPs = {', '.join(map(str, self.allowed_ips))}")
        lines.append(f"Endpoint = {self.endpoint}")
        if self.keepalive:
            lines.append(f"PersistentKeepalive = {self.keepalive}")
        text = "\n".join(lines) + "\n"
        return text if private_key is None else insert_key(text, private_key)


def insert_key(text: str, private_key: PrivateKey) -> str:
    """A file without a key, with it."""
    return text.replace("[Interface]\n", f"[Interface]\nPrivateKey = {private_key.to_base64()}\n", 1)
