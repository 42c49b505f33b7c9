"""One request on a cold route, run as an ordinary ASGI 3 application (spec 2.3)."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from tidegate.server.reply import status_line
from tidegate.telemetry.log import get_logger
from tidegate.wire.errors import GatewayError, Internal, ShuttingDown

if TYPE_CHECKING:
    from tidegate.server.connection import Connection

__all__ = ["AsgiApp", "Cycle", "Message", "Receive", "Scope", "Send"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class Cycle:
    """Gives an application its whole body at once (it is within the cap) and writes what it sends."""

    def __init__(self, connection: "Connection", app: AsgiApp, scope: Scope, body: bytes) -> None:
        self._connection = connection
        self._app = app
        self._scope = scope
        self._body: bytes | None = body
        self._gone = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._started = False
        self._complete = False
        self._head = b""
        self._chunked = False
        self._length: int | None = None
        self._sent = 0
        self._bodiless = scope["method"] == "HEAD"

    async def run(self) -> None:
        try:
            await self._app(self._scope, self._receive, self._send)
            if not self._complete and not self._gone.is_set():
                raise RuntimeError("the application returned before its answer was complete")
        except Exception as bug:
            get_logger().error("application_failed", exc_info=bug, path=self._scope["path"])
            self._fail(Internal("The gateway failed on this request; its log has the details."))
        except asyncio.CancelledError:
            self._fail(ShuttingDown())
            raise

    # -- what the connection tells ------------------------------------------------------------------------------

    def client_gone(self) -> None:
        self._gone.set()
        self._writable.set()

    def pause(self) -> None:
        self._writable.clear()

    def resume(self) -> None:
        self._writable.set()

    # -- ASGI ---------------------------------------------------------------------------------------------------

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self._writable.wait()
        if self._gone.is_set():
            return
        kind = message["type"]
        if kind == "http.response.start" and not self._started:
            self._start(message)
        elif kind == "http.response.body" and self._started and not self._complete:
            self._write(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"the application sent '{kind}' out of turn")

    def _start(self, message: Message) -> None:
        """The head goes out with the first piece of the body."""
        connection = self._connection
        status = message["status"]
        lines = []
        for name, value in message.get("headers", ()):
            line = b"%b: %b\r\n" % (name, value)
            if any(mark in line[:-2] for mark in (b"\r", b"\n", b"\0")):
                raise ValueError("a response header has a line break in it")
            lines.append(line)
            if name == b"content-length":
                self._length = int(value)
        if status in (204, 304):  # RFC 9112 §6.3: these have no body, whatever the header fields say
            self._bodiless = True
        elif self._length is None and not self._bodiless:
            if connection.chunked:
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                connection.keep_alive = False
        start = (status_line(status), connection.date, b"x-request-id: %b\r\n" % connection.request_id)
        self._head = b"".join((*start, *lines, connection.head_fields(), b"\r\n"))
        self._started = True

    def _write(self, body: bytes, *, more: bool) -> None:
        self._sent += len(body)
        length = self._length
        if length is not None and not self._bodiless and (self._sent > length or (not more and self._sent < length)):
            # RFC 9112 §6.3: what came next on this connection would be taken for the rest of this answer.
            raise RuntimeError(f"the application announced {length} bytes and sent {self._sent}")
        data = b"" if self._bodiless else body
        if self._chunked:
            data = (b"%x\r\n%b\r\n" % (len(data), data) if data else b"") + (b"" if more else b"0\r\n\r\n")
        head, self._head = self._head, b""
        self._connection.send(head + data)
        if not more:
            self._complete = True
            self._connection.finished()

    def _fail(self, error: GatewayError) -> None:
        if self._gone.is_set() or self._complete:
            return
        self._complete = True
        if self._started and not self._head:
            self._connection.drop()
        else:
            self._connection.refuse(error)
