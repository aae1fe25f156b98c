"""Holds the rendered overlays against schemas, operators' rules and each other.

Run it as `make k8s-validate` or `python -m k8s.validate`.
"""
