"""Run by Alembic: writes the SQL of migrations into the buffer that the caller gave. It connects to nothing."""

from alembic import context

context.configure(
    dialect_name=context.config.attributes["dialect"],
    output_buffer=context.config.output_buffer,
    literal_binds=True,
    transactional_ddl=False,  # the transaction is the caller's, and holds the lock
)
context.run_migrations()
