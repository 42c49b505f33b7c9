"""`reasoning_details`: reasoning as OpenRouter and its like pass it on, in entries that may come in pieces.

A piece has the `type` and `index` of the entry that it goes on with. Text, summary and data grow; of every other member
the last value counts. What comes back to the provider are the whole entries in their order.
"""

from collections.abc import Iterable
from typing import Any

__all__ = ["merged_details"]

_GROWING = ("text", "summary", "data")


def merged_details(pieces: Iterable[Any]) -> list[Any]:
    """The entries whose pieces came in this order. Entries without an index are whole."""
    entries: list[Any] = []
    places: dict[tuple[Any, int], dict[str, Any]] = {}
    for piece in pieces:
        if not isinstance(piece, dict):
            continue
        index = piece.get("index")
        key = (str(piece.get("type")), index) if isinstance(index, int) else None
        entry = places.get(key) if key is not None else None
        if entry is None:
            entry = dict(piece)
            entries.append(entry)
            if key is not None:
                places[key] = entry
            continue
        for name, value in piece.items():
            before = entry.get(name)
            if name in _GROWING and isinstance(value, str) and isinstance(before, str):
                entry[name] = before + value
            elif value is not None:
                entry[name] = value
    return entries
