"""A completed response in which nothing is odd."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec

from tidegate.wire import jsonio

__all__ = ["NEVER_NULL", "PlainResponse", "decode_items", "decode_response", "decode_response_alone", "decode_usage"]

_Count = Annotated[int, msgspec.Meta(ge=0)]


class _PlainPart(msgspec.Struct, gc=False):
    type: str
    annotations: list[msgspec.Raw] | None = None


class _PlainItem(msgspec.Struct, gc=False):
    type: str
    id: str
    status: str | None = None
    content: list[_PlainPart] | None = None
    encrypted_content: str | None = None


class _PlainInputDetails(msgspec.Struct, gc=False):
    cached_tokens: _Count
    cache_write_tokens: _Count = 0
    audio_tokens: _Count = 0
    image_tokens: _Count = 0


class _PlainOutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: _Count
    audio_tokens: _Count = 0
    image_tokens: _Count = 0


class _PlainUsage(msgspec.Struct, gc=False):
    input_tokens: _Count
    output_tokens: _Count
    total_tokens: _Count
    input_tokens_details: _PlainInputDetails
    output_tokens_details: _PlainOutputDetails


class _PlainReasoning(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    effort: str | None
    summary: str | None
    generate_summary: str | msgspec.UnsetType | None = msgspec.UNSET


class _PlainText(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    format: jsonio.Members
    verbosity: str | msgspec.UnsetType | None = msgspec.UNSET


_Number = int | float | msgspec.UnsetType


class PlainResponse(msgspec.Struct, kw_only=True, gc=False):
    """A completed answer in which nothing is odd: it decodes as this, which costs a fifth of looking for faults, and
    encodes again when the envelope's members are ours.

    Members may be absent; those that are there have the documented type, but for those that are ours anyway. Null and
    absent are one where null is documented; elsewhere absent is unset.
    """

    id: Any = None
    object: Any = None
    created_at: Any = None
    status: Literal["completed"]
    background: bool = False
    completed_at: Any = None
    error: None = None
    incomplete_details: None = None
    instructions: str | list[msgspec.Raw] | None = None
    max_output_tokens: int | float | None = None
    max_tool_calls: int | float | None = None
    model: str
    output: msgspec.Raw
    parallel_tool_calls: bool | msgspec.UnsetType = msgspec.UNSET
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    reasoning: _PlainReasoning | msgspec.UnsetType = msgspec.UNSET
    safety_identifier: str | None = None
    service_tier: str = "default"
    store: Any = None
    temperature: _Number = msgspec.UNSET
    text: _PlainText | msgspec.UnsetType = msgspec.UNSET
    tool_choice: str | jsonio.Members | msgspec.UnsetType = msgspec.UNSET
    tools: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    top_logprobs: _Number = msgspec.UNSET
    top_p: _Number = msgspec.UNSET
    truncation: str | msgspec.UnsetType = msgspec.UNSET
    frequency_penalty: _Number = msgspec.UNSET
    presence_penalty: _Number = msgspec.UNSET
    usage: msgspec.Raw
    user: str | None = None
    metadata: jsonio.Members | msgspec.UnsetType = msgspec.UNSET


class _PlainAlone(PlainResponse, kw_only=True, gc=False, forbid_unknown_fields=True):
    """The same without any member that is not documented."""


NEVER_NULL = tuple(field.name for field in msgspec.structs.fields(PlainResponse) if field.default is msgspec.UNSET)
"""Members that have a default where the upstream has none: they are never null."""

decode_response = jsonio.decoder(PlainResponse).decode
decode_response_alone: Callable[[bytes], PlainResponse] = jsonio.decoder(_PlainAlone).decode
"""For a response that has no member beside the documented ones."""

decode_items = jsonio.decoder(list[_PlainItem]).decode
decode_usage = jsonio.decoder(_PlainUsage).decode
