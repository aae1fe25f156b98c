"""`python -m lingbot_serve`: the command line without an installed script."""

from lingbot_serve.cli import app

app(prog_name="lingbot-serve")
