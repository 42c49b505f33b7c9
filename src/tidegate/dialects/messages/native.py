"""Blocks of Anthropic's API on their way through another one: an item of the Responses form carries them as they were."""

from typing import Any

import msgspec

from tidegate.dialects.codec import json_object_or_none
from tidegate.wire import jsonio
from tidegate.wire.items import FunctionCall

__all__ = ["carrying", "input_of", "native_blocks", "search_item"]


class _Carrier(msgspec.Struct):
    anthropic_blocks: list[msgspec.Raw] | None = None


_carrier = jsonio.decoder(_Carrier)


def carrying(kind: str, own: str, blocks: list[msgspec.Raw], status: str = "completed", **members: Any) -> msgspec.Raw:
    """An item of the type `kind`, from which `native_blocks` gives `blocks` again. `own` is their id."""
    prefix = "ws_" if kind == "web_search_call" else "at_"
    return jsonio.raw({"type": kind, "id": prefix + own, "status": status, **members, "anthropic_blocks": blocks})


def native_blocks(item: msgspec.Raw) -> list[msgspec.Raw] | None:
    """The blocks in an item; None for one that came from elsewhere."""
    try:
        return jsonio.decode(item, _carrier).anthropic_blocks
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return None


class _Query(msgspec.Struct):
    query: str | None = None


class _Use(msgspec.Struct):
    input: _Query


class _Found(msgspec.Struct):
    url: str | None = None


class _Result(msgspec.Struct):
    content: list[_Found]


_use = jsonio.decoder(_Use)
_result = jsonio.decoder(_Result)


def search_item(own: str, use: msgspec.Raw, result: msgspec.Raw | None) -> msgspec.Raw:
    """A search of the web: the block that asks for it, whose id is `own`, and the one with what was found, if it came."""
    action: dict[str, Any] = {"type": "search", "query": ""}
    status = "completed"
    try:
        action["query"] = jsonio.decode(use, _use).input.query or ""
        if result is not None:
            found = jsonio.decode(result, _result).content
            action["sources"] = [{"type": "url", "url": one.url} for one in found if one.url]
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        status = "failed"
    return carrying("web_search_call", own, [use] if result is None else [use, result], status, action=action)


def input_of(call: FunctionCall) -> Any:
    """The `input` of a call, which is an object here: free text stands under `input`, and what is no JSON object under
    `_raw` (protocol §5.1)."""
    if call.custom:
        return {"input": call.arguments}
    if not call.arguments.strip():
        return {}
    found = json_object_or_none(call.arguments)
    return {"_raw": call.arguments} if found is None else found
