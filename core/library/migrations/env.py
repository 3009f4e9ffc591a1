"""Alembic environment: migrates over the connection that ``core.library.schema`` hands in.

For development, ``alembic -x`` isn't used: revisions are made with ``alembic.command.revision`` against a
connection of the same kind, then read and edited by hand.
"""

from __future__ import annotations

from alembic import context

from core.library.tables import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    # SQLite can roll back DDL once BEGIN is explicit, which core.library.database makes it.
    transactional_ddl=True,
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
