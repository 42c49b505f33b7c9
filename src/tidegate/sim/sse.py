"""Event and frame: one server-sent event, and the bytes it is sent as."""

import json
from typing import Any

import msgspec

from tidegate.sim.options import Options

_encode = msgspec.json.Encoder().encode


class Event(msgspec.Struct):
    """One event of a stream. `data` is a payload, or bytes that stand for themselves (`[DONE]`, and faults)."""

    data: dict[str, Any] | bytes
    name: str | None = None


class Stream(msgspec.Struct):
    """A whole answer as events, and how many of them a client has to see until it has the first piece of content."""

    events: list[Event]
    to_content: int


DONE = Event(b"[DONE]")


def encode(payload: Any, options: Options) -> bytes:
    """`payload` as JSON."""
    if options.ascii:
        return json.dumps(payload, separators=(",", ":")).encode("ascii")
    return _encode(payload)


def frame(event: Event, options: Options) -> bytes:
    """The event's frame: an `event:` line if it has a name, one `data:` line, a blank line."""
    end = b"\r\n" if options.crlf else b"\n"
    data = event.data if isinstance(event.data, bytes) else encode(event.data, options)
    if event.name is not None and options.events:
        return b"event: " + event.name.encode() + end + b"data: " + data + end + end
    return b"data: " + data + end + end


def comment(text: str, options: Options) -> bytes:
    """A comment frame: what providers send to keep a silent connection alive."""
    end = b"\r\n" if options.crlf else b"\n"
    return b": " + text.encode() + end + end
