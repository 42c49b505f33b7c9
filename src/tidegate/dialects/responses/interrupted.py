"""How a stored stream ends that cannot go on to its own ending.

A journal tells of an answer whose process died: it may have ended all the same, or it was cut. One that is deleted while it
is read tells nothing any more.
"""

from typing import Any, Final

import msgspec

from tidegate.dialects.responses.broken import error_event, error_member
from tidegate.dialects.responses.held import OFFICIAL, HeldItems
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import TidegateError, WireError

__all__ = ["CODE", "ENDINGS", "Remains", "broken_off"]

CODE: Final = "gateway_interrupted"

ENDINGS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
"""Events that end a stream."""

_MESSAGE = f"{CODE}: the gateway was stopped before the answer was complete."


class _Event(msgspec.Struct):
    type: str = ""
    sequence_number: int | None = None
    response: msgspec.Raw = jsonio.EMPTY
    output_index: Any = None
    delta: Any = None


_event = jsonio.decoder(_Event)


class Remains:
    """Reads the frames of a Responses stream, as far as they were written."""

    __slots__ = ("_begun", "_ending", "_items", "last", "named")

    def __init__(self) -> None:
        self.last = -1
        """The number of the last event."""
        self._begun: msgspec.Raw | None = None
        self._ending: msgspec.Raw | None = None
        self._items = HeldItems()
        self.named = True
        """Whether its frames have an `event:` line."""

    @property
    def ended(self) -> bool:
        """Whether the real ending was written before the process died."""
        return self._ending is not None

    def feed(self, frames: bytes) -> None:
        """Whole frames."""
        for frame in sse.split(frames):
            try:
                event = jsonio.decode(frame.data, _event)
            except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
                continue  # `[DONE]`, behind an ending
            self.named = bool(frame.event)
            if event.sequence_number is not None:
                self.last = event.sequence_number
            if event.type in ENDINGS:
                self._ending = event.response
            elif not jsonio.is_null(event.response):
                self._begun = event.response
            else:
                self._take(OFFICIAL.get(event.type, event.type), event, frame.data)

    def _take(self, kind: str, event: _Event, data: bytes) -> None:
        """An event of an item."""
        items = self._items
        try:
            if kind == "response.output_item.added":
                items.added(data)
            elif kind == "response.output_item.done":
                items.done(data)
            elif kind in HeldItems.VALUES:
                items.value_done(kind, data)
            elif isinstance(event.delta, str):
                index = event.output_index
                items.said(kind, index if isinstance(index, int) else None, event.delta.encode())
        except WireError:
            return  # an item that nobody can read, or more than one response holds

    def response(self, begun: bytes) -> bytes:
        """The response object: the real one, or that of a failure, made of `begun`, with what was said so far.

        The SDKs know no codes of ours: the message begins with it (design §6).
        """
        if self._ending is not None:
            return bytes(self._ending)
        members = jsonio.members(self._begun or begun)
        members["status"] = jsonio.raw("failed")
        response_id = jsonio.string(members.get("id", jsonio.NULL)) or ""
        members["output"] = jsonio.raw(self._items.at_a_break(response_id))
        members["error"] = jsonio.raw({"code": "server_error", "message": _MESSAGE})
        return jsonio.encode(members)

    def so_far(self, begun: bytes) -> bytes:
        """The response object of an answer that goes on, made of `begun`, with what was said so far; the real one where its
        ending is written already."""
        if self._ending is not None:
            return bytes(self._ending)
        members = jsonio.members(begun)
        response_id = jsonio.string(members.get("id", jsonio.NULL)) or ""
        members["output"] = jsonio.raw(self._items.so_far(response_id))
        return jsonio.encode(members)

    def closing(self, begun: bytes, after: int | None) -> bytes:
        """The frame that ends the stream for a client that has seen event `after`; empty where the real one did.

        The client may have seen more than was written, so that the number is the next one for it.
        """
        if self._ending is not None:
            return b""
        number = max(self.last, -1 if after is None else after) + 1
        data = b'{"type":"response.failed","response":%b,"sequence_number":%d}' % (self.response(begun), number)
        return sse.encode(jsonio.one_line(data), b"response.failed" if self.named else b"")


def broken_off(begun: bytes, last: int, error: TidegateError, *, named: bool) -> bytes:
    """The frames that end a stream with `error`, behind the event of number `last`. `begun` is the response object as it was
    when the stream began; `named`: frames have an `event:` line."""
    members = jsonio.members(begun)
    members["status"] = jsonio.raw("failed")
    members["output"] = jsonio.raw([])
    members["error"] = error_member(error)
    failed = b'{"type":"response.failed","response":%b,"sequence_number":%d}' % (jsonio.encode(members), last + 2)
    return sse.encode(error_event(error, last + 1), b"error" if named else b"") + sse.encode(
        jsonio.one_line(failed), b"response.failed" if named else b""
    )
