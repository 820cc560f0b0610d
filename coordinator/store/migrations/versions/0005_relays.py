"""Relays."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "relays",
        sa.Column("id", sa.String(length=32), nullable=False, comment="of its key: 16 octets of its hash"),
        sa.Column(
            "name",
            sa.String(length=63),
            nullable=False,
            comment="a DNS label; the admin's name for it",
        ),
        sa.Column("public_key", sa.LargeBinary(), nullable=False, comment="Ed25519 public key, 32 octets"),
        sa.Column(
            "hosts",
            sa.JSON(),
            nullable=False,
            comment="HOST:PORT of its UDP, in order; part of every map",
        ),
        sa.Column(
            "url",
            sa.String(length=255),
            nullable=True,
            comment="where it takes the same over TLS; none: nowhere",
        ),
        sa.Column("is_own", sa.Boolean(), nullable=False, comment="`serve` itself runs it"),
        sa.Column(
            "created_at",
            sa.Double(),
            nullable=False,
            comment="when it was made: the order in every map",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_relays")),
        sa.UniqueConstraint("name", name=op.f("uq_relays_name")),
    )


def downgrade() -> None:
    op.drop_table("relays")
