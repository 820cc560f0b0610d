"""People who sign in, and what an API key may do."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column(
        "api_keys",
        sa.Column(
            "scope",
            sa.String(length=8),
            server_default="admin",
            nullable=False,
            comment="read, enrol or admin",
        ),
    )
    op.add_column(
        "api_keys",
        sa.Column(
            "network_id",
            sa.String(length=32),
            nullable=True,
            comment="the one network that it opens; none: all, and the coordinator",
        ),
    )
    op.add_column(
        "api_keys",
        sa.Column(
            "expires_at", sa.Double(), nullable=True, comment="from when on it opens nothing; none: never"
        ),
    )
    op.create_table(
        "people",
        sa.Column("id", sa.String(length=32), nullable=False, comment="random"),
        sa.Column("name", sa.String(length=64), nullable=False, comment="what they sign in with, lower case"),
        sa.Column(
            "password",
            sa.String(length=200),
            nullable=True,
            comment="argon2id, encoded with its parameters; none: cannot be used",
        ),
        sa.Column("is_admin", sa.Boolean(), nullable=False, comment="may do everything on this coordinator"),
        sa.Column(
            "issuer",
            sa.String(length=255),
            nullable=True,
            comment="the OpenID provider that vouches for them",
        ),
        sa.Column("subject", sa.String(length=255), nullable=True, comment="who they are to that provider"),
        sa.Column("created_at", sa.Double(), nullable=False, comment="when they were added"),
        sa.Column("disabled_at", sa.Double(), nullable=True, comment="since when they are kept out"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_people")),
        sa.UniqueConstraint("issuer", "subject", name=op.f("uq_people_issuer_subject")),
        sa.UniqueConstraint("name", name=op.f("uq_people_name")),
    )
    op.create_table(
        "roles",
        sa.Column("person_id", sa.String(length=32), nullable=False, comment="who"),
        sa.Column("network_id", sa.String(length=32), nullable=False, comment="on which network"),
        sa.Column("role", sa.String(length=8), nullable=False, comment="viewer, member or admin"),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_roles_person_id")),
        sa.PrimaryKeyConstraint("person_id", "network_id", name=op.f("pk_roles")),
    )
    op.create_index(op.f("ix_roles_network_id"), "roles", ["network_id"], unique=False)
    op.create_table(
        "browser_sessions",
        sa.Column(
            "id", sa.String(length=16), nullable=False, comment="first 8 octets of secret_hash, hexadecimal"
        ),
        sa.Column(
            "secret_hash",
            sa.LargeBinary(),
            nullable=False,
            comment="SHA-256 of the cookie's 256 random bits",
        ),
        sa.Column("person_id", sa.String(length=32), nullable=False, comment="who signed in"),
        sa.Column("address", sa.String(length=45), nullable=False, comment="from where"),
        sa.Column("agent", sa.String(length=200), nullable=False, comment="what the browser said it is"),
        sa.Column("created_at", sa.Double(), nullable=False, comment="when"),
        sa.Column("used_at", sa.Double(), nullable=False, comment="last use, to five minutes"),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_browser_sessions_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_browser_sessions")),
    )
    op.create_index(op.f("ix_browser_sessions_person_id"), "browser_sessions", ["person_id"], unique=False)
    op.create_table(
        "setup_links",
        sa.Column(
            "id", sa.String(length=16), nullable=False, comment="first 8 octets of secret_hash, hexadecimal"
        ),
        sa.Column(
            "secret_hash", sa.LargeBinary(), nullable=False, comment="SHA-256 of the link's 256 random bits"
        ),
        sa.Column(
            "person_id",
            sa.String(length=32),
            nullable=True,
            comment="whose password it sets; none: makes the first admin",
        ),
        sa.Column("created_at", sa.Double(), nullable=False, comment="when it was made; a used one is gone"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_setup_links")),
    )
    op.create_table(
        "audit",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            comment="counts up; what a reader of the log goes on from",
        ),
        sa.Column("at", sa.Double(), nullable=False, comment="when"),
        sa.Column("actor_kind", sa.String(length=8), nullable=False, comment="person, key, host or stranger"),
        sa.Column("actor_id", sa.String(length=32), nullable=False, comment="the id of who did it"),
        sa.Column("actor", sa.String(length=64), nullable=False, comment="their name at that time"),
        sa.Column("address", sa.String(length=45), nullable=False, comment="from where"),
        sa.Column(
            "action", sa.String(length=32), nullable=False, comment="what was done, such as token.create"
        ),
        sa.Column(
            "network_id",
            sa.String(length=32),
            nullable=True,
            comment="in which network; none: on the coordinator",
        ),
        sa.Column("subject_id", sa.String(length=32), nullable=False, comment="the id of what was changed"),
        sa.Column("subject", sa.String(length=253), nullable=False, comment="its name at that time"),
        sa.Column(
            "before", sa.JSON(), nullable=True, comment="how it was, without secrets; none: it was not"
        ),
        sa.Column("after", sa.JSON(), nullable=True, comment="how it is since; none: it is gone"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_at"), "audit", ["at"], unique=False)
    op.create_index(op.f("ix_audit_network_id_id"), "audit", ["network_id", "id"], unique=False)
    op.create_table(
        "replies",
        sa.Column(
            "id",
            sa.String(length=64),
            nullable=False,
            comment="SHA-256 of caller and Idempotency-Key, hexadecimal",
        ),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False, comment="SHA-256 of what was asked"),
        sa.Column("status", sa.Integer(), nullable=False, comment="of the answer"),
        sa.Column(
            "sealed",
            sa.LargeBinary(),
            nullable=False,
            comment="the answer, sealed: it may hold a new secret",
        ),
        sa.Column("created_at", sa.Double(), nullable=False, comment="when; kept for a day"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replies")),
    )
    op.create_index(op.f("ix_replies_created_at"), "replies", ["created_at"], unique=False)
