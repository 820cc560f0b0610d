"""Who may do what: a ladder of rights, each with those below it, on one network or on all of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Literal


class Right(IntEnum):
    """On a network. `ENROL` holds `READ` because who can add a node can read the map from it anyway."""

    READ = 1
    """See it, its nodes and its tokens."""
    OWN = 2
    """Bring in devices of one's own."""
    ENROL = 3
    """Make and revoke tokens, approve and refuse."""
    ADMIN = 4
    """Everything. On all networks: the coordinator too, with its people and keys."""


SCOPES: Final[Mapping[str, Right]] = {"read": Right.READ, "enrol": Right.ENROL, "admin": Right.ADMIN}
"""What an API key may be made for."""

ROLES: Final[Mapping[str, Right]] = {"viewer": Right.READ, "member": Right.OWN, "admin": Right.ADMIN}
"""What a person may be on a network."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, proven. `everywhere` is the right on every network and the coordinator, `networks` those on
    single ones by id; `session` is the id of a browser's session.
    """

    kind: Literal["person", "key"]
    id: str
    name: str
    everywhere: Right | None = None
    networks: Mapping[str, Right] = field(default_factory=dict)
    session: str | None = None

    def may(self, right: Right, network_id: str | None = None) -> bool:
        """On this network; without one, on the coordinator itself."""
        held = max(self.everywhere or 0, 0 if network_id is None else self.networks.get(network_id, 0))
        return held >= right

    def sees(self, network_id: str) -> bool:
        """Whether it may know that this network is there."""
        return self.everywhere is not None or network_id in self.networks
