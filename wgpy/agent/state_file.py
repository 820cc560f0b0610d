"""What a node must not lose: its keys, its membership, the map it last had, the consent given here.

One JSON file a network, mode 0600, replaced whole (write, fsync, rename). A file that cannot be read is
reported and kept as it is, never replaced by an empty one: the keys in it are who this node is.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from wgpy.addresses import Endpoint, Prefix
from wgpy.agent.choices import LocalChoices
from wgpy.agent.ingress_state import IngressState
from wgpy.agent.places import check_network_name, make_private_directory, state_directory
from wgpy.errors import ConfigError, HostError, StateError
from wgpy.keys import KEY_SIZE, PrivateKey
from wgpy.mesh.delta import HeldMap
from wgpy.mesh.encoding import Fields, JsonObject, MalformedMessage, decode_json, encode_b64u, encode_json
from wgpy.mesh.keyless import NONCE_SIZE
from wgpy.mesh.netmap import Map, Network
from wgpy.mesh.relay_ticket import Ticket
from wgpy.mesh.relays import RelayTickets
from wgpy.mesh.signing import HASH_SIZE, IdentityPublicKey, MachineKey

VERSION: Final = 1
MAX_SIZE: Final = 64 * 1024 * 1024
"""Octets of a state file."""
TIMESTAMP_SIZE: Final = 12
"""Octets of a TAI64N timestamp."""


@dataclass(frozen=True, slots=True)
class Keys:
    """A node's private halves."""

    machine_key: MachineKey
    wireguard_key: PrivateKey

    def to_json(self) -> JsonObject:
        return {
            "machine_key": encode_b64u(bytes(self.machine_key)),
            "wireguard_key": encode_b64u(bytes(self.wireguard_key)),
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        return cls(
            MachineKey(fields.octets("machine_key", KEY_SIZE)),
            PrivateKey(fields.octets("wireguard_key", KEY_SIZE)),
        )


@dataclass(frozen=True, slots=True)
class State:
    """A membership. Values: a change is `dataclasses.replace`, then `save_state`.

    `name` is the file's, `token_id` that of the token that it came from. `interface`, `listen_port` (0: never
    bound), `endpoints` and `choices` are this host's own, the port only with `port_chosen`; `boot` counts
    starts; `previous_key` is the WireGuard key of before, good until `previous_until` (Unix time);
    `timestamp` is above every TAI64N sent; `seen` is where peers were last, by node id; `tickets` let us use
    relays; `ingress` is our part as a gateway of external clients.
    """

    name: str
    keys: Keys
    identity_hash: bytes
    pinned: bool
    urls: tuple[str, ...]
    token_id: str
    network: Network
    node: str
    node_name: str
    addresses: tuple[Prefix, ...]
    interface: str
    identity: IdentityPublicKey | None = None
    choices: LocalChoices = field(default_factory=LocalChoices)
    listen_port: int = 0
    port_chosen: bool = False
    next_key: PrivateKey | None = field(default=None, repr=False)
    previous_key: PrivateKey | None = field(default=None, repr=False)
    previous_until: int = 0
    endpoints: tuple[str, ...] = ()
    boot: int = 0
    record_seq: int = 0
    timestamp: bytes | None = None
    held: HeldMap | None = field(default=None, repr=False)
    seen: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=dict, repr=False, hash=False)
    tickets: tuple[Ticket, ...] = field(default=(), repr=False)
    ingress: IngressState | None = field(default=None, repr=False)

    @property
    def coordinator_urls(self) -> tuple[str, ...]:
        """Where the coordinator may be: the map's URLs, then the token's. Its identity is checked at each."""
        return tuple(dict.fromkeys((*self.network.urls, *self.urls)))

    def to_json(self) -> JsonObject:
        value: JsonObject = {
            "version": VERSION,
            "name": self.name,
            "keys": self.keys.to_json(),
            "identity_hash": encode_b64u(self.identity_hash),
            "identity": None if self.identity is None else str(self.identity),
            "pinned": self.pinned,
            "urls": list(self.urls),
            "token_id": self.token_id,
            "network": self.network.to_json(),
            "node": self.node,
            "node_name": self.node_name,
            "addresses": [str(address) for address in self.addresses],
            "interface": self.interface,
            "choices": self.choices.to_json(),
            "listen_port": self.listen_port,
            "port_chosen": self.port_chosen,
            "next_key": None if self.next_key is None else encode_b64u(bytes(self.next_key)),
            "previous_key": None if self.previous_key is None else encode_b64u(bytes(self.previous_key)),
            "previous_until": self.previous_until,
            "endpoints": list(self.endpoints),
            "boot": self.boot,
            "record_seq": self.record_seq,
            "timestamp": None if self.timestamp is None else encode_b64u(self.timestamp),
            "held": None,
            "seen": {node: [str(each) for each in endpoints] for node, endpoints in self.seen.items()},
            **RelayTickets(self.tickets).to_json(),
        }
        if self.ingress is not None:
            value["ingress"] = self.ingress.to_json()
        if self.held is not None:
            held = self.held
            value["held"] = {"epoch": held.epoch, "revision": held.revision, "map": held.map.to_json()}
        return value

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Raises MalformedMessage."""
        fields = Fields(value)
        fields.integer("version", VERSION, VERSION)
        identity = None if fields.is_null("identity") else fields.octets("identity", KEY_SIZE)
        held = None
        if not fields.is_null("held"):
            inner = fields.fields("held")
            map_ = Map.from_json(inner.raw("map"), inner.path("map"))
            held = HeldMap(inner.word("epoch"), inner.integer("revision"), map_)
        return cls(
            name=fields.label("name"),
            keys=Keys.from_fields(fields.fields("keys")),
            identity_hash=fields.octets("identity_hash", HASH_SIZE),
            identity=None if identity is None else IdentityPublicKey(identity),
            pinned=fields.boolean("pinned"),
            urls=fields.urls("urls"),
            token_id=fields.word("token_id"),
            network=Network.from_json(fields.raw("network")),
            node=fields.identifier("node"),
            node_name=fields.label("node_name"),
            addresses=fields.prefixes("addresses", hosts=True),
            interface=fields.text("interface", 15),
            choices=_read_choices(fields),
            listen_port=fields.integer("listen_port", 0, 65535),
            next_key=_read_key(fields, "next_key"),
            previous_key=_read_key(fields, "previous_key"),
            previous_until=0 if fields.is_null("previous_until") else fields.integer("previous_until"),
            port_chosen=not fields.is_null("port_chosen") and fields.boolean("port_chosen"),
            endpoints=tuple(str(endpoint) for endpoint in fields.endpoints("endpoints")),
            boot=fields.integer("boot"),
            record_seq=fields.integer("record_seq"),
            timestamp=None if fields.is_null("timestamp") else fields.octets("timestamp", TIMESTAMP_SIZE),
            held=held,
            seen=_read_seen(fields),
            ingress=None if fields.is_null("ingress") else IngressState.from_json(fields.raw("ingress")),
            tickets=() if fields.is_null("tickets") else RelayTickets.from_json(value).tickets,
        )


def _read_key(fields: Fields, name: str) -> PrivateKey | None:
    return None if fields.is_null(name) else PrivateKey(fields.octets(name, KEY_SIZE))


def _read_choices(fields: Fields) -> LocalChoices:
    """Of an earlier version there is a list of accepted ranges alone."""
    if fields.has("choices"):
        try:
            return LocalChoices.from_json(fields.raw("choices"))
        except ConfigError as error:
            raise MalformedMessage(f"choices: {error}") from None
    return LocalChoices(accepted=() if fields.is_null("accepted") else fields.prefixes("accepted"))


def _read_seen(fields: Fields) -> dict[str, tuple[Endpoint, ...]]:
    if fields.is_null("seen"):
        return {}
    seen = fields.fields("seen")
    return {node: seen.endpoints(node) for node, _, _ in fields.members("seen")}


def state_path(name: str) -> Path:
    """Raises ConfigError for a name that no network has."""
    return state_directory() / f"{check_network_name(name)}.json"


def known_names() -> list[str]:
    """The networks that this host joined, in order. A directory that is not there has none."""
    try:
        files = list(state_directory().glob("*.json"))
    except OSError as error:
        raise HostError(f"cannot read {state_directory()}: {error.strerror}") from None
    return sorted(path.stem for path in files if not path.name.startswith("."))


def load_state(name: str) -> State:
    """Raises StateError for a file that is damaged or cannot be read, ConfigError when there is none."""
    path = state_path(name)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(_unknown(name)) from None
    except OSError as error:
        raise StateError(f"cannot read the state file {path}: {error.strerror}") from None
    try:
        return State.from_json(decode_json(data, MAX_SIZE))
    except MalformedMessage as error:
        raise StateError(
            f"the state file {path} is damaged ({error}); it was left as it is: restore it from a backup, "
            f"or move it away and join again with a new token"
        ) from None


def _unknown(name: str) -> str:
    known = ", ".join(known_names())
    return f"no network {name!r} was joined on this host" + (f"; there is: {known}" if known else "")


def save_state(state: State) -> None:
    """Replace the file whole. Raises StateError."""
    write_private_file(state_path(state.name), state.to_json())


def delete_state(name: str) -> None:
    """Forget a network. Raises StateError."""
    try:
        state_path(name).unlink(missing_ok=True)
    except OSError as error:
        raise StateError(f"cannot remove {state_path(name)}: {error.strerror}") from None


def write_private_file(path: Path, value: JsonObject) -> None:
    """JSON into a file of mode 0600 that is there whole or as it was before. Raises StateError."""
    make_private_directory(path.parent)
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(handle, "wb") as file:
            file.write(encode_json(value) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StateError(f"cannot write {path}: {error.strerror}") from None


# --- a join under way -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """A join without a token, as far as it got: whom we trust, our nonce, the coordinator's with the join's
    id once it took our commitment, and the code with the leaf hash that went into it once we opened that.
    """

    identity_hash: bytes
    pinned: bool
    nonce: bytes
    join: str | None = None
    coordinator_nonce: bytes | None = None
    leaf_hash: bytes | None = None
    code: str | None = None

    def to_json(self) -> JsonObject:
        def optional(octets: bytes | None) -> str | None:
            return None if octets is None else encode_b64u(octets)

        return {
            "identity_hash": encode_b64u(self.identity_hash),
            "pinned": self.pinned,
            "nonce": encode_b64u(self.nonce),
            "join": self.join,
            "coordinator_nonce": optional(self.coordinator_nonce),
            "leaf_hash": optional(self.leaf_hash),
            "code": self.code,
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        def optional(name: str) -> bytes | None:
            return None if fields.is_null(name) else fields.octets(name, HASH_SIZE)

        return cls(
            identity_hash=fields.octets("identity_hash", HASH_SIZE),
            pinned=fields.boolean("pinned"),
            nonce=fields.octets("nonce", NONCE_SIZE),
            join=None if fields.is_null("join") else fields.identifier("join"),
            coordinator_nonce=optional("coordinator_nonce"),
            leaf_hash=optional("leaf_hash"),
            code=None if fields.is_null("code") else fields.text("code", 16),
        )


@dataclass(frozen=True, slots=True)
class Pending:
    """What of a join has to outlive a kill: its keys, and without a token how far it got."""

    keys: Keys
    asked: Asked | None = None

    def to_json(self) -> JsonObject:
        value = self.keys.to_json()
        return value if self.asked is None else value | {"asked": self.asked.to_json()}

    @classmethod
    def from_json(cls, value: object) -> Self:
        fields = Fields(value)
        asked = None if fields.is_null("asked") else Asked.from_fields(fields.fields("asked"))
        return cls(Keys.from_fields(fields), asked)


def pending_path(join_id: str) -> Path:
    """Where a join waits until it is answered, by the id of its token or of what it asks for: one that was
    cut off is repeated with the same keys, and so spends no second use of its token.
    """
    return state_directory() / f".joining-{join_id}"


def load_pending(join_id: str) -> Pending | None:
    """Raises StateError for a damaged file."""
    path = pending_path(join_id)
    try:
        return Pending.from_json(decode_json(path.read_bytes(), MAX_SIZE))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"cannot read {path}: {error.strerror}") from None
    except MalformedMessage as error:
        raise StateError(f"the join under way, {path}, is damaged ({error}): remove the file") from None


def save_pending(join_id: str, pending: Pending) -> None:
    write_private_file(pending_path(join_id), pending.to_json())


def delete_pending(join_id: str) -> None:
    pending_path(join_id).unlink(missing_ok=True)


# --- one agent a network --------------------------------------------------------------------------


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a network (or the join of a token) for this process. Raises HostError when another process does.

    The lock goes with the process, whatever ends it.
    """
    path = make_private_directory(state_directory()) / f".{name}.lock"
    handle = _lock(path, name)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is still ours; who opened it before sees that it is gone
        os.close(handle)


def _lock(path: Path, name: str) -> int:
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HostError(f"cannot lock {path}: {error.strerror}") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
        except BlockingIOError:
            os.close(handle)
            raise HostError(f"{name} is already running on this host (see: wgpy status {name})") from None
        except FileNotFoundError:
            pass
        os.close(handle)  # its last holder removed it between our two steps
