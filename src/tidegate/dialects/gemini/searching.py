"""Google's search of the web as the item that the Responses API has for it, and back.

A model that may also call functions shows each search as two parts, `toolCall` and `toolResponse`, and wants them back. Any
other tells its queries and sources in `groundingMetadata`, once.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from tidegate.wire import jsonio

__all__ = ["call_of", "grounded_search", "is_search_part", "queries_of", "response_to", "search_item", "search_parts"]


class _Invocation(msgspec.Struct, rename="camel"):
    id: str = ""
    tool_type: str = ""
    args: msgspec.Raw = jsonio.EMPTY


class _Args(msgspec.Struct):
    queries: list[str] = []
    query: str = ""


class _Source(msgspec.Struct):
    uri: str = ""


class _Chunk(msgspec.Struct):
    web: _Source | None = None


class _Grounding(msgspec.Struct, rename="camel"):
    web_search_queries: list[str] = []
    grounding_chunks: list[_Chunk] = []


class _Action(msgspec.Struct):
    query: str | None = None
    queries: list[str] | None = None


class _Item(msgspec.Struct):
    google_parts: list[jsonio.Members] | None = None
    action: _Action | None = None


_invocation = jsonio.decoder(_Invocation)
_args = jsonio.decoder(_Args)
_grounding = jsonio.decoder(_Grounding)
_item = jsonio.decoder(_Item)


def call_of(part: jsonio.Members) -> str | None:
    """The id of the search that a part begins; None for any other part."""
    return _id_of(part.get("toolCall"))


def response_to(part: jsonio.Members) -> str | None:
    """The id of the search that a part answers."""
    return _id_of(part.get("toolResponse"))


def is_search_part(part: jsonio.Members) -> bool:
    return call_of(part) is not None or response_to(part) is not None


def _id_of(value: msgspec.Raw | None) -> str | None:
    if value is None:
        return None
    try:
        found = _invocation.decode(value)
    except jsonio.UNREADABLE:
        return None
    return found.id if found.tool_type.upper().startswith("GOOGLE_SEARCH") else None


def search_item(own: str, parts: list[jsonio.Members]) -> msgspec.Raw:
    """The item of one search, which carries its parts as they were."""
    queries: list[str] = []
    for part in parts:
        if "toolCall" in part:
            try:
                asked = _args.decode(_invocation.decode(part["toolCall"]).args or b"{}")
            except jsonio.UNREADABLE:
                continue
            queries += asked.queries or ([asked.query] if asked.query else [])
    return _made(own, queries, google_parts=parts)


def search_parts(item: msgspec.Raw) -> list[jsonio.Members] | None:
    """The parts in an item; None for one that came from elsewhere."""
    return _read(item).google_parts


def queries_of(item: msgspec.Raw) -> list[str]:
    """What was asked in a search of whatever provider."""
    action = _read(item).action or _Action()
    return action.queries or ([action.query] if action.query else [])


def grounded_search(grounding: msgspec.Raw, own: str) -> msgspec.Raw | None:
    """The searches of one answer as an item; None where there were none."""
    try:
        found = _grounding.decode(grounding) if grounding else _Grounding()
    except jsonio.UNREADABLE:
        return None
    if not found.web_search_queries:
        return None
    sources = dict.fromkeys(chunk.web.uri for chunk in found.grounding_chunks if chunk.web and chunk.web.uri)
    made = hashlib.sha256(f"{own}:".encode() + bytes(grounding)).hexdigest()[:48]
    return _made(made, found.web_search_queries, sources)


def _made(own: str, queries: list[str], sources: Iterable[str] = (), **members: Any) -> msgspec.Raw:
    action: dict[str, Any] = {"type": "search", "query": queries[0] if queries else "", "queries": queries}
    if urls := [{"type": "url", "url": url} for url in sources]:
        action["sources"] = urls
    return jsonio.raw(
        {"type": "web_search_call", "id": f"ws_{own}", "status": "completed", "action": action, **members}
    )


def _read(item: msgspec.Raw) -> _Item:
    try:
        return _item.decode(item)
    except jsonio.UNREADABLE:
        return _Item()
