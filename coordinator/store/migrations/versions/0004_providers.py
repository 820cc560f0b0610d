"""OpenID providers, and nodes that are a person's own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "providers",
        sa.Column(
            "name", sa.String(length=63), nullable=False, comment="a DNS label; what an admin calls this one"
        ),
        sa.Column(
            "label", sa.String(length=64), nullable=False, comment="what the button on the sign-in page says"
        ),
        sa.Column("issuer", sa.String(length=255), nullable=False, comment="the URL that vouches for people"),
        sa.Column(
            "client_id",
            sa.String(length=255),
            nullable=False,
            comment="what this coordinator is called there",
        ),
        sa.Column(
            "sealed_secret",
            sa.LargeBinary(),
            nullable=True,
            comment="the client's secret, sealed; none: a public client",
        ),
        sa.Column(
            "admits",
            sa.String(length=8),
            nullable=False,
            comment="known: who was added here; everyone: all it knows",
        ),
        sa.Column(
            "roles", sa.JSON(), nullable=False, comment="what everyone becomes at first, by network id"
        ),
        sa.Column("created_at", sa.Double(), nullable=False, comment="when it was set up"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_providers")),
        sa.UniqueConstraint("issuer", name=op.f("uq_providers_issuer")),
    )
    op.add_column(
        "nodes",
        sa.Column(
            "person_id",
            sa.String(length=32),
            nullable=True,
            comment="whose own device it is; none: nobody's",
        ),
    )
    op.add_column(
        "nodes",
        sa.Column(
            "version", sa.String(length=32), nullable=True, comment="of wgpy, as it said at its last session"
        ),
    )
    op.create_index(op.f("ix_nodes_person_id"), "nodes", ["person_id"], unique=False)
