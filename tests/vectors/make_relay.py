"""Writes tests/vectors/relay.json: `python -m tests.vectors.make_relay`.

Every value follows from fixed seeds, so that another implementation of docs/relay.md can be held against the
file. Octets are hexadecimal. Keys in it are for tests alone.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.mesh.examples import NETWORK_ID, identity_key, machine_key, node_id, seed
from wgpy.addresses import Endpoint
from wgpy.keys import PrivateKey
from wgpy.mesh import relay, stun
from wgpy.mesh.encoding import JsonObject
from wgpy.mesh.relay_ticket import sign_ticket
from wgpy.mesh.signing import RelayKey, relay_register_input, relay_registered_input

PATH = Path(__file__).with_name("relay.json")
SESSION = 0x1122334455667788
OBSERVED = Endpoint.parse("192.0.2.7:51820")


def build() -> JsonObject:
    relay_key, node = RelayKey(seed("relay")), node_id(1)
    relay_id, other = relay_key.public_key().id, relay.relay_id_of(node_id(2))
    client, server = PrivateKey(seed("ephemeral", 1)), PrivateKey(seed("ephemeral", 2))
    random, cookie = seed("random")[: relay.RANDOM_SIZE], seed("cookie")[: relay.COOKIE_SIZE]
    ticket = sign_ticket(
        identity_key(),
        network=NETWORK_ID,
        node=node,
        machine_key=machine_key(1).public_key(),
        relay=relay_id,
        not_after=1_800_000_000,
    ).encode()
    signed = relay_register_input(relay_id, random, cookie, client.public_key(), ticket)
    register = relay.Register(random, cookie, client.public_key(), ticket, machine_key(1).sign(signed))
    observed = relay.encode_observed(OBSERVED)
    signed = relay_registered_input(random, SESSION, client.public_key(), server.public_key(), observed)
    registered = relay.Registered(random, SESSION, server.public_key(), observed, relay_key.sign(signed))
    key = relay.SessionKey(client, server.public_key(), random, client.public_key(), server.public_key())
    ack = bytes([relay.MAGIC, relay.Kind.ACK, 0, relay.VERSION])
    ack += SESSION.to_bytes(8, "big") + (5).to_bytes(8, "big") + observed
    transaction = seed("stun")[: stun.TRANSACTION_SIZE]
    return {
        "about": "Relays on the wire (docs/relay.md). Octets are hexadecimal.",
        "keys": {
            "identity_public": bytes(identity_key().public_key()).hex(),
            "machine_public": bytes(machine_key(1).public_key()).hex(),
            "relay_public": bytes(relay_key.public_key()).hex(),
            "client_ephemeral_private": bytes(client).hex(),
            "relay_ephemeral_private": bytes(server).hex(),
            "session_key": bytes(key).hex(),
        },
        "network": NETWORK_ID,
        "node": node,
        "relay": relay_id,
        "relay_id_of_node": f"{relay.relay_id_of(node):016x}",
        "not_after": 1_800_000_000,
        "observed": str(OBSERVED),
        "ticket": ticket.hex(),
        "messages": {
            "hello": relay.encode_hello(random).hex(),
            "cookie": relay.encode_cookie(random, cookie).hex(),
            "register": relay.encode_register(register).hex(),
            "registered": relay.encode_registered(registered).hex(),
            "refused": relay.encode_refused(random, relay.RefusalReason.EXPIRED).hex(),
            "keepalive": relay.encode_keepalive(SESSION, 5, key).hex(),
            "ack": (ack + key.mac(ack)).hex(),
            "data_header": relay.encode_data_header(SESSION, other).hex(),
        },
        "stun": {
            "request": stun.encode_binding_request(transaction).hex(),
            "answer_ipv4": stun.encode_binding_answer(
                transaction, OBSERVED, Endpoint.parse("198.51.100.1:8444")
            ).hex(),
            "answer_ipv6": stun.encode_binding_answer(
                transaction, Endpoint.parse("[2001:db8::7]:51820"), Endpoint.parse("[2001:db8::1]:8444")
            ).hex(),
        },
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(build(), indent=1, ensure_ascii=False) + "\n")
