"""Whose the other tunnels of this host are: a network is named as its user knows it, not by its interface
alone.
"""

from __future__ import annotations

from wgpy.agent.state_file import known_names, load_state
from wgpy.errors import WgpyError


class Neighbours:
    """The networks that this host has joined, by interface. Files are read when an unknown interface shows
    up.
    """

    def __init__(self) -> None:
        self._networks: dict[str, str] = {}
        self._looked_at: frozenset[str] = frozenset()

    def describe(self, interface: str) -> str:
        """`network home (wg-home)`, or the interface's own name."""
        if interface not in self._networks:
            self._look()
        network = self._networks.get(interface)
        return interface if network is None else f"network {network} ({interface})"

    def _look(self) -> None:
        try:
            names = frozenset(known_names())
        except WgpyError:
            return
        for name in names - self._looked_at:
            try:
                self._networks[load_state(name).interface] = name
            except WgpyError:
                continue  # damaged: its interface is called what it is called
        self._looked_at = names
