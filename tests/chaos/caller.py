"""A client on a socket of its own, which may leave at any moment, read slowly, or come back."""

import asyncio
import contextlib
import socket
import struct
from typing import Literal, NamedTuple

__all__ = ["Answer", "Leave", "call"]

PATIENCE_S = 30.0

_RESET = struct.pack("ii", 1, 0)


class Leave(NamedTuple):
    """When a client goes: so many seconds after it has asked, or after so many bytes of the body; and how."""

    after_s: float | None = None
    after_bytes: int | None = None
    reset: bool = False


class Answer:
    """What came, as far as it came. Times are the loop's."""

    def __init__(self, asked_at: float) -> None:
        self.asked_at = asked_at
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.ended: Literal["whole", "cut", "left", "hung", "refused"] = "cut"
        self.ended_at = 0.0

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")


async def call(
    port: int,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes = b"",
    *,
    leave: Leave | None = None,
    sip: int = 0,
) -> Answer:
    """One request on a connection of its own. With `sip` the client takes so many bytes at a time, and rests."""
    loop = asyncio.get_running_loop()
    answer = Answer(loop.time())
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sip:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    try:
        await loop.sock_connect(sock, ("127.0.0.1", port))
        lines = [f"{method} {path} HTTP/1.1", "host: localhost", "connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body or method == "POST":
            lines.append(f"content-length: {len(body)}")
        head = "\r\n".join([*lines, "", ""]).encode()
        limit = PATIENCE_S if leave is None or leave.after_s is None else leave.after_s
        async with asyncio.timeout(limit):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # answered before all of it was sent
                await loop.sock_sendall(sock, head + body)
            await _read(loop, sock, answer, leave, sip)
    except ConnectionRefusedError:
        answer.ended = "refused"
    except OSError as error:
        # TimeoutError is one of them.
        answer.ended = "cut" if not isinstance(error, TimeoutError) else "left" if leave is not None else "hung"
    finally:
        answer.ended_at = loop.time()
        if answer.ended == "left" and leave is not None and leave.reset:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.close()
    return answer


async def _read(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, answer: Answer, leave: Leave | None, sip: int
) -> None:
    buffer = bytearray()
    reader = _Body(answer)
    head_done = False
    while True:
        data = await loop.sock_recv(sock, sip or 1 << 16)
        if not data:
            answer.ended = "whole" if head_done and reader.is_done(eof=True) else "cut"
            return
        buffer += data
        while not head_done and b"\r\n\r\n" in buffer:
            head, _, rest = bytes(buffer).partition(b"\r\n\r\n")
            buffer = bytearray(rest)
            first, *lines = head.decode("latin-1").split("\r\n")
            answer.status = int(first.split(" ")[1])
            answer.headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
            head_done = answer.status >= 200
        if head_done:
            reader.feed(buffer)
            buffer.clear()
            if reader.is_done(eof=False):
                answer.ended = "whole"
                return
        if leave is not None and leave.after_bytes is not None and len(answer.body) >= leave.after_bytes:
            answer.ended = "left"
            return
        if sip:
            await asyncio.sleep(0.002)


class _Body:
    """Takes the framing off a body."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._raw = bytearray()
        self._done = False

    def feed(self, data: bytes | bytearray) -> None:
        if self._answer.headers.get("transfer-encoding") != "chunked":
            self._answer.body += data
            return
        raw = self._raw
        raw += data
        while not self._done:
            end = raw.find(b"\r\n")
            if end < 0:
                return
            size = int(raw[:end], 16)
            if len(raw) < end + 2 + size + 2:
                return
            self._answer.body += raw[end + 2 : end + 2 + size]
            del raw[: end + 2 + size + 2]
            self._done = not size

    def is_done(self, *, eof: bool) -> bool:
        headers = self._answer.headers
        if headers.get("transfer-encoding") == "chunked":
            return self._done
        if "content-length" in headers:
            return len(self._answer.body) >= int(headers["content-length"])
        return eof
