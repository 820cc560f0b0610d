"""Names that an admin adds to a network: records, and name servers of single domains."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0004"


def upgrade() -> None:
    op.add_column(
        "networks",
        sa.Column(
            "names",
            sa.JSON(),
            nullable=True,
            comment="records and name servers that an admin added; none: no such",
        ),
    )
