"""Picking up a stream behind what a client has seen already."""

import msgspec

from tidegate.wire import jsonio, sse

__all__ = ["Resume", "last_number"]


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    sequence_number: int | None = None


_event = jsonio.decoder(_Event)


class Resume:
    """Frames of a journal in, those behind event `after` out, byte for byte as they were first sent.

    Events of Responses carry their number (protocol §1.6). In other dialects the frames with data are counted, from 0, but
    for pings: those that keep a silent stream alive are in no journal, and a client cannot tell them from the provider's.
    """

    __slots__ = ("_after", "_decoder", "_number", "_numbered")

    def __init__(self, after: int | None, *, numbered: bool) -> None:
        """None takes everything."""
        self._after = after
        self._numbered = numbered
        self._number = -1
        """Of the last frame that was counted."""
        self._decoder = sse.FrameDecoder()

    def feed(self, data: bytes) -> bytes:
        """`data` begins and ends where frames do."""
        after = self._after
        if after is None:
            return data
        out: list[bytes] = []
        for frame in self._decoder.feed(data):
            if self._after is None:
                out.append(frame.raw)
                continue
            number = self._number_of(frame)
            if number is not None and number > after:
                # From here on numbers only rise: nothing needs to be looked at any more.
                self._after = None
                out.append(frame.raw)
        return b"".join(out)

    def _number_of(self, frame: sse.Frame) -> int | None:
        if not frame.data or frame.event == b"ping":
            return None
        if self._numbered:
            return _number(frame)
        self._number += 1
        return self._number


def last_number(frames: bytes) -> int:
    """The number of the last event in whole frames of a Responses stream; -1 when none has one."""
    last = -1
    for frame in sse.FrameDecoder().feed(frames):
        number = _number(frame)
        if number is not None:
            last = number
    return last


def _number(frame: sse.Frame) -> int | None:
    try:
        return jsonio.decode(frame.data, _event).sequence_number
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return None  # `[DONE]`, the one frame without a number, ends every stream
