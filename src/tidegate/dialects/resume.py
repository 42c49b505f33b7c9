"""Picking up a stream behind what a client has seen already, and ending it for that client where it cannot go on."""

from abc import ABC, abstractmethod
from typing import Protocol

import msgspec

from tidegate.dialects.dialect import EVENT_STREAM
from tidegate.dialects.messages.failures import error_frame
from tidegate.dialects.messages.relay import PING
from tidegate.dialects.profile import Profile
from tidegate.dialects.responses.interrupted import ENDINGS, broken_off
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import TidegateError

__all__ = ["ChunkResume", "FrameResume", "MessagesResume", "ResponsesResume", "Resume"]


class Resume(Protocol):
    """The bytes of a journal in, those behind event `after` out, as they were first sent."""

    @property
    def content_type(self) -> bytes: ...

    def feed(self, data: bytes) -> bytes:
        """`data` begins and ends where what was sent at once does."""

    def ping(self) -> bytes:
        """What keeps a silent stream alive: no journal has it."""

    def broken(self, error: TidegateError) -> bytes:
        """What ends the stream with `error`; empty where what was fed has its real ending."""


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    sequence_number: int | None = None
    error: msgspec.Raw = jsonio.EMPTY
    response: msgspec.Raw = jsonio.EMPTY


_event = jsonio.decoder(_Event)
_NOTHING = b'{"object":"response"}'


class FrameResume(ABC):
    """A stream of server-sent events.

    Events of Responses carry their number (protocol §1.6). In other dialects the frames with data are counted, from 0, but
    for pings: those that keep a silent stream alive are in no journal, and a client cannot tell them from the provider's.
    """

    __slots__ = ("_after", "_last", "_number")

    content_type: bytes = EVENT_STREAM

    def __init__(self, after: int | None) -> None:
        """None takes everything."""
        self._after = after
        self._number = -1
        """Of the last frame that was counted."""
        self._last = b""
        """The data of the last frame that has some, whether it went out or not."""

    def feed(self, data: bytes) -> bytes:
        frames = sse.split(data)
        for frame in frames:
            if frame.data:
                self._read(frame)
        return data if self._after is None else self._behind(self._after, frames)

    def ping(self) -> bytes:
        return sse.comment(b"keepalive")

    def broken(self, error: TidegateError) -> bytes:
        return b"" if self._last and self._has_ended() else self._failure(error)

    def _behind(self, after: int, frames: list[sse.Frame]) -> bytes:
        out: list[bytes] = []
        for frame in frames:
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
        self._number += 1
        return self._number

    def _read(self, frame: sse.Frame) -> None:
        """A frame with data."""
        self._last = frame.data

    @abstractmethod
    def _has_ended(self) -> bool:
        """Whether the last frame ends a stream."""

    @abstractmethod
    def _failure(self, error: TidegateError) -> bytes:
        """The frames that end it with `error`."""


class ChunkResume(FrameResume):
    """Chat and text completions."""

    __slots__ = ()

    def _has_ended(self) -> bool:
        return self._last == b"[DONE]" or not jsonio.is_null(_read(self._last).error)

    def _failure(self, error: TidegateError) -> bytes:
        return sse.encode(error.body())


class MessagesResume(FrameResume):
    """Anthropic's Messages."""

    __slots__ = ()

    def ping(self) -> bytes:
        return PING

    def _has_ended(self) -> bool:
        return _read(self._last).type in ("message_stop", "error")

    def _failure(self, error: TidegateError) -> bytes:
        return error_frame(error)


class ResponsesResume(FrameResume):
    """Responses."""

    __slots__ = ("_begun", "_named", "_profile", "after")

    def __init__(self, after: int | None, begun: bytes, profile: Profile) -> None:
        """`begun` is the response object as it was when the stream began, empty where that stands in the stream alone;
        `profile` that of the client who reads it."""
        super().__init__(after)
        self._begun = begun
        self._profile = profile
        self._named = not profile.responses_data_only
        """Whether its frames have an `event:` line."""
        self.after = after
        """What the client has named as the last event that it has seen."""

    def ping(self) -> bytes:
        """See :meth:`tidegate.dialects.responses.stream.ResponsesStream.ping`."""
        number = self._last_number()
        if number < 0 or self._profile.reasoning_names:
            return sse.comment(b"keepalive")
        data = b'{"type":"keepalive","sequence_number":%d}' % number
        return sse.comment(b"keepalive") + sse.encode(data, b"keepalive" if self._named else b"")

    def _number_of(self, frame: sse.Frame) -> int | None:
        return _read(frame.data).sequence_number  # `[DONE]`, the one frame without a number, ends every stream

    def _read(self, frame: sse.Frame) -> None:
        super()._read(frame)
        self._named = bool(frame.event)
        if not self._begun:
            self._begun = bytes(_read(frame.data).response)

    def _has_ended(self) -> bool:
        return self._last == b"[DONE]" or _read(self._last).type in ENDINGS

    def _failure(self, error: TidegateError) -> bytes:
        return broken_off(self._begun or _NOTHING, self._last_number(), error, named=self._named)

    def _last_number(self) -> int:
        number = _read(self._last).sequence_number
        return max(-1 if number is None else number, -1 if self.after is None else self.after)


def _read(data: bytes) -> _Event:
    try:
        return jsonio.decode(data, _event)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return _Event()
