"""What is kept, as the API describes it: the answers of the routes below `/v1/responses/{id}`, `/v1/streams` and
`/v1/conversations` (protocol §1.1), and their table."""

from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from tidegate.dialects.responses.conversations import ConversationBody, ConversationObject, ItemsBody, MetadataBody
from tidegate.dialects.responses.includes import INCLUDES
from tidegate.wire import errors

__all__ = [
    "KEPT",
    "QUERY",
    "ConversationDeleted",
    "ItemList",
    "ItemObject",
    "Kept",
    "ResponseDeleted",
    "ResponseObject",
    "StreamDeleted",
]

_ITEM: Final = {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}}


class ResponseObject(msgspec.Struct):
    """A response as it stands. Only what every one has is named here; a request's own parameters are repeated in it."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "failed", "in_progress", "incomplete", "queued", "cancelled"]
    model: str
    output: list[dict[str, Any]]
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
    usage: dict[str, Any] | None
    previous_response_id: str | None
    store: bool
    background: bool


class ResponseDeleted(msgspec.Struct):
    """A response that is gone."""

    id: str
    object: Literal["response"]
    deleted: bool


class StreamDeleted(msgspec.Struct):
    """A stream that is gone."""

    id: str
    object: Literal["stream"]
    deleted: bool


class ConversationDeleted(msgspec.Struct):
    """A conversation that is gone."""

    id: str
    object: Literal["conversation.deleted"]
    deleted: bool


class ItemObject(msgspec.Struct):
    """An item of a conversation, of any type."""

    id: str
    type: str


class ItemList(msgspec.Struct):
    """A page of items, or those that were added."""

    object: Literal["list"]
    data: Annotated[list[msgspec.Raw], msgspec.Meta(extra_json_schema={"items": _ITEM})]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Kept(NamedTuple):
    """An operation, as its description has it."""

    method: str
    path: str
    summary: str
    answer: type[Any] | None
    """None: a stream in the dialect that it was begun in, of events or as Gemini's array."""
    query: tuple[str, ...] = ()
    body: type[Any] | None = None
    body_required: bool = True
    streams: bool = False
    """Whether the answer may be a stream of events."""
    stores: bool = False

    @property
    def refusals(self) -> tuple[type[errors.TidegateError], ...]:
        """What may be answered instead."""
        return (
            errors.InvalidRequest,
            errors.InvalidKey,
            errors.Forbidden,
            errors.NotFound,
            *((errors.BodyTooLarge, errors.UnsupportedEncoding) if self.body is not None else ()),
            errors.TooManyFailures,
            *((errors.StorageQuotaExceeded,) if self.stores else ()),
            errors.StorageUnavailable,
        )


_PAGE = ("after", "limit", "order", "include[]")
_RESPONSE, _STREAM, _CONVERSATION = "/v1/responses/{id}", "/v1/streams/{id}", "/v1/conversations/{id}"
_ITEMS, _ONE_ITEM = f"{_CONVERSATION}/items", f"{_CONVERSATION}/items/{{item_id}}"

KEPT: Final = (
    Kept(
        "get",
        _RESPONSE,
        "Read a stored response, or its events",
        ResponseObject,
        ("stream", "starting_after", "include[]"),
        streams=True,
    ),
    Kept("delete", _RESPONSE, "Delete a stored response", ResponseDeleted),
    Kept("post", f"{_RESPONSE}/cancel", "Cancel a response that runs in the background", ResponseObject),
    Kept("get", f"{_RESPONSE}/input_items", "List what a response was asked with", ItemList, _PAGE),
    Kept("get", _STREAM, "Pick a stream up again, in its own dialect", None, ("starting_after",), streams=True),
    Kept("delete", _STREAM, "Delete a stream that is kept", StreamDeleted),
    Kept(
        "post",
        "/v1/conversations",
        "Create a conversation",
        ConversationObject,
        body=ConversationBody,
        body_required=False,
        stores=True,
    ),
    Kept("get", _CONVERSATION, "Read a conversation", ConversationObject),
    Kept(
        "post",
        _CONVERSATION,
        "Replace the metadata of a conversation",
        ConversationObject,
        body=MetadataBody,
        stores=True,
    ),
    Kept("delete", _CONVERSATION, "Delete a conversation with its items", ConversationDeleted),
    Kept("post", _ITEMS, "Add items to a conversation", ItemList, ("include[]",), body=ItemsBody, stores=True),
    Kept("get", _ITEMS, "List the items of a conversation", ItemList, _PAGE),
    Kept("get", _ONE_ITEM, "Read one item of a conversation", ItemObject, ("include[]",)),
    Kept("delete", _ONE_ITEM, "Delete one item of a conversation", ConversationObject),
)

QUERY: Final[dict[str, dict[str, Any]]] = {
    "stream": {"type": "boolean", "default": False},
    "starting_after": {"type": "integer", "minimum": 0},
    "after": {"type": "string"},
    "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    "order": {"type": "string", "enum": ["asc", "desc"], "default": "desc"},
    "include[]": {"type": "array", "items": {"type": "string", "enum": sorted(INCLUDES)}},
}
"""The schemas of their parameters."""
