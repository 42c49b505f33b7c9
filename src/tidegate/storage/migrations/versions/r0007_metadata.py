"""Conversations count with their metadata, which did not count before, and with the items that they have: one that two gateways
deleted at once was taken off twice."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SEAL_BYTES = 28
"""By which sealed content is longer than what it holds."""


def _plain(column: str) -> str:
    return f"length({column}) - CASE WHEN sealed <> 0 AND length({column}) > 0 THEN {SEAL_BYTES} ELSE 0 END"


def upgrade() -> None:
    size = f"""(
        {_plain("metadata")} + coalesce((
            SELECT sum({_plain("content")}) FROM conversation_items WHERE conversation = conversations.number
        ), 0)
    )"""
    op.execute(
        "INSERT INTO stored (tenant, key, bytes, runs) SELECT DISTINCT tenant, key, 0, 0 FROM conversations WHERE true "
        "ON CONFLICT (tenant, key) DO NOTHING"
    )
    op.execute(
        f"UPDATE stored SET bytes = bytes + coalesce((SELECT sum({size} - conversations.bytes) FROM conversations "
        "WHERE conversations.tenant = stored.tenant AND conversations.key = stored.key), 0)"
    )
    op.execute(f"UPDATE conversations SET bytes = {size}")
