"""Reply: an HTTP answer and its compilation into steps, each a wait and then bytes or an ending."""

import enum
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any, Literal

import msgspec

from tidegate.sim.options import Options


class Ending(enum.Enum):
    """What becomes of the connection after the last byte."""

    KEEP = "kept alive if the client wants it so"
    CLOSE = "closed, whatever the head said"
    RESET = "reset (RST), bytes under way lost"
    HANG = "held open in silence until the client leaves"


Step = tuple[float, bytes | Ending]
"""Seconds to wait, then bytes to write in one piece, or the ending."""

SSE_TYPE = "text/event-stream; charset=utf-8"
JSON_TYPE = "application/json"

# A reset throws away what the receiver has not read yet, so the bytes before it get time to arrive.
SETTLE_S = 0.03


class Reply(msgspec.Struct, kw_only=True):
    """An answer before it is timed and framed. Faults change it freely; `steps` then says exactly that, true or not."""

    status: int = 200
    headers: list[tuple[str, str]] = []
    frames: Iterable[bytes] = ()
    """The body in the pieces in which it is sent. An iterator may be endless."""
    stream: bool = False
    framing: Literal["chunked", "length", "close"] = "chunked"
    announced_length: int | None = None
    """A content-length that is not the body's."""
    complete: bool = True
    """Whether the end of the body is told (the last chunk is sent)."""
    tail: bytes = b""
    """Bytes sent after the body's last byte as they are."""
    ending: Ending = Ending.KEEP
    preface: bytes = b""
    """Bytes sent before the head as they are."""
    head_pieces: int | None = None
    """The head is sent in pieces of this many bytes, one for each gap."""
    gap_ms: float | None = None
    """The gap between frames where the options give none."""
    silent: bool = False
    """Nothing is sent, not even a head."""

    def head(self) -> bytes:
        """Status line and headers with the blank line."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Unknown"
        lines = [f"HTTP/1.1 {self.status} {phrase}", *(f"{name}: {value}" for name, value in self.headers)]
        if self.framing == "chunked":
            lines.append("transfer-encoding: chunked")
        elif self.framing == "close":
            lines.append("connection: close")
        if self.announced_length is not None:
            lines.append(f"content-length: {self.announced_length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def json_reply(body: bytes, status: int = 200) -> Reply:
    """A whole JSON body."""
    return Reply(status=status, headers=[("content-type", JSON_TYPE)], frames=[body], framing="length")


def plain_reply(kind: str, body: bytes, status: int = 200) -> Reply:
    """A whole body of another type."""
    return Reply(status=status, headers=[("content-type", kind)], frames=[body], framing="length")


def error_reply(body: dict[str, Any], status: int) -> Reply:
    """An error in its envelope."""
    return json_reply(msgspec.json.encode(body), status)


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _cut(frames: Iterable[bytes], size: int) -> Iterator[bytes]:
    held = b""
    for frame in frames:
        held += frame
        while len(held) >= size:
            yield held[:size]
            held = held[size:]
    if held:
        yield held


def steps(reply: Reply, options: Options) -> Iterator[Step]:
    """What to write when. Pieces are separate writes unless `burst` asks for one; a finite body only."""
    if reply.silent:
        yield options.head_delay / 1000, reply.ending
        return
    gap = (options.gap if options.gap is not None else reply.gap_ms or 0.0) / 1000
    if reply.framing == "length" and reply.announced_length is None:
        reply.frames = list(reply.frames)
        reply.announced_length = sum(map(len, reply.frames))
    pieces: Iterable[bytes] = (piece for piece in reply.frames if piece)
    if options.split is not None:
        pieces = _cut(pieces, options.split)
    if reply.framing == "chunked":
        pieces = map(_chunk, pieces)
    last = reply.tail
    if reply.framing == "chunked" and reply.complete:
        last = b"0\r\n\r\n" + last
    head = reply.preface + reply.head()

    before_head = options.head_delay / 1000
    before_body = options.delay / 1000
    if not reply.stream:
        before_head, before_body = before_head + before_body, 0.0
    if options.burst and isinstance(reply.frames, list):
        yield before_head + before_body, head + b"".join(pieces) + last
    else:
        whole = not reply.stream and options.split is None and reply.head_pieces is None
        if whole:
            # A small JSON answer leaves a real server in one packet, too.
            yield before_head, head + b"".join(pieces) + last
        else:
            yield from _pieces(head, reply.head_pieces, before_head, gap)
            wait = before_body
            for piece in pieces:
                yield wait, piece
                wait = gap
            if last:
                yield 0.0, last
    ending = Ending.CLOSE if reply.ending is Ending.KEEP and reply.framing == "close" else reply.ending
    yield (SETTLE_S if ending is Ending.RESET else 0.0), ending


def _pieces(head: bytes, size: int | None, wait: float, gap: float) -> Iterator[Step]:
    if size is None:
        yield wait, head
        return
    for at in range(0, len(head), size):
        yield wait, head[at : at + size]
        wait = gap
