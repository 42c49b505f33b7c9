"""A chunk of a chat stream, or a whole answer, as far as it is asked for."""

from collections.abc import Mapping
from typing import Any

import msgspec

from tidegate.dialects.choices.parts import read_parts
from tidegate.dialects.usage import Details, UsageObject, read_usage_object
from tidegate.wire import jsonio
from tidegate.wire.errors import WireError

__all__ = [
    "Chunk",
    "Delta",
    "FunctionPiece",
    "Logprobs",
    "ToolCallPiece",
    "annotation_of",
    "decode_chunk",
    "read_loosely",
]

_CITATIONS = frozenset({"file_citation", "container_file_citation", "file_path"})
"""Annotations of the Responses API (protocol §1.5) that some servers send as they are."""


class FunctionPiece(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class CustomPiece(msgspec.Struct, gc=False):
    name: str | None = None
    input: str | None = None


class ToolCallPiece(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: FunctionPiece | None = None
    custom: CustomPiece | None = None
    extra_content: msgspec.Raw = jsonio.EMPTY
    """Where Google's chat endpoint has the signature of a call (https://ai.google.dev/gemini-api/docs/thought-signatures)."""

    @property
    def signature(self) -> str:
        if not self.extra_content:
            return ""
        try:
            google = jsonio.decode(self.extra_content, _extra).google
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
            return ""
        return "" if google is None else google.thought_signature or ""


class _Google(msgspec.Struct):
    thought_signature: str | None = None


class _Extra(msgspec.Struct):
    google: _Google | None = None


_extra = jsonio.decoder(_Extra)


class Delta(msgspec.Struct, gc=False):
    """What is new in a chunk, or the whole message."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: msgspec.Raw = jsonio.EMPTY
    refusal: str | None = None
    tool_calls: list[ToolCallPiece] | None = None
    function_call: FunctionPiece | None = None
    annotations: msgspec.Raw = jsonio.EMPTY
    images: msgspec.Raw = jsonio.EMPTY


class Logprobs(msgspec.Struct, gc=False):
    content: list[msgspec.Raw] | None = None


class ChoicePiece(msgspec.Struct, gc=False):
    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    error: msgspec.Raw = jsonio.EMPTY
    stop_reason: Any = None
    """Where vLLM says which stop sequence matched; SGLang has it in `matched_stop`."""
    matched_stop: Any = None


class Chunk(msgspec.Struct, gc=False):
    id: str | None = None
    object: str | None = None
    model: str | None = None
    choices: list[ChoicePiece] | None = None
    usage: UsageObject | None = None
    error: msgspec.Raw = jsonio.EMPTY
    citations: msgspec.Raw = jsonio.EMPTY
    """Addresses that some servers that search give beside the choices, and again in every chunk."""


decode_chunk = jsonio.decoder(Chunk).decode
"""The common case. Raises as msgspec does: what it cannot read goes to :func:`read_loosely`."""


def annotation_of(given: Any) -> dict[str, Any] | None:
    """An annotation in the Responses form; None for what is none that clients know."""
    if not isinstance(given, dict):
        return None
    kind = given.get("type")
    if isinstance(kind, str) and kind in _CITATIONS:
        return {name: value for name, value in given.items() if name != "annotation_index"}
    nested = given.get("url_citation")
    cited: Mapping[str, Any] = nested if isinstance(nested, dict) else given
    if kind != "url_citation" or not isinstance(cited.get("url"), str):
        return None
    title = cited.get("title")
    return {
        "type": "url_citation",
        "start_index": _place(cited.get("start_index")),
        "end_index": _place(cited.get("end_index")),
        "url": cited["url"],
        "title": title if isinstance(title, str) else "",
    }


def _place(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value < 2**53 else 0


# -- what no schema has -----------------------------------------------------------------------------------------


def read_loosely(data: bytes) -> Chunk:
    """A chunk, or an answer, with members of types that no schema has. Raises WireError for what is neither."""
    try:
        whole = jsonio.anything(data)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        raise WireError(f"the answer cannot be read: {error}") from None
    if not isinstance(whole, dict):
        raise WireError("the answer cannot be read: it is not an object")
    choices = whole.get("choices")
    if choices is not None and not (isinstance(choices, list) and all(isinstance(one, dict) for one in choices)):
        raise WireError("the answer cannot be read: 'choices' is not an array of objects")
    found = Chunk(
        id=_string(whole, "id"),
        object=_string(whole, "object"),
        model=_string(whole, "model"),
        error=_raw(whole, "error"),
        citations=_raw(whole, "citations"),
    )
    usage = read_usage_object(jsonio.raw(whole["usage"])) if isinstance(whole.get("usage"), dict) else None
    if usage is not None:
        found.usage = UsageObject(
            prompt_tokens=usage.input_tokens,
            completion_tokens=usage.output_tokens,
            prompt_tokens_details=Details(
                cached_tokens=usage.cached_tokens,
                cache_write_tokens=usage.cache_write_tokens,
                audio_tokens=usage.input_audio_tokens,
                image_tokens=usage.input_image_tokens,
            ),
            completion_tokens_details=Details(
                reasoning_tokens=usage.reasoning_tokens,
                audio_tokens=usage.output_audio_tokens,
                image_tokens=usage.output_image_tokens,
            ),
        )
    if choices is not None:
        found.choices = [_loose_choice(choice) for choice in choices]
    return found


def _loose_choice(given: dict[str, Any]) -> ChoicePiece:
    logprobs = given.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    return ChoicePiece(
        index=_index(given),
        delta=_loose_delta(given["delta"]) if isinstance(given.get("delta"), dict) else None,
        message=_loose_delta(given["message"]) if isinstance(given.get("message"), dict) else None,
        finish_reason=_string(given, "finish_reason"),
        logprobs=Logprobs([jsonio.raw(one) for one in content if isinstance(one, dict)])
        if isinstance(content, list)
        else None,
        error=_raw(given, "error"),
        stop_reason=given.get("stop_reason"),
        matched_stop=given.get("matched_stop"),
    )


def _loose_delta(given: dict[str, Any]) -> Delta:
    found = Delta(
        reasoning_content=_string(given, "reasoning_content"),
        reasoning=_string(given, "reasoning"),
        reasoning_details=_raw(given, "reasoning_details"),
        refusal=_string(given, "refusal"),
        annotations=_raw(given, "annotations"),
        images=_raw(given, "images"),
    )
    content = given.get("content")
    if isinstance(content, list):
        parts = read_parts(content)
        found.content = parts.text
        found.reasoning_content = parts.thought or found.reasoning_content
        found.refusal = parts.refusal or found.refusal
        if parts.images:
            found.images = jsonio.raw(parts.images)
    elif isinstance(content, str):
        found.content = content
    elif content is not None:
        found.content = jsonio.encode(content).decode()
    calls = given.get("tool_calls")
    if isinstance(calls, list):
        found.tool_calls = [_loose_call(call) for call in calls if isinstance(call, dict)]
    if isinstance(given.get("function_call"), dict):
        found.function_call = _loose_function(given["function_call"])
    return found


def _loose_call(given: dict[str, Any]) -> ToolCallPiece:
    custom = given.get("custom")
    function = given.get("function")
    call_id = given.get("id")
    return ToolCallPiece(
        index=_index(given),
        id=call_id if isinstance(call_id, str) else str(call_id) if isinstance(call_id, int) else None,
        function=_loose_function(function) if isinstance(function, dict) else None,
        custom=CustomPiece(_string(custom, "name"), _string(custom, "input")) if isinstance(custom, dict) else None,
        extra_content=_raw(given, "extra_content"),
    )


def _loose_function(given: dict[str, Any]) -> FunctionPiece:
    arguments = given.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        arguments = jsonio.encode(arguments).decode()
    return FunctionPiece(_string(given, "name"), arguments)


def _index(given: dict[str, Any]) -> int | None:
    value = given.get("index")
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:9])
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**31:
        return None
    return int(value)


def _string(given: Mapping[str, Any], name: str) -> str | None:
    value = given.get(name)
    return value if isinstance(value, str) else None


def _raw(given: Mapping[str, Any], name: str) -> msgspec.Raw:
    return jsonio.raw(given[name]) if name in given else jsonio.EMPTY
