"""The messages of the WebSocket mode of `/v1/responses` (protocol §1.9): JSON texts of one event each.

A client creates responses as it does over HTTP, with the members of the body beside the event's `type`. What it is sent
are the events of the stream, without their framing.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tidegate.dialects.validation import invalid, missing, parse
from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest, TidegateError, UnsupportedParameter

__all__ = [
    "CREATE",
    "STEER",
    "Create",
    "Ended",
    "Message",
    "begun_response",
    "error_message",
    "prepared_events",
    "read_create",
    "read_end",
    "read_message",
    "steering_failed",
    "with_headers",
    "with_lane",
]

CREATE: Final = "response.create"
STEER: Final = "response.steer"

_STREAM_ID = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_EMPTY = re.compile(rb"\s*\[\s*\]\s*")
_OURS = ("type", "generate", "stream_id")
"""Members of the event that are none of the request."""


class Message(msgspec.Struct, frozen=True):
    """An event of the client."""

    kind: str
    stream_id: str | None
    """The lane that it names; None for the one without a name."""
    members: jsonio.Members


class Create(msgspec.Struct, frozen=True):
    """A `response.create`."""

    body: bytes
    """What the body of the same request would be over HTTP, with a stream asked for."""
    generates: bool
    """False: only an id is wanted, for other requests to build on."""
    previous: str | None
    """The `previous_response_id`, also of a body that is invalid otherwise."""


class Ended(msgspec.Struct, frozen=True):
    """What the last event of a stream says."""

    response_id: str
    stored: bool
    output: tuple[bytes, ...]


class _Response(msgspec.Struct):
    id: str
    store: bool = False
    output: list[msgspec.Raw] = []


class _Terminal(msgspec.Struct):
    type: str
    response: _Response


_messages = jsonio.decoder(jsonio.Members)
_terminal = jsonio.decoder(_Terminal)
_text = jsonio.decoder(str)
_switch = jsonio.decoder(bool)


def read_message(data: bytes) -> Message:
    """Raises InvalidRequest for what is no event, or one of a lane that cannot be."""
    members = parse(data, _messages, what="message")
    kind = _member(members, "type", _text)
    if kind is None:
        raise missing("type", f"The events of a client are '{CREATE}' and '{STEER}'.")
    given = members.get("stream_id", jsonio.NULL)
    stream_id: str | None = None
    if not jsonio.is_null(given):
        try:
            stream_id = jsonio.decode(given, _text)
        except (jsonio.SchemaMismatch, jsonio.InvalidJSON):
            stream_id = ""
        if not _STREAM_ID.fullmatch(stream_id):
            raise InvalidRequest(
                "The 'stream_id' field must be a non-empty string with at most 256 characters and may only contain "
                "letters, numbers, underscores, hyphens, and periods.",
                param="stream_id",
                code="invalid_stream_id",
            )
    return Message(kind, stream_id, members)


def read_create(message: Message) -> Create:
    """Raises InvalidRequest."""
    given = message.members
    generates = _member(given, "generate", _switch)
    if _member(given, "background", _switch):
        raise UnsupportedParameter(
            "Unsupported parameter: 'background' cannot be used over WebSocket, which answers on the connection itself. "
            "Send the request with POST.",
            param="background",
        )
    members = {name: value for name, value in given.items() if name not in _OURS}
    if generates is False:
        # Nothing streams: what is answered is no more than the object of a response.
        members.pop("stream", None)
        members.pop("stream_options", None)
    else:
        members["stream"] = jsonio.TRUE
    previous = _string(members.get("previous_response_id", jsonio.NULL))
    if _EMPTY.fullmatch(members.get("input", jsonio.NULL)):
        # Nothing beside what is built on. Over HTTP an empty list is a mistake; Codex begins with one.
        del members["input"]
    return Create(jsonio.encode(members), generates is not False, previous)


def begun_response(event: bytes) -> str:
    """The id in the first event of a stream."""
    return jsonio.decode(event, _terminal).response.id


def prepared_events(response: bytes) -> list[bytes]:
    """The events of a response without output, from its object."""
    members = jsonio.members(response)
    members |= {"status": jsonio.raw("in_progress"), "completed_at": jsonio.NULL, "usage": jsonio.NULL}
    begun = jsonio.encode(members)
    bodies = (("response.created", begun), ("response.in_progress", begun), ("response.completed", response))
    return [
        b'{"type":"%b","response":%b,"sequence_number":%d}' % (kind.encode(), body, number)
        for number, (kind, body) in enumerate(bodies)
    ]


def read_end(data: bytes) -> Ended | None:
    """What the last event of a stream says of a response that others can build on; None if it failed."""
    try:
        end = jsonio.decode(data, _terminal)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return None
    if end.type not in ("response.completed", "response.incomplete"):
        return None
    response = end.response
    # Copies: each of the raw values would keep the whole event in memory.
    return Ended(response.id, response.store, tuple(bytes(item) for item in response.output))


def error_message(error: TidegateError, stream_id: str | None, headers: Mapping[str, str]) -> bytes:
    """An error that is no part of a stream, with what HTTP would have told in its status and headers."""
    nested: dict[str, Any] = {
        "type": error.openai_type,
        "code": error.code,
        "message": error.message,
        "param": error.param,
        "headers": headers,
    }
    content: dict[str, Any] = {"type": "error", "status": error.http_status, "error": nested}
    if stream_id is not None:
        content["stream_id"] = stream_id
    return jsonio.encode(content)


def steering_failed(message: Message, lane: str | None) -> bytes:
    """The answer to every `response.steer`: it gives the input back. `lane` is that of the response that was to be
    steered. Raises InvalidRequest."""
    members = message.members
    target = _member(members, "previous_response_id", _text)
    if target is None:
        raise missing("previous_response_id")
    if jsonio.is_null(members.get("input", jsonio.NULL)):
        raise missing("input")
    content: dict[str, Any] = {
        "type": "response.steer.failed",
        "error": {
            "type": "invalid_request_error",
            "code": "steering_not_supported",
            "message": "A running response cannot be steered here. Wait for its end, then send the input with "
            f"'{CREATE}' and 'previous_response_id'.",
        },
        "steer": {"previous_response_id": target, "input": members["input"]},
        "sequence_number": 0,
    }
    if lane is not None:
        content["stream_id"] = lane
    return jsonio.encode(content)


def with_lane(event: bytes, stream_id: str) -> bytes:
    """The event, which is a JSON object, with the lane as its last member: readers take the last of two."""
    return b'%b,"stream_id":"%b"}' % (event.rstrip()[:-1], stream_id.encode("ascii"))


def with_headers(event: bytes, headers: Mapping[str, str]) -> bytes:
    """The event, which is a JSON object, with what HTTP would have told in the headers of the answer."""
    return b'%b,"headers":%b}' % (event.rstrip()[:-1], jsonio.encode(headers))


def _member(members: jsonio.Members, name: str, using: "msgspec.json.Decoder[Any]") -> Any:
    """The value of a member; None if it is absent or null. Raises InvalidRequest for another type."""
    given = members.get(name, jsonio.NULL)
    if jsonio.is_null(given):
        return None
    try:
        return jsonio.decode(given, using)
    except (jsonio.SchemaMismatch, jsonio.InvalidJSON):
        expected = "a string" if using is _text else "a boolean"
        raise invalid(name, f"expected {expected}.", "invalid_type") from None


def _string(given: msgspec.Raw) -> str | None:
    try:
        return jsonio.decode(given, _text)
    except (jsonio.SchemaMismatch, jsonio.InvalidJSON):
        return None
