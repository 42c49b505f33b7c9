"""Runs, items, journal, conversations, idempotency records."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_Key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _key() -> "sa.Column[int]":
    return sa.Column("number", _Key, primary_key=True)


def _whole(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger, nullable=False)


def _flag(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.SmallInteger, nullable=False)


def _text(name: str) -> "sa.Column[str]":
    return sa.Column(name, sa.Text, nullable=False)


def _time(name: str, *, nullable: bool = False) -> "sa.Column[float]":
    return sa.Column(name, sa.Double, nullable=nullable)


def _content(name: str) -> "sa.Column[bytes]":
    return sa.Column(name, sa.LargeBinary, nullable=False)


def _index(name: str, table: str, columns: list[str], *, unique: bool = False, only: str | None = None) -> None:
    where = None if only is None else sa.text(only)
    op.create_index(name, table, columns, unique=unique, sqlite_where=where, postgresql_where=where)


def upgrade() -> None:
    op.create_table(
        "tenants",
        _key(),
        _text("organization"),
        _text("project"),
        sa.UniqueConstraint("organization", "project", name="tenants_names"),
    )
    op.create_table(
        "stored",
        sa.Column("tenant", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("key", sa.Text, primary_key=True),
        _whole("bytes"),
        _whole("runs"),
    )
    op.create_table(
        "processes", _key(), _text("name"), _time("lease_until"), _whole("batch"), sqlite_autoincrement=True
    )
    op.create_table("counters", sa.Column("name", sa.Text, primary_key=True), _whole("next"))
    op.execute("INSERT INTO counters (name, next) VALUES ('run', 1)")
    op.create_table("data_keys", _key(), _text("master"), _content("wrapped"), _time("created_at"))
    op.create_table(
        "runs",
        sa.Column("number", _Key, primary_key=True, autoincrement=False),
        _text("id"),
        _whole("tenant"),
        _text("key"),
        _text("dialect"),
        _text("model"),
        _text("deployment"),
        _text("status"),
        _flag("background"),
        _flag("stream"),
        _time("created_at"),
        _time("completed_at", nullable=True),
        _time("expires_at", nullable=True),
        _whole("owner"),
        _flag("cancel_requested"),
        sa.Column("previous", sa.BigInteger),
        _text("previous_id"),
        sa.Column("conversation", sa.BigInteger),
        _text("conversation_id"),
        _text("error_code"),
        sa.Column("last_sequence", sa.BigInteger),
        _whole("bytes"),
        _whole("sealed"),
        _content("usage"),
        _content("request"),
        _content("answer"),
        _content("error"),
    )
    _index("runs_id", "runs", ["id"], unique=True)
    _index("runs_live", "runs", ["owner", "cancel_requested"], only="completed_at IS NULL")
    _index("runs_previous", "runs", ["previous"], only="previous IS NOT NULL")
    _index("runs_expiry", "runs", ["expires_at"], only="expires_at IS NOT NULL")
    op.create_table(
        "items",
        _key(),
        _whole("run"),
        _whole("tenant"),
        sa.Column("position", sa.Integer, nullable=False),
        _flag("output"),
        _text("id"),
        _whole("sealed"),
        _content("content"),
    )
    _index("items_run", "items", ["run", "position"], unique=True)
    _index("items_id", "items", ["tenant", "id"])
    op.create_table(
        "segments", _key(), _whole("run"), _whole("first"), _whole("last"), _whole("sealed"), _content("frames")
    )
    _index("segments_run", "segments", ["run", "last"])
    op.create_table(
        "conversations",
        _key(),
        _text("id"),
        _whole("tenant"),
        _text("key"),
        _time("created_at"),
        _whole("next_position"),
        _whole("bytes"),
        _whole("sealed"),
        _content("metadata"),
        sqlite_autoincrement=True,
    )
    _index("conversations_id", "conversations", ["id"], unique=True)
    op.create_table(
        "conversation_items",
        _key(),
        _whole("conversation"),
        _whole("tenant"),
        _whole("position"),
        _text("id"),
        _whole("sealed"),
        _content("content"),
    )
    _index("conversation_items_place", "conversation_items", ["conversation", "position"], unique=True)
    _index("conversation_items_id", "conversation_items", ["tenant", "id"])
    op.create_table(
        "idempotency",
        _key(),
        _whole("tenant"),
        _text("name"),
        _content("digest"),
        _text("run_id"),
        _whole("owner"),
        _time("expires_at"),
        sa.Column("status", sa.Integer),
        _whole("sealed"),
        _content("answer"),
    )
    _index("idempotency_name", "idempotency", ["tenant", "name"], unique=True)
    _index("idempotency_run", "idempotency", ["run_id"])
    _index("idempotency_expiry", "idempotency", ["expires_at"])
    op.create_table(
        "doomed",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("owner", sa.BigInteger),
    )
