"""What of other APIs stands among the items of a conversation, which this gateway put there when it translated an answer.

A provider of this API knows neither such items nor such members, and answers 400 to both.
"""

from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from tidegate.dialects.websearch import CALL
from tidegate.wire import jsonio

__all__ = ["is_foreign_search", "is_foreign_type", "may_be_foreign", "own_items"]

_TYPES: Final = ("anthropic:", "google:")
_CARRIERS: Final = frozenset({"anthropic_blocks", "google_parts"})


class _Type(msgspec.Struct):
    type: str | None = None


_type = jsonio.decoder(_Type)


def is_foreign_type(kind: str) -> bool:
    """Whether items of this type hold what only another API has."""
    return kind.startswith(_TYPES)


def is_foreign_search(kind: str, item: jsonio.Members) -> bool:
    """Whether the item is a search of the web that another API's provider has made."""
    return kind == CALL and not _CARRIERS.isdisjoint(item)


def may_be_foreign(kinds: AbstractSet[str | None]) -> bool:
    """Whether it is worth looking at items of these types."""
    return any(kind is not None and (kind == CALL or kind.startswith(_TYPES)) for kind in kinds)


def own_items(value: msgspec.Raw) -> tuple[msgspec.Raw, bool, list[str]]:
    """The input without such items; whether there were searches among them, and the types of others."""
    kept: list[msgspec.Raw] = []
    searches = False
    others: list[str] = []
    for item in jsonio.elements(value):
        kind = jsonio.decode(item, _type).type or ""
        if is_foreign_type(kind):
            others.append(kind)
        elif kind == CALL and is_foreign_search(kind, jsonio.members(item)):
            searches = True
        else:
            kept.append(item)
    return jsonio.raw(kept), searches, others
