"""A node as the tests see it: its keys, what it signs, and the map it holds from the frames that it got."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from wgpy.keys import PrivateKey
from wgpy.mesh.delta import HeldMap, apply_frame
from wgpy.mesh.frames import (
    DeltaFrame,
    Frame,
    FullFrame,
    KeepaliveFrame,
    Presence,
    PresenceFrame,
    RemovedFrame,
    ReportsFrame,
    Since,
    decode_frame,
)
from wgpy.mesh.keyless import OpenRequest, commitment
from wgpy.mesh.record import Record, sign_record
from wgpy.mesh.signing import BearerSecret, MachineKey, join_input, session_input, wireguard_proof
from wgpy.mesh.wire import Challenge, JoinRequest, Membership, SessionRequest


def seed(what: str, number: int) -> bytes:
    return hashlib.sha256(f"coordinator {what} {number}".encode()).digest()


class Host:
    """The number decides its keys."""

    def __init__(self, number: int, name: str | None = None) -> None:
        self.number = number
        self.name = name or f"host-{number}"
        self.machine_key = MachineKey(seed("machine", number))
        self.wireguard_key = PrivateKey(seed("wireguard", number))
        self.nonce = seed("nonce", number)
        self.capabilities: tuple[str, ...] = ("approval",)
        self.membership: Membership | None = None

    @property
    def commitment(self) -> bytes:
        return commitment(self.machine_key.public_key(), self.wireguard_key.public_key(), self.nonce)

    def open_request(
        self, join: str, challenge: Challenge, identity_hash: bytes, leaf_hash: bytes
    ) -> OpenRequest:
        """What it shows after its commitment was taken."""
        machine, wireguard = self.machine_key.public_key(), self.wireguard_key.public_key()
        signed = join_input(
            identity_hash=identity_hash,
            leaf_hash=leaf_hash,
            challenge=challenge.challenge,
            token_id=join,
            wireguard_key=wireguard,
            name=self.name,
        )
        shared = self.wireguard_key.exchange(challenge.ephemeral)
        return OpenRequest(
            join=join,
            nonce=self.nonce,
            name=self.name,
            machine_key=machine,
            wireguard_key=wireguard,
            challenge=challenge.challenge,
            signature=self.machine_key.sign(signed),
            wireguard_proof=wireguard_proof(shared, challenge.challenge, machine),
            capabilities=("approval",),
        )

    @property
    def id(self) -> str:
        assert self.membership is not None
        return self.membership.node

    def join_request(
        self, secret: BearerSecret, challenge: Challenge, identity_hash: bytes, leaf_hash: bytes
    ) -> JoinRequest:
        machine = self.machine_key.public_key()
        wireguard = self.wireguard_key.public_key()
        signed = join_input(
            identity_hash=identity_hash,
            leaf_hash=leaf_hash,
            challenge=challenge.challenge,
            token_id=secret.id,
            wireguard_key=wireguard,
            name=self.name,
        )
        shared = self.wireguard_key.exchange(challenge.ephemeral)
        return JoinRequest(
            token=secret,
            name=self.name,
            machine_key=machine,
            wireguard_key=wireguard,
            challenge=challenge.challenge,
            signature=self.machine_key.sign(signed),
            wireguard_proof=wireguard_proof(shared, challenge.challenge, machine),
            capabilities=self.capabilities,
        )

    def session_request(
        self, membership: Membership, challenge: Challenge, identity_hash: bytes, leaf_hash: bytes
    ) -> SessionRequest:
        network = membership.network.id
        signed = session_input(identity_hash, leaf_hash, network, membership.node, challenge.challenge)
        return SessionRequest(network, membership.node, challenge.challenge, self.machine_key.sign(signed))

    def record(self, membership: Membership, seq: int = 1) -> Record:
        return sign_record(
            self.machine_key,
            self.wireguard_key.public_key(),
            network=membership.network.id,
            node=membership.node,
            addresses=membership.addresses,
            seq=seq,
        )


@dataclass
class Follower:
    """What a node makes of a stream: its map, who is where, and how often it had to take a full map."""

    held: HeldMap | None = None
    presence: dict[str, Presence] = field(default_factory=dict)
    removed: RemovedFrame | None = None
    frames: list[Frame] = field(default_factory=list)
    refused: list[Frame] = field(default_factory=list)
    report_every: int | None = None

    def take(self, line: bytes) -> Frame:
        frame = decode_frame(line)
        assert frame is not None
        self.frames.append(frame)
        if isinstance(frame, PresenceFrame):
            if frame.complete:
                self.presence.clear()
            self.presence.update(frame.nodes)
        elif isinstance(frame, RemovedFrame):
            self.removed = frame
        elif isinstance(frame, ReportsFrame):
            self.report_every = frame.every
        else:
            after = apply_frame(self.held, frame)
            if after is None:
                self.refused.append(frame)
            else:
                self.held = after
        return frame

    @property
    def since(self) -> Since | None:
        return None if self.held is None else self.held.since

    def kinds(self) -> list[str]:
        names = {FullFrame: "full", DeltaFrame: "delta", KeepaliveFrame: "keepalive"}
        names |= {PresenceFrame: "presence", RemovedFrame: "removed"}
        return [names[type(frame)] for frame in self.frames]

    def peer_names(self) -> set[str]:
        assert self.held is not None
        return {node.name for node in self.held.map.peers.values() if hasattr(node, "name")}
