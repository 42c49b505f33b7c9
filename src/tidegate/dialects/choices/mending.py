"""What a provider left out of a chunk or of a whole answer, put in: clients get every member that the API promises."""

from collections.abc import Mapping, Sequence

import msgspec

from tidegate.dialects.choices.head import HEAD
from tidegate.dialects.choices.parts import read_parts
from tidegate.dialects.choices.reasons import is_finish, known_reason
from tidegate.dialects.dialect import Destination
from tidegate.dialects.usage import read_usage_object
from tidegate.wire import jsonio

__all__ = ["is_in_parts", "is_whole_usage", "mended", "whole_usage", "with_head", "with_own_model", "with_places"]

_choice_list = jsonio.decoder(list[jsonio.Members])
_LIST = ord("[")
_EMPTY = jsonio.raw("")
_FILTERED = jsonio.raw("content_filter")
_NOTHING = jsonio.raw({"role": "assistant", "content": None, "refusal": None})
"""The message of an answer that was filtered before its first word: Google's chat endpoint leaves it out."""
_text = jsonio.decoder(str)
_number = jsonio.decoder(float)


def with_head(content: jsonio.Members, fallback: jsonio.Members) -> jsonio.Members:
    """The members of the head as `content` has them, or as `fallback` has those that it lacks or has wrong."""
    return {name: _checked(name, content.get(name, jsonio.NULL), fallback[name]) for name in HEAD}


def _checked(name: str, value: msgspec.Raw, fallback: msgspec.Raw) -> msgspec.Raw:
    try:
        if name != "created":
            jsonio.decode(value, _text)
            return value
        return jsonio.raw(int(jsonio.decode(value, _number)))
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return fallback


def mended(content: jsonio.Members, fallback: jsonio.Members, carrier: str) -> jsonio.Members:
    """The object with all members that are promised (S68–S73). `carrier` is where a choice has its content."""
    result = {**with_head(content, fallback), **{name: content[name] for name in content if name not in HEAD}}
    choices = content.get("choices", jsonio.NULL)
    listed = [] if choices == jsonio.NULL else jsonio.decode(choices, _choice_list)
    for place, choice in enumerate(listed):
        if not _is_index(choice.get("index", jsonio.NULL)):
            choice["index"] = jsonio.raw(place)
        if carrier == "delta" and choice.get("delta", jsonio.NULL) == jsonio.NULL:
            choice["delta"] = jsonio.raw({})
        if carrier in choice and carrier != "text":
            choice[carrier] = _in_one(choice[carrier])
        if carrier == "text" and choice.get("text", jsonio.NULL) == jsonio.NULL:
            choice["text"] = jsonio.raw("")
        choice["finish_reason"] = _mended_reason(choice.get("finish_reason", jsonio.NULL))
        if carrier == "message" and "message" not in choice and choice["finish_reason"] == _FILTERED:
            choice["message"] = _NOTHING
    result["choices"] = jsonio.raw(listed)
    usage = content.get("usage", jsonio.NULL)
    if usage != jsonio.NULL and not is_whole_usage(usage):
        result["usage"] = whole_usage(usage)
    return result


def is_in_parts(content: msgspec.Raw) -> bool:
    """Whether a content is a list of typed parts. A value of JSON has a first byte."""
    return memoryview(content)[0] == _LIST


def _in_one(carried: msgspec.Raw) -> msgspec.Raw:
    """A message, or a delta, with the text and the thoughts that the parts of its content are: official clients add up texts.
    One with a part of another type stays as it is."""
    try:
        members = jsonio.members(carried)
    except jsonio.SchemaMismatch:
        return carried
    if not is_in_parts(members.get("content", jsonio.NULL)):
        return carried
    parts = read_parts(jsonio.anything(members["content"]))
    if parts.others or parts.images:
        return carried
    members["content"] = jsonio.raw(parts.text) if parts.text or not (parts.thought or parts.refusal) else jsonio.NULL
    for name, said in (("reasoning_content", parts.thought), ("refusal", parts.refusal)):
        if said and members.get(name, jsonio.NULL) in (jsonio.NULL, _EMPTY):
            members[name] = jsonio.raw(said)
    return jsonio.raw(members)


def with_places(content: jsonio.Members, places: Mapping[int, Sequence[int]]) -> jsonio.Members:
    """A mended chunk with the calls of its choices where they stand. `places` has those of a choice in their order,
    by the choice's own number in the chunk."""
    listed = jsonio.decode(content["choices"], _choice_list)
    for number, choice in enumerate(listed):
        at = places.get(number)
        if at is not None:
            delta = jsonio.members(choice["delta"])
            calls = jsonio.decode(delta["tool_calls"], _choice_list)
            delta["tool_calls"] = jsonio.raw(
                [{**call, "index": jsonio.raw(place)} for place, call in zip(at, calls, strict=True)]
            )
            choice["delta"] = jsonio.raw(delta)
    return {**content, "choices": jsonio.raw(listed)}


def _is_index(value: msgspec.Raw) -> bool:
    return bytes(value).isdigit()


def _mended_reason(value: msgspec.Raw) -> msgspec.Raw:
    try:
        reason = jsonio.decode(value, _text)
    except jsonio.SchemaMismatch:
        return jsonio.NULL
    return jsonio.raw(known_reason(reason) or reason) if is_finish(reason) else jsonio.NULL


class _ThreeFigures(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


_three_figures = jsonio.decoder(_ThreeFigures)


def is_whole_usage(value: msgspec.Raw) -> bool:
    """Whether the three figures that every client reads are there."""
    try:
        jsonio.decode(value, _three_figures)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return False
    return True


def whole_usage(value: msgspec.Raw) -> msgspec.Raw:
    """The same usage with the figures that every client reads; what the provider adds of its own stays."""
    usage = read_usage_object(value)
    if usage is None:
        return jsonio.NULL
    return jsonio.raw({**jsonio.members(usage.as_chat()), **_others(value)})


def _others(value: msgspec.Raw) -> jsonio.Members:
    known = {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details"}
    return {name: member for name, member in jsonio.members(value).items() if name not in known}


def with_own_model(content: jsonio.Members, destination: Destination) -> jsonio.Members:
    """The same object with the model's name as it was asked for, where the provider appends to it."""
    if content.get("model") == jsonio.raw(destination.model + destination.quirks.model_suffix):
        content["model"] = jsonio.raw(destination.model)
    return content
