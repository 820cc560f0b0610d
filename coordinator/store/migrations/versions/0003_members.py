"""Networks that are edited, tokens with terms, nodes with tags and an end, joins that wait for approval."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column(
        "networks",
        sa.Column("description", sa.String(length=500), nullable=True, comment="the admin's own words"),
    )
    op.add_column(
        "networks",
        sa.Column(
            "listen_port",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="UDP port of nodes that have no other choice of their own; 0: any",
        ),
    )
    op.add_column(
        "networks",
        sa.Column(
            "keyless",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="whether hosts may ask to join without a token",
        ),
    )
    op.add_column(
        "networks",
        sa.Column(
            "approval",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="whether joins wait for approval, unless their token says otherwise",
        ),
    )
    op.add_column(
        "networks",
        sa.Column(
            "visibility",
            sa.JSON(none_as_null=True),
            nullable=True,
            comment="pairs of tags whose nodes see each other, `*` for any; none: all see all",
        ),
    )
    op.add_column(
        "networks",
        sa.Column(
            "rotate_after",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="seconds after which a node makes itself a new WireGuard key; 0: never by itself",
        ),
    )
    op.add_column(
        "networks",
        sa.Column(
            "notices",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="one up with each change that no map shows: settings, tokens, joins that wait",
        ),
    )
    op.add_column(
        "tokens",
        sa.Column(
            "tags",
            sa.JSON(none_as_null=True),
            nullable=True,
            comment="what its nodes are tagged with; none: nothing",
        ),
    )
    op.add_column(
        "tokens",
        sa.Column(
            "node_name",
            sa.String(length=63),
            nullable=True,
            comment="what its one node is called, whatever it asks for",
        ),
    )
    op.add_column(
        "tokens",
        sa.Column(
            "node_addresses",
            sa.JSON(none_as_null=True),
            nullable=True,
            comment="the addresses that its one node gets",
        ),
    )
    op.add_column(
        "tokens",
        sa.Column(
            "ephemeral_after",
            sa.Integer(),
            nullable=True,
            comment="seconds offline after which its nodes are removed",
        ),
    )
    op.add_column(
        "tokens",
        sa.Column(
            "approval",
            sa.Boolean(),
            nullable=True,
            comment="whether its joins wait for approval; none: as the network says",
        ),
    )
    op.add_column(
        "nodes",
        sa.Column(
            "tags", sa.JSON(none_as_null=True), nullable=True, comment="DNS labels, in order; none: no tags"
        ),
    )
    op.add_column(
        "nodes",
        sa.Column(
            "ephemeral_after",
            sa.Integer(),
            nullable=True,
            comment="seconds offline after which it is removed; none: it stays",
        ),
    )
    op.add_column(
        "nodes",
        sa.Column(
            "absent_since",
            sa.Double(),
            nullable=True,
            comment="since when an ephemeral node has no lease, as the sweep saw it",
        ),
    )
    op.add_column(
        "nodes",
        sa.Column(
            "disabled_at", sa.Double(), nullable=True, comment="since when an admin keeps it out of all maps"
        ),
    )
    op.add_column(
        "nodes",
        sa.Column(
            "expires_at",
            sa.Double(),
            nullable=True,
            comment="from when on it is kept out of all maps; none: never",
        ),
    )
    op.add_column(
        "nodes",
        sa.Column(
            "expired_at",
            sa.Double(),
            nullable=True,
            comment="when the sweep saw that; a later expires_at clears it",
        ),
    )
    op.add_column(
        "nodes",
        sa.Column(
            "key_made_at",
            sa.Double(),
            nullable=True,
            comment="when it took its present WireGuard key; none: as it joined",
        ),
    )
    op.add_column(
        "nodes",
        sa.Column(
            "rotation_wanted_at",
            sa.Double(),
            nullable=True,
            comment="when an admin asked for a new key that has not come yet",
        ),
    )
    op.add_column(
        "addresses",
        sa.Column(
            "token_id",
            sa.String(length=16),
            nullable=True,
            comment="the token that names it: it is kept for its node, or was given to it",
        ),
    )
    op.create_table(
        "joins",
        sa.Column("id", sa.String(length=32), nullable=False, comment="random"),
        sa.Column("network_id", sa.String(length=32), nullable=False, comment="what it asks for"),
        sa.Column(
            "token_id",
            sa.String(length=16),
            nullable=False,
            comment="its token, or the first half of `id` without one",
        ),
        sa.Column(
            "commitment",
            sa.LargeBinary(),
            nullable=True,
            comment="SHA-256 of what a host without a token will open",
        ),
        sa.Column("nonce", sa.LargeBinary(), nullable=True, comment="ours, given against the commitment"),
        sa.Column(
            "code",
            sa.Integer(),
            nullable=True,
            comment="30 bits that the host shows and an admin types; none: by token, or not opened",
        ),
        sa.Column(
            "name",
            sa.String(length=63),
            nullable=True,
            comment="what the host wishes to be called; none: not opened yet",
        ),
        sa.Column("machine_key", sa.LargeBinary(), nullable=True, comment="Ed25519 public key, 32 octets"),
        sa.Column(
            "wireguard_key", sa.LargeBinary(), nullable=True, comment="Curve25519 public key, 32 octets"
        ),
        sa.Column(
            "capabilities", sa.JSON(none_as_null=True), nullable=True, comment="what it said it can do"
        ),
        sa.Column("address", sa.String(length=45), nullable=False, comment="from where it came"),
        sa.Column(
            "source",
            sa.String(length=64),
            nullable=False,
            comment="the same as limits count it: an IPv6 /64 is one",
        ),
        sa.Column("created_at", sa.Double(), nullable=False, comment="when"),
        sa.Column("expires_at", sa.Double(), nullable=False, comment="from when on it is forgotten"),
        sa.Column("refused_at", sa.Double(), nullable=True, comment="when an admin refused it"),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("fk_joins_network_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_joins")),
    )
    op.create_index(op.f("ix_joins_expires_at"), "joins", ["expires_at"])
    op.create_index(op.f("ix_joins_source"), "joins", ["source"])
    op.create_index(op.f("ix_joins_network_id"), "joins", ["network_id"])
