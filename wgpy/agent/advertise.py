"""What this host agrees to do for others: to forward ranges, or anything asked of it, to be an exit node, or
to let external clients in. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final, Self

from wgpy.addresses import Prefix, is_inside, parse_prefix
from wgpy.errors import ConfigError
from wgpy.mesh.forward import is_default

EXIT_RANGES: Final = (ip_network("0.0.0.0/0"), ip_network("::/0"))


@dataclass(frozen=True, slots=True)
class Advertise:
    """`everything`: any range that the admin gives us, but not to be an exit node, nor (`as_ingress`) to let
    external clients in.
    """

    ranges: tuple[Prefix, ...] = ()
    everything: bool = False
    as_exit: bool = False
    as_ingress: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """`none`, or words with commas between: ranges, `any`, `exit`, `ingress`. Raises ConfigError."""
        words = [word.strip() for word in text.split(",") if word.strip()]
        ranges = []
        for word in words:
            if word in ("any", "exit", "ingress", "none"):
                continue
            prefix = parse_prefix(word)
            if is_default(prefix):
                raise ConfigError(f"{prefix} is everything there is: to be an exit node, say `exit`")
            if "/" in word and str(prefix.network_address) != word.partition("/")[0]:
                raise ConfigError(f"{word} is an address in {prefix}: say {prefix}")
            ranges.append(prefix)
        if not words or ("none" in words and len(words) > 1):
            raise ConfigError("say `none`, or ranges, `any`, `exit` or `ingress` with commas between")
        return cls(tuple(dict.fromkeys(ranges)), "any" in words, "exit" in words, "ingress" in words)

    def __str__(self) -> str:
        words = [*map(str, self.ranges), *(["any"] if self.everything else [])]
        words += ["exit"] if self.as_exit else []
        return ",".join([*words, *(["ingress"] if self.as_ingress else [])]) or "none"

    @property
    def offered(self) -> tuple[Prefix, ...]:
        """What the coordinator is told of."""
        return (*self.ranges, *(EXIT_RANGES if self.as_exit else ()))

    def agrees(self, target: Prefix) -> bool:
        if is_default(target):
            return self.as_exit
        return self.everything or any(is_inside(target, range_) for range_ in self.ranges)

    def missing(self, targets: Iterable[Prefix]) -> list[Prefix]:
        """Of what was given to this host, what it did not agree to."""
        return [target for target in targets if not self.agrees(target)]
