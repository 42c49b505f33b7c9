"""Server-sent events on bytes (WHATWG HTML §9.2, "Server-sent events").

A *frame* is one unit of the stream: some lines and the blank line that ends them. The decoder keeps each frame's own
bytes, so that a relay can forward it untouched.
"""

import re

import msgspec

__all__ = ["DONE", "FRAME_LIMIT", "Frame", "FrameDecoder", "FrameError", "comment", "encode", "split"]

FRAME_LIMIT = 8 * 1024 * 1024
"""Longest frame in bytes. The longest real ones are terminal events that repeat a whole answer, and base64 images."""

DONE = b"data: [DONE]\n\n"
"""The frame behind the last one in OpenAI's APIs."""

# A carriage return ends a line unless a line feed follows it; the lookahead keeps `\r\n` from counting as two ends.
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
_LF, _CR = b"\n\r"
"""Numbers: a search for one takes a sixth of the time of a search for a byte string, which Python tries as a number first."""


class FrameError(ValueError):
    """The bytes cannot be read as a stream of frames within the limits. `frames` are those that came whole before."""

    def __init__(self, message: str, frames: "list[Frame]") -> None:
        super().__init__(message)
        self.frames = frames


class Frame(msgspec.Struct, gc=False):
    """One frame. `raw` is the frame as it came, blank line included; `event` is empty when the frame has no such line;
    `data` is empty for a frame of comments only."""

    raw: bytes
    event: bytes
    data: bytes


class FrameDecoder:
    """Bytes in any split → whole frames, in linear time and bounded memory.

    A frame is handed out with the read that completes it: a final `\\r` is not held back to see whether `\\n` follows.
    """

    __slots__ = ("_buffer", "_clean", "_limit", "_skip_line_feed", "_started")

    def __init__(self, limit: int = FRAME_LIMIT) -> None:
        self._buffer = bytearray()
        self._limit = limit
        self._skip_line_feed = False
        self._started = False
        self._clean = False
        """Nothing of earlier reads matters to the next one."""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises FrameError when one grows over the limit; the decoder is of no
        use then."""
        if self._clean and len(data) <= self._limit:
            frame = _parse_usual(data)
            if frame is not None:
                return [frame]
        self._clean = False
        frames = self._feed(data)
        self._clean = self._started and not self._buffer and not self._skip_line_feed
        return frames

    def _feed(self, data: bytes) -> list[Frame]:
        if not self._started:
            data = self._strip_byte_order_mark(data)
            if not self._started:
                return []
        if self._skip_line_feed and data:
            self._skip_line_feed = False
            if data[0] == 10:
                data = data[1:]
        if not self._buffer and _CR not in data and len(data) <= self._limit:
            return self._feed_whole(data)
        return self._feed_buffered(data)

    def eof(self) -> Frame | None:
        """What is left when the stream ends without a blank line, read as if the line had come; None if nothing is.

        WHATWG drops such a tail. Engines that end with an unterminated `data: [DONE]` are common enough that the caller
        gets to see it; it must accept the tail only if it completes the message.
        """
        tail = bytes(self._buffer)
        self._buffer.clear()
        return _parse(tail + b"\n\n") if tail.strip() else None

    def _feed_whole(self, data: bytes) -> list[Frame]:
        """The common case: nothing is left over from earlier reads and every line ends in `\\n`."""
        frames: list[Frame] = []
        start = 0
        while (end := data.find(b"\n\n", start)) >= 0:
            end += 2
            frames.append(_parse(data[start:end] if start or end < len(data) else data))
            start = end
        if start < len(data):
            self._buffer += data[start:] if start else data
        return frames

    def _feed_buffered(self, data: bytes) -> list[Frame]:
        buffer = self._buffer
        searched = max(0, len(buffer) - 3)
        buffer += data
        frames: list[Frame] = []
        start = 0
        while found := _BLANK_LINE.search(buffer, searched):
            end = found.end()
            if end - start > self._limit:
                raise self._too_long(frames)
            frames.append(_parse(bytes(buffer[start:end])))
            start = searched = end
        if start:
            self._skip_line_feed = start == len(buffer) and buffer[-1] == 13
            del buffer[:start]
        if len(buffer) > self._limit:
            raise self._too_long(frames)
        return frames

    def _too_long(self, frames: list[Frame]) -> FrameError:
        self._buffer.clear()
        return FrameError(f"a frame is longer than {self._limit} bytes", frames)

    def _strip_byte_order_mark(self, data: bytes) -> bytes:
        """One leading byte order mark is ignored, also when it is split over reads."""
        head = bytes(self._buffer) + data
        self._buffer.clear()
        if len(head) < 3 and _BOM.startswith(head):
            self._buffer += head
            return b""
        self._started = True
        return head.removeprefix(_BOM)


def split(frames: bytes) -> list[Frame]:
    """Frames of our own, all of them whole: what was written once can be read, however long it is."""
    return FrameDecoder(len(frames)).feed(frames)


def encode(data: bytes, event: bytes = b"") -> bytes:
    """One frame that carries `data`, with an `event` line if a name is given."""
    if _LF in data or _CR in data:
        data = b"\ndata: ".join(_LINE_END.split(data))
    if event:
        return b"event: %b\ndata: %b\n\n" % (event, data)
    return b"data: %b\n\n" % data


def comment(text: bytes = b"") -> bytes:
    """A frame that every client skips."""
    return b": %b\n\n" % text if text else b":\n\n"


def _parse(raw: bytes) -> Frame:
    """Read one frame."""
    return _parse_usual(raw) or _parse_lines(raw)


def _parse_usual(raw: bytes) -> Frame | None:
    """The frame, if `raw` is one whole frame of the three shapes that nearly every frame has; no lines are split then."""
    last = len(raw) - 2
    if raw.startswith(b"data: "):
        end = raw.find(b"\n")
        if end == last and raw[-1] == 10 and _CR not in raw:
            return Frame(raw, b"", raw[6:last])
        if end == last - 1 and raw.find(b"\r") == last - 2 and raw.endswith(b"\r\n\r\n"):  # Google's
            return Frame(raw, b"", raw[6 : last - 2])
    elif raw.startswith(b"event: "):
        line = raw.find(b"\n")
        if (
            raw.find(b"\n", line + 1) == last
            and raw.startswith(b"data: ", line + 1)
            and raw[-1] == 10
            and _CR not in raw
        ):
            return Frame(raw, raw[7:line], raw[line + 7 : last])
    return None


def _parse_lines(raw: bytes) -> Frame:
    event = b""
    data: list[bytes] = []
    for line in _LINE_END.split(raw):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            event = value
    return Frame(raw, event, b"\n".join(data))
