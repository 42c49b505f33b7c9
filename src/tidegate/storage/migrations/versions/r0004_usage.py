"""The ledger in columns, and its sums by the hour. Nothing was written to the ledger before. Claims of a process are found
without a look at all of them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_Key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _whole(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger, nullable=False)


def _small(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.SmallInteger, nullable=False)


def _integer(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.Integer, nullable=False)


def _text(name: str) -> "sa.Column[str]":
    return sa.Column(name, sa.Text, nullable=False)


def _real(name: str) -> "sa.Column[float]":
    return sa.Column(name, sa.Double, nullable=False)


def upgrade() -> None:
    op.drop_index("ledger_request", "ledger")
    op.drop_table("ledger")
    op.create_table(
        "ledger",
        sa.Column("number", _Key, primary_key=True, autoincrement=False),
        _whole("tenant"),
        _text("key"),
        _text("key_id"),
        _text("end_user"),
        _text("model"),
        _text("provider"),
        _text("deployment"),
        _text("endpoint"),
        _small("stream"),
        _integer("status"),
        _text("ending"),
        _text("error"),
        _integer("attempts"),
        _text("response_id"),
        _real("admitted_at"),
        sa.Column("settled_at", sa.Double),
        _real("duration_ms"),
        sa.Column("first_event_ms", sa.Double),
        _whole("input_tokens"),
        _whole("cached_tokens"),
        _whole("cache_write_tokens"),
        _whole("output_tokens"),
        _whole("reasoning_tokens"),
        _real("audio_seconds"),
        _whole("characters"),
        _small("estimated"),
        sa.Column("cost_nano", sa.BigInteger),
        sa.Column("detail", sa.LargeBinary, nullable=False),
    )
    where = sa.text("settled_at IS NULL")
    op.create_index("ledger_open", "ledger", ["number"], sqlite_where=where, postgresql_where=where)
    op.create_index("ledger_time", "ledger", ["admitted_at", "number"])
    op.create_table(
        "usage_hours",
        sa.Column("hour", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("tenant", sa.BigInteger, primary_key=True, autoincrement=False),
        *(
            sa.Column(name, sa.Text, primary_key=True)
            for name in ("key_id", "end_user", "model", "deployment", "endpoint", "ending")
        ),
        _text("key"),
        _text("provider"),
        _whole("requests"),
        _whole("attempts"),
        _whole("estimated"),
        _whole("unpriced"),
        _whole("input_tokens"),
        _whole("cached_tokens"),
        _whole("cache_write_tokens"),
        _whole("output_tokens"),
        _whole("reasoning_tokens"),
        _real("audio_seconds"),
        _whole("characters"),
        _real("duration_ms"),
        _whole("cost_nano"),
    )
    where = sa.text("status IS NULL")
    op.create_index("idempotency_open", "idempotency", ["owner"], sqlite_where=where, postgresql_where=where)
