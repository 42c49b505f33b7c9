"""What a journal tells of an answer whose process died: it may have ended all the same, or it was cut."""

from typing import Final

import msgspec

from tidegate.wire import jsonio, sse

__all__ = ["CODE", "Remains"]

CODE: Final = "gateway_interrupted"

_ENDINGS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_MESSAGE = f"{CODE}: the gateway was stopped before the answer was complete."


class _Event(msgspec.Struct):
    type: str = ""
    sequence_number: int | None = None
    response: msgspec.Raw = jsonio.EMPTY
    item: msgspec.Raw = jsonio.EMPTY
    output_index: int = 0


_event = jsonio.decoder(_Event)


class Remains:
    """Reads the frames of a Responses stream, as far as they were written."""

    __slots__ = ("_begun", "_ending", "_items", "_named", "last")

    def __init__(self) -> None:
        self.last = -1
        """The number of the last event."""
        self._begun: msgspec.Raw | None = None
        self._ending: msgspec.Raw | None = None
        self._items: dict[int, msgspec.Raw] = {}
        self._named = True

    @property
    def ended(self) -> bool:
        """Whether the real ending was written before the process died."""
        return self._ending is not None

    def feed(self, frames: bytes) -> None:
        """Whole frames."""
        for frame in sse.FrameDecoder().feed(frames):
            try:
                event = jsonio.decode(frame.data, _event)
            except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
                continue  # `[DONE]`, behind an ending
            self._named = bool(frame.event)
            if event.sequence_number is not None:
                self.last = event.sequence_number
            if event.type == "response.output_item.done":
                self._items[event.output_index] = event.item
            elif event.type in _ENDINGS:
                self._ending = event.response
            elif not jsonio.is_null(event.response):
                self._begun = event.response

    def response(self, begun: bytes) -> bytes:
        """The response object: the real one, or that of a failure, made of `begun`, with the items that were complete.

        The SDKs know no codes of ours: the message begins with it (design §6).
        """
        if self._ending is not None:
            return bytes(self._ending)
        members = jsonio.members(self._begun or begun)
        members["status"] = jsonio.raw("failed")
        members["output"] = jsonio.raw([self._items[at] for at in sorted(self._items)])
        members["error"] = jsonio.raw({"code": "server_error", "message": _MESSAGE})
        return jsonio.encode(members)

    def closing(self, begun: bytes, after: int | None) -> bytes:
        """The frame that ends the stream for a client that has seen event `after`; empty where the real one did.

        The client may have seen more than was written, so that the number is the next one for it.
        """
        if self._ending is not None:
            return b""
        number = max(self.last, -1 if after is None else after) + 1
        data = b'{"type":"response.failed","response":%b,"sequence_number":%d}' % (self.response(begun), number)
        return sse.encode(jsonio.one_line(data), b"response.failed" if self._named else b"")
