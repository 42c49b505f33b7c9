"""An answer that is made while it is sent, and given up as soon as the client has left."""

import asyncio
import base64
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.types import Receive, Scope, Send

from tidegate.wire import jsonio
from tidegate.wire.errors import TidegateError

__all__ = ["EVENT_STREAM", "Body", "CutShort", "Events", "Relay"]

SEND_STALL_S: Final = 60.0
"""How long a client may refuse to read before its worker is given to others."""

PING_S: Final = 10.0
"""Silence after which a stream of events gets a comment, so that nobody on the way takes it for dead."""

EVENT_STREAM: Final = "text/event-stream; charset=utf-8"


class CutShort(Exception):
    """The answer has begun and cannot be finished: the connection is dropped, so that nobody takes it for whole."""


class Body:
    """The answer on its way out."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def start(self, content_type: str, headers: Mapping[str, str] | None = None, *, length: int = -1) -> None:
        fields = {"content-type": content_type, **(headers or {})}
        if length >= 0:
            fields["content-length"] = str(length)
        raw = [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields.items()]
        self.started = True
        await self._pass({"type": "http.response.start", "status": 200, "headers": raw})

    async def write(self, data: bytes) -> None:
        await self._pass({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        await self._pass({"type": "http.response.body", "body": b"", "more_body": False})

    async def whole(self, content_type: str, data: bytes, headers: Mapping[str, str]) -> None:
        await self.start(content_type, headers, length=len(data))
        await self.write(data)
        await self.end()

    async def _pass(self, message: "dict[str, object]") -> None:
        try:
            async with asyncio.timeout(SEND_STALL_S):
                await self._send(message)
        except TimeoutError:
            raise CutShort(f"the client did not read for {SEND_STALL_S:g} seconds") from None


class Relay:
    """An ASGI response whose content `work` makes. `work` is cancelled when the client leaves."""

    def __init__(self, work: Callable[[Body], Awaitable[None]]) -> None:
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = Body(send)

        async def make() -> None:
            try:
                await self._work(body)
            except TidegateError as error:
                if body.started:
                    raise CutShort(error.message) from error
                raise

        async def left() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        making = asyncio.ensure_future(make())
        leaving = asyncio.ensure_future(left())
        try:
            await asyncio.wait((making, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (making, leaving):
                task.cancel()
            await asyncio.wait((making, leaving))
        if making.cancelled():
            return
        failure = making.exception()
        if isinstance(failure, CutShort):
            # To return without the end of the answer is how an ASGI application has its connection dropped.
            sys.stderr.write(f"An answer was cut short: {failure}\n")
        elif failure is not None:
            raise failure


class Events:
    """A stream of server-sent events, ended by `[DONE]`; OpenAI's audio streams carry the event's name in `type`."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._rest = b""

    async def event(self, event: dict[str, object]) -> None:
        await self._body.write(b"data: %b\n\n" % jsonio.encode(event))

    async def audio(self, data: bytes) -> None:
        """A piece of sound. Only whole groups of three bytes go out, so that each event's text can be decoded alone and
        all of them joined can be as well."""
        data = self._rest + data
        whole = len(data) - len(data) % 3
        self._rest = data[whole:]
        if whole:
            await self._audio(data[:whole])

    async def flush(self) -> None:
        if self._rest:
            await self._audio(self._rest)

    async def ping(self) -> None:
        await self._body.write(b": still working\n\n")

    async def done(self, event: dict[str, object]) -> None:
        await self.event(event)
        await self._body.write(b"data: [DONE]\n\n")
        await self._body.end()

    async def failed(self, error: TidegateError) -> None:
        """The stream's form has room for an error: say it, and end without `[DONE]`."""
        await self._body.write(b"data: %b\n\n" % (error.body()))
        await self._body.end()

    async def _audio(self, data: bytes) -> None:
        await self.event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode("ascii")})
