"""One good example of every message and frame, for round trips, vectors and mutation."""

from __future__ import annotations

import ipaddress

from tests.mesh.examples import (
    NETWORK_ID,
    identity_key,
    machine_key,
    make_map,
    make_network,
    make_node,
    node_id,
    seed,
    wireguard_key,
)
from wgpy.addresses import Endpoint
from wgpy.keys import PrivateKey
from wgpy.mesh import frames, wire
from wgpy.mesh.delta import HeldMap, make_delta, make_full
from wgpy.mesh.receipt import Receipt
from wgpy.mesh.signing import (
    BearerSecret,
    join_input,
    leaves_input,
    removed_input,
    session_input,
    wireguard_proof,
)
from wgpy.mesh.token import Token
from wgpy.mesh.tunnels import ReportTerms, Tunnel, TunnelReport

LEAF = seed("leaf")
CHALLENGE = seed("challenge") + seed("challenge", 1)[:24]
EPHEMERAL = PrivateKey(seed("ephemeral"))


def make_token() -> Token:
    urls = ("https://192.0.2.1:8443", "https://[2001:db8::1]:8443", "https://mesh.example")
    return Token(identity_key().public_key().hash, BearerSecret(seed("secret")), urls)


def make_identity() -> wire.Identity:
    leaves = (LEAF, seed("next leaf"))
    return wire.Identity(identity_key().public_key(), leaves, identity_key().sign(leaves_input(leaves)))


def make_challenge() -> wire.Challenge:
    return wire.Challenge(CHALLENGE, EPHEMERAL.public_key())


def make_join() -> wire.JoinRequest:
    token, machine, key = make_token(), machine_key(1), wireguard_key(1)
    message = join_input(
        identity_hash=token.identity_hash,
        leaf_hash=LEAF,
        challenge=CHALLENGE,
        token_id=token.id,
        wireguard_key=key.public_key(),
        name="alice",
    )
    proof = wireguard_proof(key.exchange(EPHEMERAL.public_key()), CHALLENGE, machine.public_key())
    return wire.JoinRequest(
        token=token.secret,
        name="alice",
        machine_key=machine.public_key(),
        wireguard_key=key.public_key(),
        challenge=CHALLENGE,
        signature=machine.sign(message),
        wireguard_proof=proof,
    )


def make_session_request() -> wire.SessionRequest:
    message = session_input(identity_key().public_key().hash, LEAF, NETWORK_ID, node_id(1), CHALLENGE)
    return wire.SessionRequest(NETWORK_ID, node_id(1), CHALLENGE, machine_key(1).sign(message))


def make_membership() -> wire.Membership:
    addresses = (ipaddress.ip_network("10.1.0.1/32"), ipaddress.ip_network("fd12:3456:789a::1/128"))
    return wire.Membership(make_network(), node_id(1), "alice", addresses)


def make_removed() -> frames.RemovedFrame:
    signature = identity_key().sign(removed_input(NETWORK_ID, node_id(1)))
    return frames.RemovedFrame(NETWORK_ID, node_id(1), signature)


def make_presence() -> frames.PresenceFrame:
    endpoints = (Endpoint.parse("198.51.100.7:51820"), Endpoint.parse("[2001:db8::7]:51820"))
    return frames.PresenceFrame(True, {node_id(2): frames.Presence(endpoints, True)})


def make_held(revision: int) -> HeldMap:
    """Revision 7 has peers 2 and 3; at 8, peer 2 signed anew, 3 is gone and 4 has come."""
    peers = {7: [make_node(2), make_node(3)], 8: [make_node(2, seq=2), make_node(4)]}[revision]
    return HeldMap("e0a1", revision, make_map(peers, make_node(1)))


def make_tunnels() -> TunnelReport:
    endpoint = Endpoint.parse("[2001:db8::7]:51820")
    up = Tunnel("direct", "", endpoint, 12, 34_120, 2048, 980)
    return TunnelReport(True, {node_id(2): up, node_id(3): Tunnel("none", "no endpoint known yet")})


def all_frames() -> list[frames.Frame]:
    old, new = make_held(7), make_held(8)
    keepalive = frames.KeepaliveFrame("e0a1", 8, new.map.hash)
    return [
        make_full(old),
        make_delta(old, new),
        keepalive,
        make_presence(),
        make_removed(),
        frames.ReportsFrame(10),
    ]


def all_messages() -> list[wire.Message]:
    endpoints = (Endpoint.parse("192.0.2.9:51820"),)
    return [
        wire.Problem("Token used up", 403, "This token was used; make another.", "token_used"),
        make_identity(),
        make_challenge(),
        make_join(),
        make_membership(),
        make_session_request(),
        wire.Session("abc.def", 900),
        wire.CheckinRequest(frames.Since("e0a1", 7), 3, 12, 51820, endpoints),
        wire.CheckinRequest(None, 0, 0, 51820),
        wire.CheckinRequest(
            None, 1, 2, 51820, endpoints, receipts=(Receipt(endpoints[0].address, bytes(20)),)
        ),
        wire.CheckinAnswer(None, frames.PresenceFrame(False, {}), None, endpoints),
        wire.CheckinRequest(None, 3, 13, 51820, tunnels=make_tunnels(), brief=True),
        wire.CheckinAnswer(None, frames.PresenceFrame(False, {}), ReportTerms(600, True)),
        wire.CheckinAnswer(make_full(make_held(7)), make_presence()),
        wire.CheckinAnswer(make_removed(), frames.PresenceFrame(False, {})),
    ]
