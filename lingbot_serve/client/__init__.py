"""The Python client: two thin shells, `sync` and `aio`, around flows that both share."""
