"""Picking up a stream of Gemini's, in either of its forms (see `framing`): nothing marks the end of one, so that all that
candidates have said of theirs is read."""

from typing import Final

import msgspec

from tidegate.dialects.gemini.answer import error_body, is_ending
from tidegate.dialects.gemini.framing import ArrayFraming
from tidegate.dialects.resume import FrameResume
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import TidegateError

__all__ = ["ARRAY", "ArrayResume", "GeminiResume"]

ARRAY: Final = "gemini:array"
"""How runs are called whose stream is one JSON array."""

_BETWEEN: Final = b",\r\n"
"""What stands between two elements, and in none: what comes out of an event has no carriage return."""


class _Candidate(msgspec.Struct, gc=False, rename="camel"):
    index: int | None = None
    finish_reason: str | None = None


class _Feedback(msgspec.Struct, gc=False, rename="camel"):
    block_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    error: msgspec.Raw = jsonio.EMPTY


_chunk = jsonio.decoder(_Chunk)


class _Progress:
    """Which candidates there are, and which have ended."""

    __slots__ = ("_finished", "_seen", "_stopped")

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._stopped = False
        """The prompt was blocked, or an error was told."""

    @property
    def has_ended(self) -> bool:
        return self._stopped or (bool(self._seen) and self._finished == self._seen)

    def read(self, data: bytes) -> None:
        try:
            chunk = jsonio.decode(data, _chunk)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
            return  # nothing that could end the stream
        for candidate in chunk.candidates or ():
            index = candidate.index or 0
            self._seen.add(index)
            if is_ending(candidate.finish_reason):
                self._finished.add(index)
        feedback = chunk.prompt_feedback
        blocked = feedback is not None and is_ending(feedback.block_reason) and not chunk.candidates
        self._stopped = self._stopped or blocked or not jsonio.is_null(chunk.error)


class GeminiResume(FrameResume):
    """`alt=sse`."""

    __slots__ = ("_progress",)

    def __init__(self, after: int | None) -> None:
        super().__init__(after)
        self._progress = _Progress()

    def _read(self, frame: sse.Frame) -> None:
        super()._read(frame)
        self._progress.read(frame.data)

    def _has_ended(self) -> bool:
        return self._progress.has_ended

    def _failure(self, error: TidegateError) -> bytes:
        return sse.encode(error_body(error))


class ArrayResume:
    """See :class:`tidegate.dialects.resume.Resume`. The elements are counted, from 0; whoever goes on behind one gets an
    array of those that follow."""

    __slots__ = ("_after", "_closed", "_framing", "_number", "_progress")

    content_type: bytes = ArrayFraming.content_type

    def __init__(self, after: int | None) -> None:
        self._after = -1 if after is None else after
        self._number = -1
        self._framing = ArrayFraming()
        self._progress = _Progress()
        self._closed = False

    def feed(self, data: bytes) -> bytes:
        closed = data.endswith(b"]")  # elements are objects
        if closed:
            data = data[:-1].removesuffix(b"\n")
        out: list[bytes] = []
        for element in data.removeprefix(b"[").split(_BETWEEN):
            if element:
                self._number += 1
                self._progress.read(element)
                if self._number > self._after:
                    out.append(self._framing.frame(element))
        if closed:
            self._closed = True
            out.append(self._framing.end())
        return b"".join(out)

    def ping(self) -> bytes:
        return self._framing.ping()

    def broken(self, error: TidegateError) -> bytes:
        if self._closed:
            return b""
        if self._progress.has_ended:
            return self._framing.end()
        return self._framing.frame(error_body(error)) + self._framing.end()
