"""The file of vectors is what the code says, and what docs/wire.md says, computed anew by other means."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519, x25519

from tests.vectors import make_mesh

VECTORS: Any = json.loads(make_mesh.PATH.read_text())


def octets(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def pack(context: str, *fields: bytes) -> bytes:
    return context.encode() + b"\0" + b"".join(struct.pack(">I", len(field)) + field for field in fields)


def message(kind: str) -> Any:
    return next(entry["json"] for entry in VECTORS["messages"] if entry["type"] == kind)


def test_the_file_is_what_its_generator_writes() -> None:
    assert json.loads(json.dumps(make_mesh.build())) == VECTORS


def test_the_token_is_laid_out_as_the_document_says() -> None:
    token, data = VECTORS["token"], octets(VECTORS["token"]["text"].removeprefix("wgpy1_"))
    assert data[-4:] == hashlib.sha256(data[:-4]).digest()[:4]
    assert data[0] == 1
    assert data[1:33] == octets(VECTORS["keys"]["identity_hash"])
    assert data[33:65] == octets(token["secret"])
    assert data[65:-4] == b"".join(bytes([len(url)]) + url.encode() for url in token["urls"])
    assert token["id"] == hashlib.sha256(data[33:65]).digest()[:8].hex()


def test_the_join_verifies_with_nothing_of_ours() -> None:
    keys, join = VECTORS["keys"], message("JoinRequest")
    signed = pack(
        "wgpy-join-v1",
        octets(keys["identity_hash"]),
        octets(keys["leaf_hash"]),
        octets(keys["challenge"]),
        VECTORS["token"]["id"].encode(),
        base64.b64decode(join["wireguard_key"]),
        b"alice",
    )
    assert octets(VECTORS["signing_inputs"]["join"]) == signed
    public = ed25519.Ed25519PublicKey.from_public_bytes(octets(join["machine_key"]))
    public.verify(octets(join["signature"]), signed)
    ephemeral = x25519.X25519PrivateKey.from_private_bytes(octets(keys["ephemeral_private"]))
    wireguard = x25519.X25519PublicKey.from_public_bytes(base64.b64decode(join["wireguard_key"]))
    proven = pack("wgpy-proof-v1", octets(keys["challenge"]), octets(join["machine_key"]))
    proof = hmac.new(ephemeral.exchange(wireguard), proven, "sha256").digest()
    assert proof == octets(join["wireguard_proof"])


def test_the_map_hash_is_the_sum_of_the_hashes_of_its_entities() -> None:
    value = VECTORS["map"]["json"]
    entities = [["network", value["network"]], ["self", value["self"]]]
    entities += [["peer", node] for node in value["peers"].values()]
    canonical = [json.dumps(entity, sort_keys=True, separators=(",", ":")) for entity in entities]
    assert canonical[0] == VECTORS["map"]["network_canonical"]
    total = sum(int(hashlib.sha256(text.encode()).hexdigest(), 16) for text in canonical) % 2**256
    assert total.to_bytes(32, "big") == octets(VECTORS["map"]["hash"])


def test_the_record_is_signed_over_text_of_its_lists() -> None:
    record = VECTORS["map"]["json"]["self"]["record"]
    signed = pack(
        "wgpy-record-v1",
        record["network"].encode(),
        record["id"].encode(),
        octets(record["machine_key"]),
        base64.b64decode(record["wireguard_key"]),
        pack("list", *(text.encode() for text in record["addresses"])),
        pack("list"),
        struct.pack(">Q", record["seq"]),
    )
    public = ed25519.Ed25519PublicKey.from_public_bytes(octets(record["machine_key"]))
    public.verify(octets(record["signature"]), signed)
