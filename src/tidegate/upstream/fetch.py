"""A whole answer for those who can wait: model lists and probes, never the path of a stream."""

import asyncio

import msgspec

from tidegate.upstream.attempt import Attempt
from tidegate.upstream.connection import Clocks
from tidegate.upstream.head import Headers, fields_of
from tidegate.upstream.outgoing import Request
from tidegate.upstream.pool import Pool
from tidegate.wire import errors

__all__ = ["Fetched", "fetch"]

BODY_LIMIT = 16 * 1024 * 1024


class Fetched(msgspec.Struct, frozen=True):
    """A whole answer."""

    status: int
    headers: Headers
    body: bytes

    def header(self, name: bytes) -> bytes:
        """The last value of a header field, by its name in lower case; empty when there is none."""
        return next((value for one, value in reversed(self.headers) if one == name), b"")


async def fetch(pool: Pool, request: Request, *, timeout_s: float, body_limit: int = BODY_LIMIT) -> Fetched:
    """Send `request` and return what comes back. Raises TidegateError."""
    loop = asyncio.get_running_loop()
    answer = _Answer(loop, body_limit)
    clocks = Clocks(connect=timeout_s, first_event=None, idle=timeout_s, total=timeout_s)
    attempt = Attempt(pool, loop, request, answer, clocks, loop.time() + timeout_s, wait_for_event=False)
    answer.attempt = attempt
    attempt.start()
    try:
        return await answer.complete
    finally:
        attempt.abort()
        answer.attempt = None  # it refers to the answer


class _Answer:
    """Collects an answer. See `Receiver`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, body_limit: int) -> None:
        self.complete: asyncio.Future[Fetched] = loop.create_future()
        self._limit = body_limit
        self.attempt: Attempt | None = None
        self._status = 0
        self._headers: Headers = []
        self._body = bytearray()

    def upstream_head(self, status: int, head: bytes) -> None:
        self._status = status
        self._headers = fields_of(head)

    def upstream_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > self._limit and self.attempt is not None:
            self.attempt.abort()
            self.upstream_failed(errors.UpstreamBroken(f"the answer is longer than {self._limit} bytes"))

    def upstream_end(self) -> None:
        if not self.complete.done():
            self.complete.set_result(Fetched(self._status, self._headers, bytes(self._body)))

    def upstream_failed(self, error: errors.TidegateError) -> None:
        if not self.complete.done():
            self.complete.set_exception(error)
