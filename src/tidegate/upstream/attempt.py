"""One attempt: a request sent to one provider, its clocks, and a close that nothing can skip."""

import asyncio

import msgspec

from tidegate.upstream.connection import Clocks, Connection, Receiver
from tidegate.upstream.encoding import BodyDecoder, decoder_for
from tidegate.upstream.outgoing import Request
from tidegate.upstream.pool import Pool
from tidegate.wire import errors

__all__ = ["STALE_S", "Attempt"]

STALE_S = 1.0
"""How long after the request a close may come that was already under way when it was sent: a round trip, with some to spare."""

_FORGOTTEN = Request(b"", b"")


class Attempt(msgspec.Struct, eq=False):
    """Sends `request` over a connection of `pool` and tells `receiver` what comes back.

    The receiver hears `upstream_head` at most once, then bodies, then exactly one of `upstream_end` and
    `upstream_failed`; after :meth:`abort` or :meth:`release` it hears nothing. A kept-alive connection that the provider
    closes right after the request, before any byte of an answer, had most likely timed out there, so that the request was
    never read: it is sent once more, on a fresh connection (RFC 9112 §9.3.1 leaves this to clients that know their server).
    One that is closed later has had it read, and what follows is for the routing to decide. Every error names the provider.
    """

    pool: Pool
    loop: asyncio.AbstractEventLoop
    request: Request
    receiver: Receiver
    clocks: Clocks
    total_at: float
    """Loop time at which the total clock ends; infinite where it is off."""
    wait_for_event: bool
    """The first-event clock runs, until :meth:`saw_event`. Otherwise only the total clock runs until the head has come
    (design §9, non-streaming calls)."""
    _connection: Connection | None = None
    _opening: asyncio.Task[None] | None = None
    _decoder: BodyDecoder | None = None
    _paused: bool = False
    _done: bool = False

    def start(self) -> None:
        connection = self._connection = self.pool.take()
        if connection is None:
            self._open()
        else:
            connection.send(self)

    @property
    def sent(self) -> bool:
        """Whether the request is on its way to the provider, or was."""
        return self._connection is not None

    @property
    def last_read(self) -> float:
        """Loop time of the last bytes from the provider; 0 while there were none."""
        return self._connection.last_read if self._connection is not None else 0.0

    def saw_event(self) -> None:
        """The first event has come: from now on the idle clock runs."""
        self.wait_for_event = False

    def pause(self) -> None:
        self._paused = True
        if self._connection is not None and not self._done:
            self._connection.pause()

    def resume(self) -> None:
        self._paused = False
        if self._connection is not None and not self._done:
            self._connection.resume()

    def release(self) -> None:
        """All that matters has come. The connection is reused if the answer ends within a second."""
        if self._connection is None:
            self.abort()
        elif not self._done:
            self._done = True
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
        self._opening = self.loop.create_task(self._open_and_send())

    async def _open_and_send(self) -> None:
        seconds = self.clocks.connect
        clock = "connect"
        left = self.total_at - self.loop.time()
        if left < seconds:
            seconds, clock = left, "total"
        try:
            async with asyncio.timeout(seconds):
                connection = await self.pool.open()
        except TimeoutError:
            limit = self.clocks.total if clock == "total" else self.clocks.connect
            self._failed(errors.UpstreamTimeout(f"no connection within {limit:g} s ({clock} clock).", clock))
        except errors.TidegateError as error:
            self._failed(error)
        except Exception as bug:
            # Nobody waits for this task: an exception that left it would leave the receiver waiting for ever.
            self.loop.call_exception_handler({"message": "opening a connection failed", "exception": bug})
            self._failed(errors.Internal("The gateway failed to open a connection; its log has the details."))
        else:
            self._opening = None
            if self._done:
                connection.abort()
                return
            self._connection = connection
            if self._paused:
                connection.pause()
            connection.send(self)

    # -- what the connection tells ------------------------------------------------------------------------------

    def upstream_head(self, status: int, head: bytes, *, coded: bool) -> None:
        """`coded`: the head names a content coding."""
        self.request = _FORGOTTEN  # it will not be sent again, and it may be large
        if status == 407:
            self._break(errors.UpstreamUnreachable("the proxy refused the request with status 407."))
            return
        if coded:
            try:
                self._decoder = decoder_for(head)
            except errors.ProviderError as error:
                self._break(error)
                return
            if self._decoder is not None and self._connection is not None:
                self._connection.deliver = self.upstream_body  # instead of straight to the receiver
        self.receiver.upstream_head(status, head)

    def upstream_body(self, data: bytes) -> None:
        assert self._decoder is not None
        try:
            plain = self._decoder.feed(data)
        except errors.ProviderError as error:
            self._break(error)
            return
        if plain:
            self.receiver.upstream_body(plain)

    def upstream_end(self) -> None:
        if self._done:
            return
        if self._decoder is not None and not self._decoder.complete:
            self._failed(errors.UpstreamBroken("its compressed answer was cut."))
            return
        self._done = True
        self.receiver.upstream_end()

    def upstream_failed(self, error: errors.TidegateError) -> None:
        connection = self._connection
        if (
            connection is not None
            and connection.used
            and connection.fresh
            and self.loop.time() < connection.started_at + STALE_S
            and not isinstance(error, errors.UpstreamTimeout | errors.InsufficientStorage)
            and not self._done
        ):
            self._connection = None
            self._open()
            return
        self._failed(error)

    def _break(self, error: errors.ProviderError) -> None:
        """The answer cannot be used: close the connection and tell the receiver why."""
        if not self._done and self._connection is not None:
            self._connection.abort()
            self._failed(error)

    def _failed(self, error: errors.TidegateError) -> None:
        if not self._done:
            self._done = True
            if not isinstance(error, errors.Internal | errors.InsufficientStorage):
                error.message = f"Provider '{self.pool.name}': {error.message}"
            self.receiver.upstream_failed(error)
