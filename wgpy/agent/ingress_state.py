"""What a gateway of external clients must not lose: the group's key, and whom it last let in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from wgpy.keys import KEY_SIZE, PrivateKey
from wgpy.mesh.encoding import Fields, JsonObject, encode_b64u
from wgpy.mesh.ingress import Group


@dataclass(frozen=True, slots=True)
class IngressState:
    """`key` None: we have not got it yet. `at`: Unix time at which `group` was told, seconds."""

    group: Group
    at: float
    key: PrivateKey | None = field(default=None, repr=False)

    def at_present(self, now: float) -> Group:
        """The group without those whose time is over by our own clock, which may be wrong by as much."""
        passed = max(0.0, now - self.at)
        clients = tuple(c for c in self.group.clients if c.expires_in is None or c.expires_in > passed)
        return replace(self.group, clients=clients)

    def to_json(self) -> JsonObject:
        key = None if self.key is None else encode_b64u(bytes(self.key))
        return {"group": self.group.to_json(), "at": int(self.at), "key": key}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Raises MalformedMessage."""
        fields = Fields(value, "ingress")
        key = None if fields.is_null("key") else PrivateKey(fields.octets("key", KEY_SIZE))
        return cls(Group.from_json(fields.raw("group")), fields.integer("at"), key)
