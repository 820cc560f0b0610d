"""Writes tests/vectors/mesh.json: `python -m tests.vectors.make_mesh`.

Every value follows from fixed seeds (SHA-256 of a few words), so that another implementation of docs/wire.md
can be held against the file. Keys in it are for tests alone.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.mesh import messages
from tests.mesh.examples import identity_key, machine_key, make_node, wireguard_key
from wgpy.mesh.encoding import JsonObject, canonical_json, encode_b64u
from wgpy.mesh.netmap import encode_map_hash, network_hash, peer_hash, self_hash
from wgpy.mesh.signing import NO_LEAF, join_input, leaves_input, removed_input, session_input, signing_input

PATH = Path(__file__).with_name("mesh.json")


def build() -> JsonObject:
    token, join, record = messages.make_token(), messages.make_join(), make_node(1).record
    identity_hash, session = identity_key().public_key().hash, messages.make_session_request()
    held = messages.make_held(7)
    assert held.map.self_node is not None
    join_fields = {
        "identity_hash": identity_hash,
        "challenge": messages.CHALLENGE,
        "token_id": token.id,
        "wireguard_key": join.wireguard_key,
        "name": "alice",
    }
    return {
        "about": "The mesh on the wire (docs/wire.md). Octets are base64url unless named otherwise.",
        "keys": {
            "identity_private": encode_b64u(bytes(identity_key())),
            "identity_public": str(identity_key().public_key()),
            "identity_hash": encode_b64u(identity_hash),
            "machine_private": encode_b64u(bytes(machine_key(1))),
            "machine_public": str(machine_key(1).public_key()),
            "wireguard_private_base64": wireguard_key(1).to_base64(),
            "wireguard_public_base64": str(wireguard_key(1).public_key()),
            "ephemeral_private": encode_b64u(bytes(messages.EPHEMERAL)),
            "leaf_hash": encode_b64u(messages.LEAF),
            "challenge": encode_b64u(messages.CHALLENGE),
        },
        "token": {
            "text": token.encode(),
            "id": token.id,
            "secret": encode_b64u(bytes(token.secret)),
            "secret_hash": encode_b64u(token.secret.hash),
            "urls": list(token.urls),
            "pinned": token.pinned,
        },
        "signing_inputs": {
            "example": {
                "context": "wgpy-example-v1",
                "fields": ["octets 0102", "text é", "integer 5", "list of a, bc"],
                "input": encode_b64u(signing_input("wgpy-example-v1", b"\1\2", "é", 5, ["a", "bc"])),
            },
            "leaves": encode_b64u(leaves_input(messages.make_identity().leaves)),
            "join": encode_b64u(join_input(leaf_hash=messages.LEAF, **join_fields)),  # type: ignore[arg-type]
            "join_without_pin": encode_b64u(join_input(leaf_hash=NO_LEAF, **join_fields)),  # type: ignore[arg-type]
            "session": encode_b64u(
                session_input(identity_hash, messages.LEAF, session.network, session.node, messages.CHALLENGE)
            ),
            "removed": encode_b64u(removed_input(session.network, session.node)),
            "record": encode_b64u(record.signing_input()),
        },
        "messages": [
            {"type": type(message).__name__, "json": message.to_json()} for message in messages.all_messages()
        ],
        "frames": [frame.to_json() for frame in messages.all_frames()],
        "map": {
            "json": held.map.to_json(),
            "network_canonical": canonical_json(["network", held.map.network.to_json()]).decode(),
            "shares": {
                "network": encode_map_hash(network_hash(held.map.network)),
                "self": encode_map_hash(self_hash(held.map.self_node)),
                "peers": {
                    node_id: encode_map_hash(peer_hash(node)) for node_id, node in held.map.peers.items()
                },
            },
            "hash": held.map.hash,
        },
    }


def main() -> None:
    PATH.write_text(json.dumps(build(), indent=2, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
