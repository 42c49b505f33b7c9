"""The two forms in which Google streams: events with `alt=sse`, and the elements of one JSON array without."""

from typing import Final, Protocol

from tidegate.dialects.dialect import EVENT_STREAM
from tidegate.wire import sse

__all__ = ["ArrayFraming", "Framing", "SseFraming"]


class Framing(Protocol):
    """Turns the JSON of each chunk into the bytes for the client."""

    @property
    def content_type(self) -> bytes: ...

    def frame(self, data: bytes) -> bytes: ...

    def relay(self, frame: sse.Frame) -> bytes:
        """The same for a chunk that came in a frame."""

    def end(self) -> bytes:
        """What follows the last chunk."""

    def ping(self) -> bytes:
        """What keeps the stream alive and says nothing."""


class SseFraming:
    """`alt=sse`. Nothing marks the end but the end of the body."""

    content_type: Final = EVENT_STREAM

    def frame(self, data: bytes) -> bytes:
        return b"data: %b\n\n" % data

    def relay(self, frame: sse.Frame) -> bytes:
        return frame.raw

    def end(self) -> bytes:
        return b""

    def ping(self) -> bytes:
        return sse.comment(b"keepalive")


class ArrayFraming:
    """`alt=json`, Google's default."""

    content_type: Final = b"application/json; charset=utf-8"

    def __init__(self) -> None:
        self._begun = False

    def frame(self, data: bytes) -> bytes:
        if self._begun:
            return b",\r\n" + data
        self._begun = True
        return b"[" + data

    def relay(self, frame: sse.Frame) -> bytes:
        return self.frame(frame.data) if frame.data else b""

    def end(self) -> bytes:
        return b"\n]" if self._begun else b"[]"

    def ping(self) -> bytes:
        return b"\n"
