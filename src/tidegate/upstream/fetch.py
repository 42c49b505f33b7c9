"""A whole answer for those who can wait: model lists and probes, never the path of a stream."""

import asyncio

from tidegate.upstream.attempt import Attempt
from tidegate.upstream.connection import Clocks, Headers
from tidegate.upstream.pool import Pool
from tidegate.wire import errors

__all__ = ["fetch"]

BODY_LIMIT = 16 * 1024 * 1024


async def fetch(pool: Pool, request: list[bytes], *, timeout_s: float) -> tuple[int, bytes]:
    """Send `request` and return status and body. Raises TidegateError."""
    loop = asyncio.get_running_loop()
    answer = _Answer(loop)
    clocks = Clocks(connect=timeout_s, first_event=None, idle=timeout_s, total=timeout_s)
    attempt = Attempt(pool, loop, request, answer, clocks, begun_at=loop.time(), wait_for_event=False)
    answer.attempt = attempt
    attempt.start()
    try:
        return await answer.complete
    finally:
        attempt.abort()


class _Answer:
    """Collects an answer. See `Receiver`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.complete: asyncio.Future[tuple[int, bytes]] = loop.create_future()
        self.attempt: Attempt | None = None
        self._status = 0
        self._body = bytearray()

    def upstream_head(self, status: int, headers: Headers) -> None:
        self._status = status

    def upstream_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > BODY_LIMIT and self.attempt is not None:
            self.attempt.abort()
            self.upstream_failed(errors.UpstreamBroken(f"the answer is longer than {BODY_LIMIT} bytes"))

    def upstream_end(self) -> None:
        if not self.complete.done():
            self.complete.set_result((self._status, bytes(self._body)))

    def upstream_failed(self, error: errors.TidegateError) -> None:
        if not self.complete.done():
            self.complete.set_exception(error)
