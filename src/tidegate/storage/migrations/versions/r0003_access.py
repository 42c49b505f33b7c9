"""Organizations, projects, virtual keys, admins and the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _number() -> "sa.Column[int]":
    return sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True)


def _text(*names: str) -> "list[sa.Column[str]]":
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _made() -> "list[sa.Column[object]]":
    return [sa.Column("created_at", sa.Double, nullable=False), sa.Column("created_by", sa.Text, nullable=False)]


def upgrade() -> None:
    op.execute("INSERT INTO counters (name, next) VALUES ('access', 1)")
    op.create_table(
        "organizations",
        _number(),
        *_text("name"),
        sa.Column("settings", sa.LargeBinary, nullable=False),
        *_made(),
        sa.Column("deleted_at", sa.Double),
        sa.UniqueConstraint("name", name="organizations_name"),
    )
    op.create_table(
        "projects",
        _number(),
        *_text("organization", "name"),
        sa.Column("settings", sa.LargeBinary, nullable=False),
        *_made(),
        sa.Column("deleted_at", sa.Double),
        sa.UniqueConstraint("organization", "name", name="projects_name"),
    )
    op.create_table(
        "virtual_keys",
        _number(),
        *_text("id", "organization", "project", "name"),
        sa.Column("settings", sa.LargeBinary, nullable=False),
        *_made(),
        sa.Column("expires_at", sa.Double),
        sa.Column("revoked_at", sa.Double),
        sa.Column("changed", sa.BigInteger, nullable=False),
    )
    op.create_index("virtual_keys_id", "virtual_keys", ["id"], unique=True)
    op.create_index("virtual_keys_changed", "virtual_keys", ["changed"])
    op.create_index("virtual_keys_project", "virtual_keys", ["organization", "project", "name"])
    op.create_index("virtual_keys_name", "virtual_keys", ["name"])
    op.create_table(
        "admins",
        _number(),
        *_text("id", "name", "role"),
        *_made(),
        sa.Column("expires_at", sa.Double),
        sa.Column("revoked_at", sa.Double),
    )
    op.create_index("admins_id", "admins", ["id"], unique=True)
    op.create_table(
        "key_texts",
        _number(),
        *_text("owner"),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        *_text("pepper", "last4"),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
    )
    op.create_index("key_texts_digest", "key_texts", ["digest"], unique=True)
    op.create_index("key_texts_owner", "key_texts", ["owner"])
    op.create_table(
        "audit",
        _number(),
        sa.Column("at", sa.Double, nullable=False),
        *_text("actor", "actor_name", "action", "target", "before", "after", "request_id"),
    )
    # What has been written there stays, whoever asks.
    if op.get_context().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit "
                "BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END"
            )
    else:
        op.execute(
            "CREATE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the audit log only grows'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_only_grows BEFORE UPDATE OR DELETE ON audit "
            "FOR EACH ROW EXECUTE FUNCTION audit_only_grows()"
        )
