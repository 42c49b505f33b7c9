"""Journals of answers, live fan-out, and picking a stream up again."""
