"""The bodies of `/v1/conversations` (protocol §1.1)."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tidegate.dialects.responses.prompt import InputItem, check_item
from tidegate.dialects.responses.request import Metadata
from tidegate.dialects.responses.state import NewId, is_reference, kept_items
from tidegate.dialects.validation import invalid, missing, parse
from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest

__all__ = [
    "ConversationBody",
    "ConversationObject",
    "ItemsBody",
    "conversation_object",
    "parse_conversation",
    "parse_items",
    "parse_metadata",
    "repeated_item",
]

Items = Annotated[list[InputItem], Meta(max_length=20)]


class ConversationBody(msgspec.Struct):
    """What creates a conversation."""

    items: Items | None = None
    metadata: Metadata | None = None


class ConversationObject(msgspec.Struct):
    """A conversation as clients see it."""

    id: str
    object: Literal["conversation"]
    created_at: int
    metadata: Annotated[
        msgspec.Raw, Meta(extra_json_schema={"type": "object", "additionalProperties": {"type": "string"}})
    ]


class ItemsBody(msgspec.Struct):
    """What adds to one."""

    items: Annotated[list[InputItem], Meta(min_length=1, max_length=20)]


class MetadataBody(msgspec.Struct):
    """What changes one."""

    metadata: Metadata


_conversation = jsonio.decoder(ConversationBody)
_items = jsonio.decoder(ItemsBody)
_metadata = jsonio.decoder(MetadataBody)


def parse_conversation(body: bytes, new_id: NewId) -> tuple[list[tuple[str, bytes]], bytes]:
    """The first items, id and JSON of each, and the metadata as JSON. Nothing has to be given. Raises InvalidRequest."""
    if not body.strip():
        return [], b"{}"
    typed = parse(body, _conversation, {})
    found = _kept(body, typed.items, new_id) if typed.items else []
    return found, jsonio.encode(typed.metadata or {})


def parse_items(body: bytes, new_id: NewId) -> list[tuple[str, bytes]]:
    """The items to be added, id and JSON of each. Raises InvalidRequest."""
    return _kept(body, parse(body, _items, {}).items, new_id)


def parse_metadata(body: bytes) -> bytes:
    """The new metadata as JSON. Raises InvalidRequest."""
    return jsonio.encode(parse(body, _metadata, {}).metadata)


def conversation_object(name: str, created_at: float, metadata: bytes) -> ConversationObject:
    """A conversation as clients see it."""
    return ConversationObject(name, "conversation", int(created_at), msgspec.Raw(metadata))


def repeated_item(name: str, param: str) -> InvalidRequest:
    """An id names one item of a conversation: else nobody could go on behind it, page by page."""
    return invalid(
        param, f"the conversation has an item with id '{name}' already; leave the id out, and it gets a new one."
    )


def _kept(body: bytes, items: list[InputItem], new_id: NewId) -> list[tuple[str, bytes]]:
    names: set[str] = set()
    for place, item in enumerate(items):
        if item.id is not None and item.id in names:
            raise repeated_item(item.id, f"items[{place}].id")
        names.add(item.id or "")
        if item.type is None and item.role is None and item.id is None:
            raise missing(f"items[{place}].type")
        if is_reference(item):
            raise invalid(f"items[{place}]", "a conversation takes items, and no references to others.")
        check_item(item, f"items[{place}]")
    return kept_items(jsonio.members(body)["items"], items, new_id)
