"""A membership for tests, in a state directory of its own."""

from __future__ import annotations

from tests.mesh.examples import identity_key, machine_key, make_network, node_id, wireguard_key
from tests.mesh.messages import make_held, make_membership, make_token
from wgpy.addresses import Endpoint
from wgpy.agent.advertise import Advertise
from wgpy.agent.choices import LocalChoices
from wgpy.agent.state_file import Keys, State


def make_keys() -> Keys:
    return Keys(machine_key(1), wireguard_key(1))


def make_state(name: str = "home") -> State:
    token, membership = make_token(), make_membership()
    return State(
        name=name,
        keys=make_keys(),
        identity_hash=identity_key().public_key().hash,
        identity=identity_key().public_key(),
        pinned=True,
        urls=token.urls,
        token_id=token.id,
        network=make_network(),
        node=node_id(1),
        node_name=membership.name,
        addresses=membership.addresses,
        interface="wg-home",
        choices=LocalChoices(accepted=make_network().ranges[:1], advertise=Advertise.parse("any,exit")),
        listen_port=51820,
        endpoints=("192.0.2.9:51820",),
        boot=3,
        record_seq=1,
        timestamp=bytes(range(12)),
        held=make_held(7),
        seen={node_id(2): (Endpoint.parse("192.0.2.2:1024"), Endpoint.parse("[2001:db8::2]:51820"))},
    )
