"""Measures the gateway beside nginx. The method stands in README.md; `python -m bench` runs it."""
