"""Framing and vocabulary. Pure: no I/O, no clock."""
