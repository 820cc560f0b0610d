"""What was chosen on this host about its place in a network, and changing it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from wgpy.addresses import Prefix, parse_prefix
from wgpy.agent.advertise import Advertise
from wgpy.errors import ConfigError
from wgpy.mesh.consent import Choices
from wgpy.mesh.encoding import Fields, JsonObject
from wgpy.mesh.names import MAX_DOMAINS, parse_domain

DEFAULT_MARK: Final = 0x1377
"""Of our own packets while there is an exit node, and the routing table for all others. It has none of the
bits that Kubernetes (0x4000, 0x8000) judges packets by, and is not wg-quick's 51820.
"""
_KUBERNETES_BITS: Final = 0xC000
_NAME_LIMIT: Final = 64


@dataclass(frozen=True, slots=True)
class LocalChoices:
    """`exit_node`: name or id, "" for none; `keeps_lan`: with one, what the host reaches directly stays
    outside; `kill_switch`: nothing leaves past it, not even after a crash. `routes` and `firewall` off: the
    host's own affair. `opens_firewall`: one rule of ours may go into other people's chains. `dns`: the
    network's names are answered here, and of domains elsewhere the `accepted_domains`.
    """

    accepted: tuple[Prefix, ...] = ()
    refused: tuple[Prefix, ...] = ()
    accept_routes: bool = True
    advertise: Advertise = field(default_factory=Advertise)
    exit_node: str = ""
    keeps_lan: bool = True
    kill_switch: bool = False
    mark: int = DEFAULT_MARK
    routes: bool = True
    firewall: bool = True
    opens_firewall: bool = False
    dns: bool = False
    accepted_domains: tuple[str, ...] = ()

    @property
    def consent(self) -> Choices:
        """As far as maps are concerned."""
        return Choices(self.accepted, self.refused, self.accept_routes, self.exit_node)

    def to_json(self) -> JsonObject:
        return {
            "accepted": [str(prefix) for prefix in self.accepted],
            "refused": [str(prefix) for prefix in self.refused],
            "accept_routes": self.accept_routes,
            "advertise": str(self.advertise),
            "exit_node": self.exit_node,
            "keeps_lan": self.keeps_lan,
            "kill_switch": self.kill_switch,
            "mark": self.mark,
            "routes": self.routes,
            "firewall": self.firewall,
            "opens_firewall": self.opens_firewall,
            "dns": self.dns,
            "accepted_domains": list(self.accepted_domains),
        }

    @classmethod
    def from_json(cls, value: object, where: str = "choices") -> Self:
        """Raises MalformedMessage, ConfigError."""
        fields = Fields(value, where)
        exit_node = fields.raw("exit_node")
        return cls(
            accepted=fields.prefixes("accepted"),
            refused=fields.prefixes("refused"),
            accept_routes=fields.boolean("accept_routes"),
            advertise=Advertise.parse(fields.text("advertise", 65536)),
            exit_node="" if exit_node == "" else fields.text("exit_node", _NAME_LIMIT),
            keeps_lan=fields.boolean("keeps_lan"),
            kill_switch=fields.boolean("kill_switch"),
            mark=fields.integer("mark", 1, 0xFFFFFFFF),
            routes=fields.boolean("routes"),
            firewall=fields.boolean("firewall"),
            opens_firewall=fields.boolean("opens_firewall"),
            dns=fields.boolean("dns"),
            accepted_domains=fields.texts("accepted_domains", MAX_DOMAINS),
        )

    def changed(self, changes: JsonObject) -> Self:
        """With what `wgpy set` or `wgpy up` was told: any of the fields above in their JSON form, where
        `accept` and `refuse` are ranges *more*, `accept_domain` domains. Raises ConfigError.
        """
        more = ("accept", "refuse", "accept_domain")
        unknown = changes.keys() - {*self.to_json(), *more}
        if unknown:
            raise ConfigError(f"no such choice: {', '.join(sorted(unknown))}")
        accept = _prefixes(changes.get("accept", ()))
        refuse = _prefixes(changes.get("refuse", ()))
        domains: Any = changes.get("accept_domain", ())
        plain: dict[str, Any] = {name: value for name, value in changes.items() if name not in more}
        if (advertise := plain.pop("advertise", None)) is not None:
            plain["advertise"] = Advertise.parse(str(advertise))
        if plain.get("exit_node") == "none":
            plain["exit_node"] = ""
        if (mark := plain.get("mark")) is not None:
            plain["mark"] = _check_mark(int(mark))
        result = replace(self, **plain)
        return replace(
            result,
            accepted=_unique(p for p in (*self.accepted, *accept) if p not in refuse),
            refused=_unique(p for p in (*self.refused, *refuse) if p not in accept),
            accepted_domains=tuple(dict.fromkeys((*self.accepted_domains, *map(parse_domain, domains)))),
        )


def _unique(prefixes: Iterable[Prefix]) -> tuple[Prefix, ...]:
    return tuple(dict.fromkeys(prefixes))


def _prefixes(texts: Any) -> list[Prefix]:
    return [parse_prefix(str(text)) for text in texts]


def _check_mark(mark: int) -> int:
    if not 1 <= mark <= 0xFFFFFFFF or mark in (253, 254, 255):
        raise ConfigError(f"a mark is a number from 1 to {0xFFFFFFFF}, but 253 to 255; got {mark}")
    if mark & _KUBERNETES_BITS:
        raise ConfigError(
            f"the mark {mark:#x} has a bit (0x4000, 0x8000) by which Kubernetes judges packets: take another"
        )
    return mark
