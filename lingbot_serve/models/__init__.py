"""Weights on disk: pulled from a hub, checked, listed."""
