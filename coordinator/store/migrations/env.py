"""Run by Alembic with the connection, and inside the transaction, that `migrate.py` opened."""

from alembic import context

from coordinator.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
