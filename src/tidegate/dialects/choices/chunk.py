"""A chunk of a stream of choices, as far as a relay asks for it."""

from typing import Annotated, Any, Literal

import msgspec

from tidegate.dialects.usage import UsageObject, read_usage_object
from tidegate.wire import jsonio
from tidegate.wire.errors import WireError

__all__ = [
    "CHOICE_LIMIT",
    "Choice",
    "Chunk",
    "Kind",
    "ToolCall",
    "decode_chunk",
    "decode_text",
    "members_of",
    "read_loosely",
]

Kind = Literal["chat.completion.chunk", "text_completion"]
"""The `object` of a chunk."""

CHOICE_LIMIT = 4096
"""More choices than any request can ask for: 128 for each prompt of a list that any engine takes."""


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class ToolCall(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    custom: _Function | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None


class Choice(msgspec.Struct, gc=False):
    index: int | None = None
    finish_reason: str | None = None
    delta: _Delta | None = None
    text: str | None = None


class Chunk(msgspec.Struct, gc=False):
    """All that a forwarded frame is asked for: whether it is whole, what it says of the end, how much it holds."""

    id: str | None = None
    object: str | None = None
    created: int | None = None
    model: str | None = None
    choices: list[Choice] | None = None
    usage: UsageObject | None = None
    error: msgspec.Raw = jsonio.EMPTY


decode_chunk = jsonio.decoder(Chunk).decode
"""The common case. Raises as msgspec does: what it cannot read goes to :func:`read_loosely`."""


class _TextDelta(msgspec.Struct, gc=False):
    content: str
    reasoning_content: None = None
    reasoning: None = None
    refusal: None = None
    tool_calls: None = None


class _TextChoice(msgspec.Struct, gc=False):
    index: Literal[0]
    delta: _TextDelta
    finish_reason: None = None


class _TextChunk(msgspec.Struct, gc=False):
    """A whole chunk that goes on with the text of the only choice, and says nothing else that a relay asks for."""

    id: str
    object: str
    created: int
    model: str
    choices: Annotated[list[_TextChoice], msgspec.Meta(min_length=1, max_length=1)]
    usage: None = None
    error: None = None


decode_text = jsonio.decoder(_TextChunk).decode
"""Nearly every chunk. Raises as msgspec does for those that say more, or less."""

_usage_object = jsonio.decoder(UsageObject)


def members_of(data: bytes) -> jsonio.Members:
    """The members of a chunk. Raises WireError."""
    try:
        return jsonio.members(data)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        raise WireError(f"a chunk of the stream cannot be read: {error}") from None


def read_loosely(data: bytes) -> Chunk:
    """A chunk with members of types that no schema has. Raises WireError for what is no chunk at all."""
    content = members_of(data)
    try:
        whole = jsonio.anything(data)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        raise WireError(f"a chunk of the stream cannot be read: {error}") from None
    choices = whole.get("choices")
    if choices is not None and not (isinstance(choices, list) and all(isinstance(one, dict) for one in choices)):
        raise WireError("a chunk of the stream cannot be read: 'choices' is not an array of objects")
    found = Chunk(error=content.get("error", jsonio.EMPTY))
    for name in ("id", "object"):
        setattr(found, name, whole[name] if isinstance(whole.get(name), str) else None)
    if isinstance(whole.get("usage"), dict):
        usage = read_usage_object(content["usage"])
        found.usage = None if usage is None else jsonio.decode(usage.as_chat(), _usage_object)
    if choices is not None:
        found.choices = [_loose_choice(place, choice) for place, choice in enumerate(choices)]
    return found


def _loose_choice(place: int, choice: dict[str, Any]) -> Choice:
    index = choice.get("index")
    reason = choice.get("finish_reason")
    delta = choice.get("delta")
    text = choice.get("text")
    found = Choice(
        index=index if isinstance(index, int) and not isinstance(index, bool) and index >= 0 else place,
        finish_reason=reason if isinstance(reason, str) else None,
        text=text if isinstance(text, str) else None,
    )
    if isinstance(delta, dict):
        said = delta.get("content")
        found.delta = _Delta(content=said if isinstance(said, str) else jsonio.encode(said).decode() if said else None)
    return found
