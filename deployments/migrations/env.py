"""Alembic runs this file for every command; the connection comes from `deployments.database`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
