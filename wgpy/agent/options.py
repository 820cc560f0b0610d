"""What `wgpy up` asks of the agent: handed over through a file in memory, so that no token stays in `ps`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from wgpy.addresses import Endpoint
from wgpy.errors import ConfigError
from wgpy.mesh.encoding import (
    Fields,
    JsonObject,
    MalformedMessage,
    decode_json,
    encode_b64u,
    encode_json,
)
from wgpy.mesh.signing import HASH_SIZE
from wgpy.mesh.token import Token

REMOVED_EXIT_CODE: Final = 3
"""The agent's exit status when its coordinator removed the node: starting it again is of no use."""
_MAX_SIZE: Final = 65536


@dataclass(frozen=True, slots=True)
class UpOptions:
    """Either `token` (join, or start what was joined by it), or `name` (start), or `coordinator` and
    `network` (join without a token, or start it), with `pin`, the coordinator's identity hash, if it is
    known. None, (): as it was, or the default.
    """

    token: Token | None = None
    name: str | None = None
    coordinator: str | None = None
    network: str | None = None
    pin: bytes | None = None
    node_name: str | None = None
    interface: str | None = None
    listen_port: int | None = None
    endpoints: tuple[Endpoint, ...] = ()
    choices: Mapping[str, object] = field(default_factory=dict, hash=False)
    """What is to be other than it was (choices.py)."""
    dry_run: bool = False
    detach: bool = False
    verbose: bool = False

    def to_json(self) -> JsonObject:
        return {
            "token": None if self.token is None else self.token.encode(),
            "name": self.name,
            "coordinator": self.coordinator,
            "network": self.network,
            "pin": None if self.pin is None else encode_b64u(self.pin),
            "node_name": self.node_name,
            "interface": self.interface,
            "listen_port": self.listen_port,
            "endpoints": [str(endpoint) for endpoint in self.endpoints],
            "choices": dict(self.choices),
            "dry_run": self.dry_run,
            "detach": self.detach,
            "verbose": self.verbose,
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Raises MalformedMessage, ConfigError."""
        fields = Fields(value, "options")

        def text(name: str, limit: int = 4096) -> str | None:
            return None if fields.is_null(name) else fields.text(name, limit)

        token = text("token")
        return cls(
            token=None if token is None else Token.decode(token),
            name=text("name"),
            coordinator=text("coordinator"),
            network=text("network"),
            pin=None if fields.is_null("pin") else fields.octets("pin", HASH_SIZE),
            node_name=text("node_name"),
            interface=text("interface"),
            listen_port=None if fields.is_null("listen_port") else fields.integer("listen_port", 0, 65535),
            endpoints=fields.endpoints("endpoints"),
            choices=fields.fields("choices").extra(frozenset()),
            dry_run=fields.boolean("dry_run"),
            detach=fields.boolean("detach"),
            verbose=fields.boolean("verbose"),
        )


def hand_over(options: UpOptions) -> int:
    """A descriptor from which a new program of this process reads the options, once."""
    fd = os.memfd_create("wgpy-options", 0)
    os.write(fd, encode_json(options.to_json()))
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def take_over(fd: int) -> UpOptions:
    """Read and close what `hand_over` made. Raises ConfigError."""
    try:
        with os.fdopen(fd, "rb") as file:
            data = file.read(_MAX_SIZE)
        return UpOptions.from_json(decode_json(data, _MAX_SIZE))
    except (OSError, MalformedMessage) as error:
        raise ConfigError(
            f"the agent is started by `wgpy up`, which hands it its options ({error})"
        ) from None
