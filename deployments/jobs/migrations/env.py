"""Alembic runs this file for every command, on the connection of `deployments.jobs.database`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
