"""The schema: the truth about what the coordinator keeps. Migrations lead here, and a test holds them to it.

Instants (`…_at`, `until`) are seconds of Unix time. Ids are 32 lower-case hexadecimal digits, random, never
used again. No secret stands here in the clear: tokens and API keys are SHA-256 of 256 random bits, the
coordinator's own secrets are wrapped by the key file, nodes' private keys never leave the nodes.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

meta: Final = Table(
    "meta",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False, comment="always 1: one row"),
    Column(
        "epoch", String(32), nullable=False, comment="random; another one means a full map for every node"
    ),
    Column(
        "urls", JSON, nullable=False, comment="where nodes reach the coordinator, in order; part of every map"
    ),
    Column("created_at", Double, nullable=False, comment="when this database was made"),
    CheckConstraint("id = 1", name="one_row"),
)

secrets: Final = Table(
    "secrets",
    metadata,
    Column("name", String(32), primary_key=True, comment="identity, leaf, next_leaf or session"),
    Column("wrapped", LargeBinary, nullable=False, comment="nonce and ciphertext under the key file"),
    Column("created_at", Double, nullable=False, comment="when it was made"),
)

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("id", String(16), primary_key=True, comment="first 8 octets of key_hash, hexadecimal"),
    Column("key_hash", LargeBinary, nullable=False, comment="SHA-256 of the key's 256 random bits"),
    Column("name", String(63), nullable=False, comment="what it is for, in the admin's words"),
    Column("created_at", Double, nullable=False, comment="when it was made"),
    Column("revoked_at", Double, comment="when it stopped working"),
)

networks: Final = Table(
    "networks",
    metadata,
    Column("id", String(32), primary_key=True, comment="random"),
    Column("name", String(63), nullable=False, unique=True, comment="a DNS label; the admin's name for it"),
    Column("ranges", JSON, nullable=False, comment="prefixes that addresses are taken from, in order"),
    Column("mtu", Integer, nullable=False, comment="of the nodes' interfaces, octets"),
    Column(
        "keepalive", Integer, nullable=False, comment="persistent keepalive between nodes, seconds; 0 is off"
    ),
    Column("suffix", String(253), nullable=False, comment="DNS suffix of the nodes' names"),
    Column("revision", BigInteger, nullable=False, comment="one up with each change, under this row's lock"),
    Column("created_at", Double, nullable=False, comment="when it was made"),
)

tokens: Final = Table(
    "tokens",
    metadata,
    Column("id", String(16), primary_key=True, comment="first 8 octets of secret_hash, hexadecimal"),
    Column("network_id", String(32), ForeignKey("networks.id"), nullable=False, comment="what it admits to"),
    Column("secret_hash", LargeBinary, nullable=False, comment="SHA-256 of the token's 256 random bits"),
    Column("uses_allowed", Integer, nullable=False, comment="how many nodes it admits; 0: no limit"),
    Column("uses", Integer, nullable=False, comment="how many nodes it has admitted"),
    Column("created_at", Double, nullable=False, comment="when it was made"),
    Column("expires_at", Double, nullable=False, comment="from when on it admits nobody"),
    Column("revoked_at", Double, comment="when an admin took it back"),
    Index(None, "network_id"),
)

nodes: Final = Table(
    "nodes",
    metadata,
    Column("id", String(32), primary_key=True, comment="random"),
    Column(
        "network_id", String(32), ForeignKey("networks.id"), nullable=False, comment="where it is a member"
    ),
    Column("name", String(63), nullable=False, comment="a DNS label, unique in its network"),
    Column("machine_key", LargeBinary, nullable=False, comment="Ed25519 public key, 32 octets"),
    Column(
        "wireguard_key", LargeBinary, nullable=False, unique=True, comment="Curve25519 public key, 32 octets"
    ),
    Column("token_id", String(16), nullable=False, comment="the token it joined with"),
    Column("addresses", JSON, nullable=False, comment="its /32 and /128, as claimed in `addresses`"),
    Column("key_epoch", Integer, nullable=False, comment="bearers of another epoch are refused"),
    Column(
        "record", Text, comment="its canonical record, signed by its machine key; none until it has signed"
    ),
    Column("record_seq", BigInteger, nullable=False, comment="seq of `record`, 0 without; only grows"),
    Column("visible_from", BigInteger, comment="the revision at which it first signed a record"),
    Column("capabilities", JSON, nullable=False, comment="what it said it can do when it joined"),
    Column("joined_at", Double, nullable=False, comment="when it joined"),
    UniqueConstraint("network_id", "name"),
    UniqueConstraint("machine_key", "token_id"),
)

removed_nodes: Final = Table(
    "removed_nodes",
    metadata,
    Column("id", String(32), primary_key=True, comment="the node's id, as it was"),
    Column("network_id", String(32), nullable=False, comment="where it was a member; may be gone as well"),
    Column("machine_key", LargeBinary, nullable=False, comment="proves who asks for the signed removal"),
    Column("removed_at", Double, nullable=False, comment="kept for 90 days: a host may be off for long"),
    Index(None, "removed_at"),
)

addresses: Final = Table(
    "addresses",
    metadata,
    Column(
        "network_id", String(32), ForeignKey("networks.id"), primary_key=True, comment="whose address it is"
    ),
    Column("range", String(43), primary_key=True, comment="the prefix it was taken from"),
    Column(
        "host", BigInteger, primary_key=True, autoincrement=False, comment="its number inside that prefix"
    ),
    Column("node_id", String(32), comment="who has it; nobody while it rests"),
    Column("released_at", Double, comment="since when it rests; it is given again after 7 days"),
    Index(None, "node_id"),
)

change_log: Final = Table(
    "change_log",
    metadata,
    Column(
        "network_id", String(32), ForeignKey("networks.id"), primary_key=True, comment="where it happened"
    ),
    Column("revision", BigInteger, primary_key=True, autoincrement=False, comment="what the network came to"),
    Column("kind", String(16), primary_key=True, comment="node, network or visibility"),
    Column("entity", String(32), primary_key=True, comment="id of what changed: read its row for how"),
    Column("at", Double, nullable=False, comment="when; kept for 7 days or 100,000 rows"),
    Index(None, "at"),
)

endpoints: Final = Table(
    "endpoints",
    metadata,
    Column(
        "node_id",
        String(32),
        primary_key=True,
        comment="whose endpoints; not in the log, not in the map hash",
    ),
    Column("network_id", String(32), nullable=False, comment="its network"),
    Column(
        "boot",
        BigInteger,
        nullable=False,
        comment="the node's boot counter: (boot, sequence) decides who wins",
    ),
    Column("sequence", BigInteger, nullable=False, comment="counts the node's reports since that boot"),
    Column("endpoints", JSON, nullable=False, comment="ip:port, at most 16, best first"),
    Column("updated_at", Double, nullable=False, comment="when this was written"),
    Index(None, "network_id"),
)

leases: Final = Table(
    "leases",
    metadata,
    Column("node_id", String(32), primary_key=True, comment="who is connected"),
    Column("process", String(32), primary_key=True, comment="to which coordinator process"),
    Column("until", Double, nullable=False, comment="a node is online while it has a lease that is not over"),
    Index(None, "until"),
)
