"""A completed response in which nothing is odd."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec

from tidegate.dialects.usage import MOST_TOKENS
from tidegate.wire import jsonio

__all__ = [
    "DEFAULTS",
    "MEMBERS",
    "PlainResponse",
    "decode_items",
    "decode_response",
    "decode_response_alone",
    "decode_usage",
]

_DOCUMENTED: dict[str, Any] = {
    "id": None,
    "object": "response",
    "created_at": None,
    "status": "in_progress",
    "background": False,
    "completed_at": None,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "model": None,
    "output": [],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": False,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "usage": None,
    "user": None,
    "metadata": {},
}
DEFAULTS: jsonio.Members = {name: jsonio.raw(value) for name, value in _DOCUMENTED.items()}
"""A response object with every documented member at its documented default (protocol §1.3)."""


def _default(name: str) -> Any:
    return DEFAULTS[name]


_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]


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


_Number = int | float
_Told = jsonio.Members | msgspec.UnsetType | None


class PlainResponse(msgspec.Struct, kw_only=True, gc=False):
    """A completed answer in which nothing is odd: it decodes as this, which costs a fifth of looking for faults, and
    encodes again when the envelope's members are ours.

    Members may be absent; those that are there have the documented type, but for those that are ours anyway. Null and
    absent are one where null is documented; elsewhere what is absent is the very object of `DEFAULTS`.
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
    parallel_tool_calls: bool = _default("parallel_tool_calls")
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    reasoning: _PlainReasoning = _default("reasoning")
    safety_identifier: str | None = None
    service_tier: str = "default"
    store: Any = None
    temperature: _Number = _default("temperature")
    text: _PlainText = _default("text")
    tool_choice: str | jsonio.Members = _default("tool_choice")
    tools: list[msgspec.Raw] = _default("tools")
    top_logprobs: _Number = _default("top_logprobs")
    top_p: _Number = _default("top_p")
    truncation: str = _default("truncation")
    frequency_penalty: _Number = _default("frequency_penalty")
    presence_penalty: _Number = _default("presence_penalty")
    usage: msgspec.Raw
    user: str | None = None
    metadata: jsonio.Members = _default("metadata")
    # What follows has no default: it is told where the upstream tells it.
    billing: _Told = msgspec.UNSET
    moderation: _Told = msgspec.UNSET
    prompt_cache_options: _Told = msgspec.UNSET
    prompt_cache_retention: str | msgspec.UnsetType | None = msgspec.UNSET
    tool_usage: _Told = msgspec.UNSET


class _PlainAlone(PlainResponse, kw_only=True, gc=False, forbid_unknown_fields=True):
    """The same without any other member."""


MEMBERS = frozenset(PlainResponse.__struct_fields__)


decode_response = jsonio.decoder(PlainResponse).decode
decode_response_alone: Callable[[bytes], PlainResponse] = jsonio.decoder(_PlainAlone).decode
"""For a response that has no member beside these."""

decode_items = jsonio.decoder(list[_PlainItem]).decode
decode_usage = jsonio.decoder(_PlainUsage).decode
