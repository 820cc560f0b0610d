"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column(
            "id", sa.String(length=16), nullable=False, comment="first 8 octets of key_hash, hexadecimal"
        ),
        sa.Column(
            "key_hash", sa.LargeBinary(), nullable=False, comment="SHA-256 of the key's 256 random bits"
        ),
        sa.Column(
            "name", sa.String(length=63), nullable=False, comment="what it is for, in the admin's words"
        ),
        sa.Column("created_at", sa.Double(), nullable=False, comment="when it was made"),
        sa.Column("revoked_at", sa.Double(), nullable=True, comment="when it stopped working"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_table(
        "endpoints",
        sa.Column(
            "node_id",
            sa.String(length=32),
            nullable=False,
            comment="whose endpoints; not in the log, not in the map hash",
        ),
        sa.Column("network_id", sa.String(length=32), nullable=False, comment="its network"),
        sa.Column(
            "boot",
            sa.BigInteger(),
            nullable=False,
            comment="the node's boot counter: (boot, sequence) decides who wins",
        ),
        sa.Column(
            "sequence", sa.BigInteger(), nullable=False, comment="counts the node's reports since that boot"
        ),
        sa.Column("endpoints", sa.JSON(), nullable=False, comment="ip:port, at most 16, best first"),
        sa.Column("updated_at", sa.Double(), nullable=False, comment="when this was written"),
        sa.PrimaryKeyConstraint("node_id", name=op.f("pk_endpoints")),
    )
    op.create_index(op.f("ix_endpoints_network_id"), "endpoints", ["network_id"], unique=False)
    op.create_table(
        "leases",
        sa.Column("node_id", sa.String(length=32), nullable=False, comment="who is connected"),
        sa.Column("process", sa.String(length=32), nullable=False, comment="to which coordinator process"),
        sa.Column(
            "until",
            sa.Double(),
            nullable=False,
            comment="a node is online while it has a lease that is not over",
        ),
        sa.PrimaryKeyConstraint("node_id", "process", name=op.f("pk_leases")),
    )
    op.create_index(op.f("ix_leases_until"), "leases", ["until"], unique=False)
    op.create_table(
        "meta",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False, comment="always 1: one row"),
        sa.Column(
            "epoch",
            sa.String(length=32),
            nullable=False,
            comment="random; another one means a full map for every node",
        ),
        sa.Column(
            "urls",
            sa.JSON(),
            nullable=False,
            comment="where nodes reach the coordinator, in order; part of every map",
        ),
        sa.Column("created_at", sa.Double(), nullable=False, comment="when this database was made"),
        sa.CheckConstraint("id = 1", name=op.f("ck_meta_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_meta")),
    )
    op.create_table(
        "networks",
        sa.Column("id", sa.String(length=32), nullable=False, comment="random"),
        sa.Column(
            "name", sa.String(length=63), nullable=False, comment="a DNS label; the admin's name for it"
        ),
        sa.Column(
            "ranges", sa.JSON(), nullable=False, comment="prefixes that addresses are taken from, in order"
        ),
        sa.Column("mtu", sa.Integer(), nullable=False, comment="of the nodes' interfaces, octets"),
        sa.Column(
            "keepalive",
            sa.Integer(),
            nullable=False,
            comment="persistent keepalive between nodes, seconds; 0 is off",
        ),
        sa.Column("suffix", sa.String(length=253), nullable=False, comment="DNS suffix of the nodes' names"),
        sa.Column(
            "revision",
            sa.BigInteger(),
            nullable=False,
            comment="one up with each change, under this row's lock",
        ),
        sa.Column("created_at", sa.Double(), nullable=False, comment="when it was made"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_networks")),
        sa.UniqueConstraint("name", name=op.f("uq_networks_name")),
    )
    op.create_table(
        "removed_nodes",
        sa.Column("id", sa.String(length=32), nullable=False, comment="the node's id, as it was"),
        sa.Column(
            "network_id",
            sa.String(length=32),
            nullable=False,
            comment="where it was a member; may be gone as well",
        ),
        sa.Column(
            "machine_key", sa.LargeBinary(), nullable=False, comment="proves who asks for the signed removal"
        ),
        sa.Column(
            "removed_at", sa.Double(), nullable=False, comment="kept for 90 days: a host may be off for long"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_removed_nodes")),
    )
    op.create_index(op.f("ix_removed_nodes_removed_at"), "removed_nodes", ["removed_at"], unique=False)
    op.create_table(
        "secrets",
        sa.Column(
            "name", sa.String(length=32), nullable=False, comment="identity, leaf, next_leaf or session"
        ),
        sa.Column(
            "wrapped", sa.LargeBinary(), nullable=False, comment="nonce and ciphertext under the key file"
        ),
        sa.Column("created_at", sa.Double(), nullable=False, comment="when it was made"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_secrets")),
    )
    op.create_table(
        "addresses",
        sa.Column("network_id", sa.String(length=32), nullable=False, comment="whose address it is"),
        sa.Column("range", sa.String(length=43), nullable=False, comment="the prefix it was taken from"),
        sa.Column(
            "host",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="its number inside that prefix",
        ),
        sa.Column(
            "node_id", sa.String(length=32), nullable=True, comment="who has it; nobody while it rests"
        ),
        sa.Column(
            "released_at",
            sa.Double(),
            nullable=True,
            comment="since when it rests; it is given again after 7 days",
        ),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("fk_addresses_network_id")),
        sa.PrimaryKeyConstraint("network_id", "range", "host", name=op.f("pk_addresses")),
    )
    op.create_index(op.f("ix_addresses_node_id"), "addresses", ["node_id"], unique=False)
    op.create_table(
        "change_log",
        sa.Column("network_id", sa.String(length=32), nullable=False, comment="where it happened"),
        sa.Column(
            "revision",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="what the network came to",
        ),
        sa.Column("kind", sa.String(length=16), nullable=False, comment="node, network or visibility"),
        sa.Column(
            "entity", sa.String(length=32), nullable=False, comment="id of what changed: read its row for how"
        ),
        sa.Column("at", sa.Double(), nullable=False, comment="when; kept for 7 days or 100,000 rows"),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("fk_change_log_network_id")),
        sa.PrimaryKeyConstraint("network_id", "revision", "kind", "entity", name=op.f("pk_change_log")),
    )
    op.create_index(op.f("ix_change_log_at"), "change_log", ["at"], unique=False)
    op.create_table(
        "nodes",
        sa.Column("id", sa.String(length=32), nullable=False, comment="random"),
        sa.Column("network_id", sa.String(length=32), nullable=False, comment="where it is a member"),
        sa.Column("name", sa.String(length=63), nullable=False, comment="a DNS label, unique in its network"),
        sa.Column("machine_key", sa.LargeBinary(), nullable=False, comment="Ed25519 public key, 32 octets"),
        sa.Column(
            "wireguard_key", sa.LargeBinary(), nullable=False, comment="Curve25519 public key, 32 octets"
        ),
        sa.Column("token_id", sa.String(length=16), nullable=False, comment="the token it joined with"),
        sa.Column(
            "addresses", sa.JSON(), nullable=False, comment="its /32 and /128, as claimed in `addresses`"
        ),
        sa.Column("key_epoch", sa.Integer(), nullable=False, comment="bearers of another epoch are refused"),
        sa.Column(
            "record",
            sa.Text(),
            nullable=True,
            comment="its canonical record, signed by its machine key; none until it has signed",
        ),
        sa.Column(
            "record_seq", sa.BigInteger(), nullable=False, comment="seq of `record`, 0 without; only grows"
        ),
        sa.Column(
            "visible_from",
            sa.BigInteger(),
            nullable=True,
            comment="the revision at which it first signed a record",
        ),
        sa.Column("capabilities", sa.JSON(), nullable=False, comment="what it said it can do when it joined"),
        sa.Column("joined_at", sa.Double(), nullable=False, comment="when it joined"),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("fk_nodes_network_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nodes")),
        sa.UniqueConstraint("machine_key", "token_id", name=op.f("uq_nodes_machine_key_token_id")),
        sa.UniqueConstraint("network_id", "name", name=op.f("uq_nodes_network_id_name")),
        sa.UniqueConstraint("wireguard_key", name=op.f("uq_nodes_wireguard_key")),
    )
    op.create_table(
        "tokens",
        sa.Column(
            "id", sa.String(length=16), nullable=False, comment="first 8 octets of secret_hash, hexadecimal"
        ),
        sa.Column("network_id", sa.String(length=32), nullable=False, comment="what it admits to"),
        sa.Column(
            "secret_hash", sa.LargeBinary(), nullable=False, comment="SHA-256 of the token's 256 random bits"
        ),
        sa.Column(
            "uses_allowed", sa.Integer(), nullable=False, comment="how many nodes it admits; 0: no limit"
        ),
        sa.Column("uses", sa.Integer(), nullable=False, comment="how many nodes it has admitted"),
        sa.Column("created_at", sa.Double(), nullable=False, comment="when it was made"),
        sa.Column("expires_at", sa.Double(), nullable=False, comment="from when on it admits nobody"),
        sa.Column("revoked_at", sa.Double(), nullable=True, comment="when an admin took it back"),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("fk_tokens_network_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
    )
    op.create_index(op.f("ix_tokens_network_id"), "tokens", ["network_id"], unique=False)
