"""The usage ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ledger",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("tenant", sa.BigInteger, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("admitted_at", sa.Double, nullable=False),
        sa.Column("settled_at", sa.Double),
        sa.Column("entry", sa.LargeBinary, nullable=False),
    )
    op.create_index("ledger_request", "ledger", ["request_id"], unique=True)
