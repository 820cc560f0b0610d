"""Ranges that nodes forward for others: gateways and exit nodes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "forwards",
        sa.Column("id", sa.String(length=32), nullable=False, comment="random"),
        sa.Column("network_id", sa.String(length=32), nullable=False, comment="whose range it is"),
        sa.Column("node_id", sa.String(length=32), nullable=False, comment="the gateway or exit node"),
        sa.Column("range", sa.String(length=43), nullable=False, comment="what others route to it"),
        sa.Column(
            "target",
            sa.String(length=43),
            nullable=False,
            comment="what lies behind it: the same, or a virtual one's",
        ),
        sa.Column("nat", sa.Boolean(), nullable=False, comment="whether it masquerades"),
        sa.Column(
            "interface",
            sa.String(length=15),
            nullable=False,
            comment="by which it is reached; empty: by the route",
        ),
        sa.Column("offered", sa.Boolean(), nullable=False, comment="the node says that it would forward it"),
        sa.Column(
            "approved_at",
            sa.Double(),
            nullable=True,
            comment="since when an admin wants it; none: offered alone",
        ),
        sa.Column(
            "elected",
            sa.Boolean(),
            nullable=False,
            comment="of several gateways for this range, this is the one",
        ),
        sa.Column(
            "problem",
            sa.String(length=200),
            nullable=False,
            comment="why the node does not forward it, in its words",
        ),
        sa.Column("created_at", sa.Double(), nullable=False, comment="when it was first named"),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("fk_forwards_network_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_forwards")),
        sa.UniqueConstraint("node_id", "target", name=op.f("uq_forwards_node_id_target")),
        sa.UniqueConstraint("node_id", "range", name=op.f("uq_forwards_node_id_range")),
    )
    op.create_index(op.f("ix_forwards_network_id"), "forwards", ["network_id"], unique=False)
