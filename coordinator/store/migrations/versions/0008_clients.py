"""External clients behind ingress gateways."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0006"


def upgrade() -> None:
    op.add_column(
        "forwards",
        sa.Column(
            "group_id",
            sa.String(length=32),
            nullable=True,
            comment="the ingress group whose clients are in it; none: a place",
        ),
    )
    op.create_table(
        "ingress_groups",
        sa.Column("id", sa.String(length=32), nullable=False, comment="random"),
        sa.Column("network_id", sa.String(length=32), nullable=False, comment="whose clients"),
        sa.Column("name", sa.String(length=63), nullable=False, comment="a DNS label, unique in its network"),
        sa.Column(
            "endpoint", sa.String(length=260), nullable=False, comment="HOST:PORT that clients connect to"
        ),
        sa.Column("listen_port", sa.Integer(), nullable=False, comment="UDP port of its gateways"),
        sa.Column(
            "ranges", sa.JSON(), nullable=False, comment="where its clients' addresses are, in the network's"
        ),
        sa.Column(
            "dns", sa.Boolean(), nullable=False, comment="whether its gateways answer names for clients"
        ),
        sa.Column(
            "public_key",
            sa.LargeBinary(),
            nullable=True,
            comment="Curve25519, 32 octets; none: no gateway has made it yet",
        ),
        sa.Column(
            "version", sa.BigInteger(), nullable=False, comment="one up with each change that gateways act on"
        ),
        sa.Column("created_at", sa.Double(), nullable=False, comment="when it was made"),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("fk_ingress_groups_network_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ingress_groups")),
        sa.UniqueConstraint("network_id", "name", name=op.f("uq_ingress_groups_network_id_name")),
    )
    op.create_table(
        "ingress_gateways",
        sa.Column("node_id", sa.String(length=32), nullable=False, comment="a node is in one group at most"),
        sa.Column("group_id", sa.String(length=32), nullable=False, comment="which"),
        sa.Column(
            "sealed_key",
            sa.LargeBinary(),
            nullable=True,
            comment="the group's private key, sealed to the node's machine key by another",
        ),
        sa.Column(
            "created_at", sa.Double(), nullable=False, comment="when it was added; the first makes the key"
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["ingress_groups.id"], name=op.f("fk_ingress_gateways_group_id")
        ),
        sa.PrimaryKeyConstraint("node_id", name=op.f("pk_ingress_gateways")),
    )
    op.create_index(op.f("ix_ingress_gateways_group_id"), "ingress_gateways", ["group_id"], unique=False)
    op.create_table(
        "clients",
        sa.Column("id", sa.String(length=32), nullable=False, comment="random"),
        sa.Column("network_id", sa.String(length=32), nullable=False, comment="which it reaches"),
        sa.Column("group_id", sa.String(length=32), nullable=False, comment="by which way"),
        sa.Column(
            "name",
            sa.String(length=63),
            nullable=False,
            comment="a DNS label, unique among the network's clients",
        ),
        sa.Column("public_key", sa.LargeBinary(), nullable=False, comment="Curve25519 public key, 32 octets"),
        sa.Column(
            "key_by",
            sa.String(length=8),
            nullable=False,
            comment="who made its key: client, or server (not kept)",
        ),
        sa.Column(
            "group_key", sa.LargeBinary(), nullable=False, comment="the group's key that its file names"
        ),
        sa.Column(
            "addresses", sa.JSON(), nullable=False, comment="its /32 and /128, as claimed in `addresses`"
        ),
        sa.Column("reach", sa.JSON(), nullable=False, comment="everything, or which nodes (ids) and ranges"),
        sa.Column("created_at", sa.Double(), nullable=False, comment="when it was made"),
        sa.Column("disabled_at", sa.Double(), nullable=True, comment="since when an admin keeps it out"),
        sa.Column(
            "expires_at", sa.Double(), nullable=True, comment="from when on it is kept out; none: never"
        ),
        sa.Column(
            "expired_at",
            sa.Double(),
            nullable=True,
            comment="when the sweep saw that; a later expires_at clears it",
        ),
        sa.ForeignKeyConstraint(["group_id"], ["ingress_groups.id"], name=op.f("fk_clients_group_id")),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("fk_clients_network_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clients")),
        sa.UniqueConstraint("network_id", "name", name=op.f("uq_clients_network_id_name")),
        sa.UniqueConstraint("public_key", name=op.f("uq_clients_public_key")),
    )
    op.create_index(op.f("ix_clients_expires_at"), "clients", ["expires_at"], unique=False)
    op.create_index(op.f("ix_clients_group_id"), "clients", ["group_id"], unique=False)
    op.create_table(
        "client_links",
        sa.Column(
            "id", sa.String(length=16), nullable=False, comment="first 8 octets of secret_hash, hexadecimal"
        ),
        sa.Column(
            "secret_hash", sa.LargeBinary(), nullable=False, comment="SHA-256 of the link's 256 random bits"
        ),
        sa.Column("client_id", sa.String(length=32), nullable=False, comment="whose file"),
        sa.Column(
            "sealed_file",
            sa.LargeBinary(),
            nullable=False,
            comment="the file, sealed under the link's secret",
        ),
        sa.Column(
            "expires_at",
            sa.Double(),
            nullable=False,
            comment="from when on it is forgotten; a used one is gone",
        ),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_client_links_client_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_client_links")),
    )
    op.create_index(op.f("ix_client_links_client_id"), "client_links", ["client_id"], unique=False)
    op.create_index(op.f("ix_client_links_expires_at"), "client_links", ["expires_at"], unique=False)
    op.create_table(
        "client_sightings",
        sa.Column(
            "client_id", sa.String(length=32), nullable=False, comment="whose; not in the log, not in the map"
        ),
        sa.Column("node_id", sa.String(length=32), nullable=False, comment="the gateway that says so"),
        sa.Column(
            "handshake_at", sa.Double(), nullable=False, comment="its latest handshake with that gateway"
        ),
        sa.Column(
            "endpoint",
            sa.String(length=64),
            nullable=False,
            comment="ip:port that it came from; empty: not known",
        ),
        sa.Column(
            "rx_bytes", sa.BigInteger(), nullable=False, comment="received from it since the gateway began"
        ),
        sa.Column("tx_bytes", sa.BigInteger(), nullable=False, comment="sent to it since the gateway began"),
        sa.Column("at", sa.Double(), nullable=False, comment="when the gateway said so"),
        sa.PrimaryKeyConstraint("client_id", "node_id", name=op.f("pk_client_sightings")),
    )
    op.create_index(op.f("ix_client_sightings_node_id"), "client_sightings", ["node_id"], unique=False)
