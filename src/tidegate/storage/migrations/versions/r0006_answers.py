"""What answers that are kept for an idempotency key take counts for the virtual key that asked. Those that are there already
go within a day, and count for nobody."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("idempotency", sa.Column("key", sa.Text, nullable=False, server_default=sa.text("''")))
    op.add_column("idempotency", sa.Column("bytes", sa.BigInteger, nullable=False, server_default=sa.text("0")))
