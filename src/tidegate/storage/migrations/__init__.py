"""Alembic's environment. Migrations are rendered to SQL and run by `tidegate.storage.migrate`, under its lock."""
