"""One attempt: a request sent to one provider, its clocks, and a close that nothing can skip."""

import asyncio

from tidegate.upstream.connection import Clocks, Connection, Headers, Receiver
from tidegate.upstream.encoding import BodyDecoder, decoder_for
from tidegate.upstream.pool import Pool
from tidegate.wire import errors

__all__ = ["Attempt"]


class Attempt:
    """Sends `request` over a connection of `pool` and tells `receiver` what comes back.

    The receiver hears `upstream_head` at most once, then bodies, then exactly one of `upstream_end` and
    `upstream_failed`; after :meth:`abort` or :meth:`release` it hears nothing. A kept-alive connection that the provider
    had already closed is replaced once, before any byte of an answer (RFC 9112 §9.3.1: nothing was processed).
    """

    __slots__ = (
        "_clocks",
        "_connection",
        "_decoder",
        "_done",
        "_loop",
        "_opening",
        "_pool",
        "_receiver",
        "_request",
        "_wait_for_event",
    )

    def __init__(
        self,
        pool: Pool,
        loop: asyncio.AbstractEventLoop,
        request: list[bytes],
        receiver: Receiver,
        clocks: Clocks,
        *,
        wait_for_event: bool,
    ) -> None:
        self._pool = pool
        self._loop = loop
        self._request = request
        self._receiver = receiver
        self._clocks = clocks
        self._wait_for_event = wait_for_event
        self._connection: Connection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._decoder: BodyDecoder | None = None
        self._done = False

    def start(self) -> None:
        connection = self._pool.take()
        if connection is not None:
            self._use(connection)
        else:
            self._open()

    @property
    def last_read(self) -> float:
        """Loop time of the last bytes from the provider; 0 while there were none."""
        return self._connection.last_read if self._connection is not None else 0.0

    def saw_event(self) -> None:
        """The first event has come: from now on the idle clock runs."""
        if self._connection is not None:
            self._connection.saw_event()

    def pause(self) -> None:
        if self._connection is not None and not self._done:
            self._connection.pause()

    def resume(self) -> None:
        if self._connection is not None and not self._done:
            self._connection.resume()

    def release(self) -> None:
        """All that matters has come. The connection is reused if the answer ends within a second."""
        if not self._done:
            self._done = True
            if self._connection is not None:
                self._connection.release()

    def abort(self) -> None:
        """Close the connection now, or stop opening it."""
        if self._done:
            return
        self._done = True
        if self._opening is not None:
            self._opening.cancel()
        if self._connection is not None:
            self._connection.abort()

    # -- opening ------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._opening = self._loop.create_task(self._open_and_send())

    async def _open_and_send(self) -> None:
        seconds = self._clocks.connect
        clock = "connect"
        if self._clocks.total_at is not None:
            left = self._clocks.total_at - self._loop.time()
            if left < seconds:
                seconds, clock = left, "total"
        try:
            async with asyncio.timeout(seconds):
                connection = await self._pool.open()
        except TimeoutError:
            limit = self._clocks.total_s if clock == "total" else self._clocks.connect
            self._failed(
                errors.UpstreamTimeout(f"no connection to the provider within {limit:g} s ({clock} clock)", clock)
            )
        except errors.TidegateError as error:
            self._failed(error)
        except OSError as error:
            self._failed(errors.UpstreamUnreachable(f"no connection to the provider: {error}"))
        else:
            self._opening = None
            if self._done:
                connection.abort()
            else:
                self._use(connection)

    def _use(self, connection: Connection) -> None:
        self._connection = connection
        connection.send(self._request, self, self._clocks, wait_for_event=self._wait_for_event)
        # Chunks go straight to the receiver; an encoded body makes a detour through `upstream_body`.
        if connection.receiver is self:
            connection.deliver = self._receiver.upstream_body

    # -- what the connection tells ------------------------------------------------------------------------------

    def upstream_head(self, status: int, headers: Headers) -> None:
        try:
            self._decoder = decoder_for(headers)
        except errors.ProviderError as error:
            self._break(error)
            return
        if self._decoder is not None and self._connection is not None:
            self._connection.deliver = self.upstream_body
        self._receiver.upstream_head(status, headers)

    def upstream_body(self, data: bytes) -> None:
        assert self._decoder is not None
        try:
            plain = self._decoder.feed(data)
        except errors.ProviderError as error:
            self._break(error)
            return
        if plain:
            self._receiver.upstream_body(plain)

    def upstream_end(self) -> None:
        if self._done:
            return
        if self._decoder is not None and not self._decoder.complete:
            self._done = True
            self._receiver.upstream_failed(errors.UpstreamBroken("the provider's compressed answer was cut"))
            return
        self._done = True
        self._receiver.upstream_end()

    def upstream_failed(self, error: errors.TidegateError) -> None:
        connection = self._connection
        if (
            connection is not None
            and connection.used
            and connection.fresh
            and not isinstance(error, errors.UpstreamTimeout)
            and not self._done
        ):
            self._connection = None
            self._open()
            return
        self._failed(error)

    def _break(self, error: errors.ProviderError) -> None:
        if self._done:
            return
        self.abort()
        self._receiver.upstream_failed(error)

    def _failed(self, error: errors.TidegateError) -> None:
        if not self._done:
            self._done = True
            self._receiver.upstream_failed(error)
