"""A stored response as the stream that it might have come as (protocol §1.7).

For answers that came in one body, and are asked for as events later. The same object always gives the same events with the
same numbers, so that a client can go on behind any of them. What a type of items has no events of its own for comes as
`added` and `done`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from tidegate.dialects.profile import Profile
from tidegate.dialects.responses import nulls
from tidegate.dialects.responses.held import RENAMED
from tidegate.wire import jsonio, sse

__all__ = ["replayed"]

_EMPTY_LIST = jsonio.raw([])
_EMPTY_STRING = jsonio.raw("")
_IN_PROGRESS = jsonio.raw("in_progress")
_ENDINGS: Final = frozenset({"completed", "incomplete", "failed"})
_REAL_ENDINGS: Final = frozenset({"response.completed", "response.incomplete"})
"""After which `[DONE]` may come."""
_OPEN: Final[Mapping[str, msgspec.Raw]] = MappingProxyType(
    {
        "status": _IN_PROGRESS,
        "output": _EMPTY_LIST,
        "completed_at": jsonio.NULL,
        "error": jsonio.NULL,
        "incomplete_details": jsonio.NULL,
        "usage": jsonio.NULL,
    }
)
"""Members of the response object whose values are not known before the end."""

_Event = tuple[str, dict[str, Any]]
_Body = Iterator[_Event]


def replayed(response: bytes, after: int | None, profile: Profile) -> Iterator[bytes]:
    """The frames behind event `after` of a response that has ended, for a client with this profile; none behind the last
    one. Each is made when it is asked for: a long text stands in several of them."""
    kind = ""
    for number, (name, members) in enumerate(_events(response)):
        if after is None or number > after:
            kind = RENAMED.get(name, name) if profile.reasoning_names else name
            data = jsonio.encode({"type": kind, **members, "sequence_number": number})
            if profile.strict_nulls:
                data = nulls.strip(data)
            yield sse.encode(jsonio.one_line(data), b"" if profile.responses_data_only else kind.encode())
    if profile.responses_done and kind in _REAL_ENDINGS:
        yield sse.DONE


def _events(response: bytes) -> _Body:
    whole = jsonio.members(response)
    begun = {**whole, **_OPEN}
    yield "response.created", {"response": begun}
    yield "response.in_progress", {"response": begun}
    for at, item in enumerate(jsonio.elements(whole["output"])):
        yield from _item(item, at)
    status = jsonio.string(whole["status"])
    # A cancelled response ends as a failed one does: there is no event of its own.
    yield f"response.{status if status in _ENDINGS else 'failed'}", {"response": whole}


def _item(value: msgspec.Raw, at: int) -> _Body:
    item = jsonio.members(value)
    opened, body = _KINDS.get(_text(item, "type"), _AS_IT_IS)
    try:
        between = list(body(item))
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        opened, between = {}, []  # an item of a known type that is not made as one
    begun = {name: opened.get(name, one) for name, one in item.items() if opened.get(name) is not _ABSENT}
    yield "response.output_item.added", {"output_index": at, "item": begun}
    where = {"item_id": item.get("id", _EMPTY_STRING), "output_index": at}
    for name, members in between:
        yield name, {**where, **members}
    yield "response.output_item.done", {"output_index": at, "item": value}


# -- messages and reasoning -------------------------------------------------------------------------------------


def _message(item: jsonio.Members) -> _Body:
    for index, (value, part) in enumerate(_parts(item, "content")):
        at = {"content_index": index}
        match _text(part, "type"):
            case "output_text":
                text, logprobs = _value(part, "text", _EMPTY_STRING), _value(part, "logprobs", _EMPTY_LIST)
                empty = {**part, "text": _EMPTY_STRING, "annotations": _EMPTY_LIST, "logprobs": _EMPTY_LIST}
                yield "response.content_part.added", {**at, "part": empty}
                if text != _EMPTY_STRING:
                    yield "response.output_text.delta", {**at, "delta": text, "logprobs": logprobs}
                for number, annotation in enumerate(_elements(part, "annotations")):
                    yield (
                        "response.output_text.annotation.added",
                        {**at, "annotation_index": number, "annotation": annotation},
                    )
                yield "response.output_text.done", {**at, "text": text, "logprobs": logprobs}
            case "refusal":
                yield "response.content_part.added", {**at, "part": {**part, "refusal": _EMPTY_STRING}}
                refusal = _value(part, "refusal", _EMPTY_STRING)
                if refusal != _EMPTY_STRING:
                    yield "response.refusal.delta", {**at, "delta": refusal}
                yield "response.refusal.done", {**at, "refusal": refusal}
            case _:
                yield "response.content_part.added", {**at, "part": value}
        yield "response.content_part.done", {**at, "part": value}


def _reasoning(item: jsonio.Members) -> _Body:
    for index, (value, part) in enumerate(_parts(item, "summary")):
        at, text = {"summary_index": index}, _value(part, "text", _EMPTY_STRING)
        yield "response.reasoning_summary_part.added", {**at, "part": {**part, "text": _EMPTY_STRING}}
        if text != _EMPTY_STRING:
            yield "response.reasoning_summary_text.delta", {**at, "delta": text}
        yield "response.reasoning_summary_text.done", {**at, "text": text}
        yield "response.reasoning_summary_part.done", {**at, "part": value}
    for index, (value, part) in enumerate(_parts(item, "content")):
        at, text = {"content_index": index}, _value(part, "text", _EMPTY_STRING)
        yield "response.content_part.added", {**at, "part": {**part, "text": _EMPTY_STRING}}
        if text != _EMPTY_STRING:
            yield "response.reasoning_text.delta", {**at, "delta": text}
        yield "response.reasoning_text.done", {**at, "text": text}
        yield "response.content_part.done", {**at, "part": value}


# -- calls ------------------------------------------------------------------------------------------------------


def _written(stem: str, item: jsonio.Members, name: str) -> _Body:
    """The item's member `name`, which grew to be what it is."""
    text = _value(item, name, _EMPTY_STRING)
    if text != _EMPTY_STRING:
        yield f"response.{stem}.delta", {"delta": text}
    yield f"response.{stem}.done", {name: text}


def _function_call(item: jsonio.Members) -> _Body:
    yield from _written("function_call_arguments", item, "arguments")


def _custom_call(item: jsonio.Members) -> _Body:
    yield from _written("custom_tool_call_input", item, "input")


def _states(kind: str, *states: str) -> _Body:
    for state in states:
        yield f"response.{kind}.{state}", {}


def _search(item: jsonio.Members) -> _Body:
    kind = _text(item, "type")
    yield from _states(kind, "in_progress", "searching")
    if _text(item, "status") == "completed":
        yield from _states(kind, "completed")


def _code(item: jsonio.Members) -> _Body:
    yield from _states("code_interpreter_call", "in_progress")
    yield from _written("code_interpreter_call_code", item, "code")
    yield from _states("code_interpreter_call", "interpreting")
    if _text(item, "status") == "completed":
        yield from _states("code_interpreter_call", "completed")


def _image(item: jsonio.Members) -> _Body:
    yield from _states("image_generation_call", "in_progress", "generating")
    if _text(item, "status") == "completed":
        yield from _states("image_generation_call", "completed")


def _mcp_call(item: jsonio.Members) -> _Body:
    yield from _states("mcp_call", "in_progress")
    yield from _written("mcp_call_arguments", item, "arguments")
    yield from _states("mcp_call", "completed" if jsonio.is_null(item.get("error", jsonio.NULL)) else "failed")


def _mcp_tools(item: jsonio.Members) -> _Body:
    yield from _states("mcp_list_tools", "in_progress")
    failed = not jsonio.is_null(item.get("error", jsonio.NULL))
    yield from _states("mcp_list_tools", "failed" if failed else "completed")


def _nothing(item: jsonio.Members) -> _Body:
    yield from ()


_ABSENT: Final = jsonio.EMPTY
"""In the place of a value that an item that is just begun does not have."""

_Kind = tuple[Mapping[str, msgspec.Raw], Callable[[jsonio.Members], _Body]]
_AS_IT_IS: Final[_Kind] = ({}, _nothing)
_STATUS: Final[Mapping[str, msgspec.Raw]] = {"status": _IN_PROGRESS}
_KINDS: Final[Mapping[str, _Kind]] = MappingProxyType(
    {
        "message": ({**_STATUS, "content": _EMPTY_LIST}, _message),
        "reasoning": (
            {**_STATUS, "summary": _EMPTY_LIST, "content": _ABSENT, "encrypted_content": _ABSENT},
            _reasoning,
        ),
        "function_call": ({**_STATUS, "arguments": _EMPTY_STRING}, _function_call),
        "custom_tool_call": ({**_STATUS, "input": _EMPTY_STRING}, _custom_call),
        "web_search_call": (_STATUS, _search),
        "file_search_call": ({**_STATUS, "results": jsonio.NULL}, _search),
        "code_interpreter_call": ({**_STATUS, "code": _EMPTY_STRING, "outputs": jsonio.NULL}, _code),
        "image_generation_call": ({**_STATUS, "result": jsonio.NULL}, _image),
        "mcp_call": (
            {**_STATUS, "arguments": _EMPTY_STRING, "output": jsonio.NULL, "error": jsonio.NULL},
            _mcp_call,
        ),
        "mcp_list_tools": ({"tools": _EMPTY_LIST, "error": jsonio.NULL}, _mcp_tools),
    }
)
"""By type: the members that are not there yet when the item begins, and the events between `added` and `done`."""


# -- reading ----------------------------------------------------------------------------------------------------


def _text(members: jsonio.Members, name: str) -> str:
    return jsonio.string(members.get(name, jsonio.NULL)) or ""


def _value(members: jsonio.Members, name: str, otherwise: msgspec.Raw) -> msgspec.Raw:
    value = members.get(name, jsonio.NULL)
    return otherwise if jsonio.is_null(value) else value


def _elements(members: jsonio.Members, name: str) -> Iterable[msgspec.Raw]:
    return jsonio.elements(_value(members, name, _EMPTY_LIST))


def _parts(item: jsonio.Members, name: str) -> Iterable[tuple[msgspec.Raw, jsonio.Members]]:
    for value in _elements(item, name):
        yield value, jsonio.members(value)
