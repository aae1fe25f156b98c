"""Revisions of the jobs' tables, applied when a gateway starts."""
