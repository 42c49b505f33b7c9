"""The audit log only grows, also where a statement goes round the triggers that there were: `INSERT OR REPLACE` of SQLite,
which removes rows without a word to them, and `TRUNCATE` and a session that replicates, of PostgreSQL."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit "
            "WHEN EXISTS (SELECT 1 FROM audit WHERE number = NEW.number) "
            "BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END"
        )
        return
    op.execute(
        "CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_only_grows()"
    )
    for trigger in ("audit_only_grows", "audit_no_truncate"):
        op.execute(f"ALTER TABLE audit ENABLE ALWAYS TRIGGER {trigger}")
