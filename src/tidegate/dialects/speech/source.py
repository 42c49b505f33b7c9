"""Audio as a provider sends it in events."""

from typing import Final, Protocol

import msgspec

from tidegate.dialects.failure import from_error_object
from tidegate.dialects.usage import read_usage_object
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import TidegateError, UpstreamBroken
from tidegate.wire.events import Usage

__all__ = ["EventSource", "Piece", "Source"]


class Piece(msgspec.Struct, gc=False):
    """Some audio, or something else that was said."""

    audio: bytes
    frame: bytes = b""
    """The frame that it came in, if that can go on as it is."""


class Source(Protocol):
    """One answer: bytes of the provider's stream in, in any split, audio out. Nothing is raised: after a `failure`, as after
    the end, nothing more is read; what came whole before is handed out."""

    finished: bool
    """The provider said that the audio is complete."""
    stopped: bool
    """There is no more audio, though the message goes on: what may follow is only told by its end."""
    failure: TidegateError | None
    usage: Usage | None
    ending: bytes
    """The frame that said so, if it can go on as it is."""

    def feed(self, data: bytes) -> list[Piece]: ...

    def eof(self) -> list[Piece]:
        """The provider's message has ended. Sets `failure` unless it is `finished`."""


class _Event(msgspec.Struct, gc=False):
    """All that an event is asked for. Base64 is decoded with it."""

    type: str | None = None
    audio: bytes | None = None
    usage: msgspec.Raw = jsonio.EMPTY
    error: msgspec.Raw = jsonio.EMPTY


class _Typed(msgspec.Struct, gc=False):
    type: str


class _Complete(msgspec.Struct, gc=False):
    """The usage that a client finds all its figures in."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


_event = jsonio.decoder(_Event)
_typed = jsonio.decoder(_Typed)
_complete = jsonio.decoder(_Complete)

_DELTA: Final = "speech.audio.delta"
_DONE: Final = "speech.audio.done"


class EventSource:
    """The events of OpenAI's speech endpoint, and of servers that send bare `{"audio": …}` frames. Their end is
    `speech.audio.done`, or `[DONE]`, or both. See :class:`Source`."""

    __slots__ = ("_decoder", "_provider", "ending", "failure", "finished", "stopped", "usage")

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._decoder = sse.FrameDecoder()
        self.finished = self.stopped = False
        self.failure: TidegateError | None = None
        self.usage: Usage | None = None
        self.ending = b""

    def feed(self, data: bytes) -> list[Piece]:
        try:
            frames = self._decoder.feed(data)
        except sse.FrameError as error:
            pieces = self._read(error.frames)
            self._break(str(error))
            return pieces
        return self._read(frames)

    def eof(self) -> list[Piece]:
        tail = self._decoder.eof()
        pieces = self._read([tail]) if tail is not None and tail.data.strip() == b"[DONE]" else []
        self._break("the stream ended without 'speech.audio.done' or '[DONE]'")
        return pieces

    def _read(self, frames: list[sse.Frame]) -> list[Piece]:
        pieces = []
        for frame in frames:
            if self.finished or self.failure is not None:
                break
            data = frame.data
            if not data:
                pieces.append(Piece(b"", frame.raw))
            elif data.strip() == b"[DONE]":
                self.finished = True
            else:
                piece = self._read_event(frame)
                if piece is not None:
                    pieces.append(piece)
        return pieces

    def _read_event(self, frame: sse.Frame) -> Piece | None:
        data = frame.data
        try:
            if not data.isascii():
                data.decode()
            event = _event.decode(data)
        except jsonio.UNREADABLE as error:
            if _is_foreign(data):
                return Piece(b"", _plain(frame))
            self._break(f"an event of the stream cannot be read: {error}")
            return None
        if event.error and not jsonio.is_null(event.error):
            self.failure = from_error_object(event.error, self._provider)
        elif event.type == "error" or frame.event == b"error":
            self.failure = from_error_object(data, self._provider)
        elif event.audio is not None:
            return Piece(event.audio, _plain(frame) if event.type == _DELTA else b"")
        elif event.type == _DONE:
            self.finished = True
            self.usage = read_usage_object(event.usage) if event.usage else None
            if self.usage is not None and _is_complete(event.usage):
                self.ending = _plain(frame)
        else:
            return Piece(b"", _plain(frame))
        return None

    def _break(self, why: str) -> None:
        if not self.finished and self.failure is None:
            self.failure = UpstreamBroken(f"Provider '{self._provider}': {why}.")


def _plain(frame: sse.Frame) -> bytes:
    """The frame without an `event:` line: browsers would look for a listener of that name."""
    return sse.encode(frame.data) if frame.event else frame.raw


def _is_foreign(data: bytes) -> bool:
    """Whether the event is none of those that this API has: what stands in it is nobody's business."""
    try:
        return _typed.decode(data).type not in (_DELTA, _DONE, "error")
    except jsonio.UNREADABLE:
        return False


def _is_complete(usage: msgspec.Raw) -> bool:
    try:
        _complete.decode(usage)
    except jsonio.UNREADABLE:
        return False
    return True
