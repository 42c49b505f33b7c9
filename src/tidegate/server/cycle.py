"""One request on a cold route, run as an ordinary ASGI 3 application (spec 2.3)."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tidegate.server.reply import CLOSE, status_line
from tidegate.telemetry.log import get_logger
from tidegate.wire.errors import Internal

if TYPE_CHECKING:
    from tidegate.server.connection import Connection

__all__ = ["Cycle"]

App = Callable[..., Any]


class Cycle:
    """Gives an application its whole body at once (it is within the cap) and writes what it sends."""

    def __init__(
        self, connection: "Connection", app: App, scope: dict[str, Any], body: bytes, request_id: bytes
    ) -> None:
        self._connection = connection
        self._app = app
        self._scope = scope
        self._body: bytes | None = body
        self._request_id = request_id
        self._gone = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._started = False
        self._complete = False
        self._chunked = False
        self._head = b""
        self._bodiless = scope["method"] == "HEAD"

    async def run(self) -> None:
        try:
            await self._app(self._scope, self._receive, self._send)
        except Exception:
            get_logger().error("application_failed", exc_info=True, path=self._scope["path"])
            self._fail()
        else:
            if not self._complete:
                self._fail()

    # -- what the connection tells ------------------------------------------------------------------------------

    def client_gone(self) -> None:
        self._gone.set()
        self._writable.set()

    def pause(self) -> None:
        self._writable.clear()

    def resume(self) -> None:
        self._writable.set()

    # -- ASGI ---------------------------------------------------------------------------------------------------

    async def _receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        await self._writable.wait()
        if self._gone.is_set() or self._complete:
            return
        if message["type"] == "http.response.start":
            self._start(message)
        elif message["type"] == "http.response.body":
            self._write(message.get("body", b""), more=message.get("more_body", False))

    def _start(self, message: dict[str, Any]) -> None:
        self._started = True
        status = message["status"]
        lines = [status_line(status), self._connection.date, b"x-request-id: %b\r\n" % self._request_id]
        sized = status in (204, 304)
        for name, value in message.get("headers", ()):
            lines.append(b"%b: %b\r\n" % (name, value))
            sized = sized or name == b"content-length"
        self._chunked = not sized and self._connection.chunked and not self._bodiless
        if self._chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        elif not sized:
            self._connection.keep_alive = False
        if not self._connection.keep_alive:
            lines.append(CLOSE)
        lines.append(b"\r\n")
        self._head = b"".join(lines)

    def _write(self, body: bytes, *, more: bool) -> None:
        data = b"" if self._bodiless else body
        if self._chunked:
            data = (b"%x\r\n%b\r\n" % (len(data), data) if data else b"") + (b"" if more else b"0\r\n\r\n")
        head, self._head = self._head, b""
        self._connection.send(head + data)
        if not more:
            self._complete = True
            self._connection.finished()

    def _fail(self) -> None:
        if self._gone.is_set() or self._complete:
            return
        self._complete = True
        if self._started and not self._head:
            self._connection.drop()
        else:
            self._connection.refuse(Internal("The gateway failed on this request; its log has the details."))
