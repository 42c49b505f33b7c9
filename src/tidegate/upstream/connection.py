"""One HTTP/1.1 connection to a provider.

Everything happens in the parser's callbacks: no task, queue or timer stands between the bytes that arrive and the
receiver that is told of them.
"""

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from tidegate.wire import errors

if TYPE_CHECKING:
    from tidegate.upstream.pool import Pool

__all__ = ["HEADER_LIMIT", "Clocks", "Connection", "Headers", "Receiver"]

HEADER_LIMIT = 64 * 1024
"""Most bytes of response header fields."""

DRAIN_LIMIT_S = 1.0
"""How long an answer that nobody needs any more may take to end before its connection is closed, not reused."""

Headers = list[tuple[bytes, bytes]]
"""Header fields in the order they came, names in lower case."""


class Clocks:
    """The deadlines of one attempt, in seconds; None switches a clock off. `total_at` is a loop time, not a length,
    because it is shared by all attempts of one request."""

    __slots__ = ("connect", "first_event", "idle", "total_at", "total_s")

    def __init__(
        self,
        *,
        connect: float,
        first_event: float | None,
        idle: float | None,
        total_at: float | None,
        total_s: float | None,
    ) -> None:
        self.connect = connect
        self.first_event = first_event
        self.idle = idle
        self.total_at = total_at
        self.total_s = total_s


class Receiver(Protocol):
    """Who is told of an answer. No method may raise."""

    def upstream_head(self, status: int, headers: Headers) -> None: ...

    def upstream_body(self, data: bytes) -> None: ...

    def upstream_end(self) -> None: ...

    def upstream_failed(self, error: errors.TidegateError) -> None: ...


class Connection(asyncio.Protocol):
    """Carries one exchange at a time and goes back to its pool in between."""

    __slots__ = (
        "_ended",
        "_final_head",
        "_header_bytes",
        "_headers",
        "_keep_alive",
        "_loop",
        "_parser",
        "_pieces",
        "_pool",
        "_status",
        "_transport",
        "_until_eof",
        "awaiting_first_event",
        "clocks",
        "closed",
        "deliver",
        "draining_until",
        "idle_until",
        "last_read",
        "on_body",
        "paused",
        "receiver",
        "started_at",
        "used",
        "wheel_slot",
    )

    def __init__(self, pool: "Pool", loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append
        self._headers: Headers = []
        self._header_bytes = 0
        self._status = 0
        self._final_head = False
        self._keep_alive = False
        self._until_eof = False
        self._ended = False
        self._parser: httptools.HttpResponseParser | None = None
        self.receiver: Receiver | None = None
        self.deliver = _drop
        self.clocks: Clocks | None = None
        self.awaiting_first_event = False
        self.started_at = 0.0
        self.last_read = 0.0
        self.paused = False
        self.used = False
        self.closed = False
        self.draining_until = 0.0
        self.idle_until = 0.0
        self.wheel_slot = -1

    # -- what an attempt does with it ---------------------------------------------------------------------------

    def send(self, request: list[bytes], receiver: Receiver, clocks: Clocks, *, wait_for_event: bool) -> None:
        """Start an exchange. `wait_for_event` arms the first-event clock until :meth:`saw_event`; without it only the
        total clock runs until the head has come (design §9, non-streaming calls)."""
        transport = self._transport
        if transport is None or self.closed:
            receiver.upstream_failed(errors.UpstreamBroken("the provider closed the connection"))
            return
        now = self._loop.time()
        self.receiver = receiver
        self.deliver = receiver.upstream_body
        self.clocks = clocks
        self.awaiting_first_event = wait_for_event
        self.started_at = self.last_read = now
        self._parser = httptools.HttpResponseParser(self)
        self._headers = []
        self._header_bytes = self._status = 0
        self._final_head = self._ended = self._until_eof = False
        if len(request) == 1:
            transport.write(request[0])
        else:
            transport.writelines(request)
        self._pool.wheel.watch(self, self._next_deadline(now))

    @property
    def fresh(self) -> bool:
        """True while not one byte of the present answer has come."""
        return self._status == 0 and self._header_bytes == 0

    def saw_event(self) -> None:
        """The first event is there: from now on the idle clock runs."""
        self.awaiting_first_event = False

    def pause(self) -> None:
        """Stop reading: the client does not keep up."""
        if not self.paused and self._transport is not None:
            self.paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self.paused and self._transport is not None:
            self.paused = False
            self.last_read = self._loop.time()
            self._transport.resume_reading()

    def release(self) -> None:
        """The receiver has all it needs. Reuse the connection if the rest of the answer ends soon, else close it."""
        self.receiver = None
        self.deliver = _drop
        if self._ended or self.closed:
            return
        self.resume()
        self.draining_until = self._loop.time() + DRAIN_LIMIT_S
        self._pool.wheel.watch(self, self.draining_until)

    def abort(self) -> None:
        """Close at once, whatever is under way; the receiver hears nothing more."""
        self.receiver = None
        self.deliver = _drop
        self._shut()

    # -- transport callbacks ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's

    def data_received(self, data: bytes) -> None:
        self.last_read = self._loop.time()
        parser = self._parser
        if parser is None:
            self._shut()  # bytes that nobody asked for: an answer to nothing cannot be told from one to our next request
            return
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if not self._ended:
                self._fail(
                    cause
                    if isinstance(cause, errors.ProviderError)
                    else errors.UpstreamBroken(f"the provider's answer is not valid HTTP: {error}")
                )
                return
            self._keep_alive = False
        except httptools.HttpParserUpgrade:
            self._fail(errors.UpstreamBroken("the provider switched protocols unasked"))
            return
        pieces = self._pieces
        if pieces:
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            self.deliver(body)
        if self._ended:
            self._finish()

    def eof_received(self) -> bool:
        self._closed_by_peer(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed_by_peer(exc)
        self._transport = None

    # -- parser callbacks ---------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value) + 4
        if self._header_bytes > HEADER_LIMIT:
            raise errors.UpstreamBroken(f"the provider's response headers are longer than {HEADER_LIMIT} bytes")
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        self._status = status
        if status < 200:
            return
        self._final_head = True
        self._keep_alive = self._parser.should_keep_alive()
        length_known = status in (204, 304)
        for name, _ in self._headers:
            if name in (b"content-length", b"transfer-encoding"):
                length_known = True
        self._until_eof = not length_known
        if self.receiver is not None:
            self.receiver.upstream_head(status, self._headers)

    def on_message_complete(self) -> None:
        if self._status < 200:
            self._headers = []
        else:
            self._ended = True

    # -- clocks -------------------------------------------------------------------------------------------------

    def check(self, now: float) -> float | None:
        """The wheel's look: fire the first clock that has run out."""
        if self.closed:
            return None
        if self._parser is None:
            if now >= self.idle_until:
                self._shut()
                return None
            return self.idle_until
        if self.receiver is None:
            if now >= self.draining_until:
                self._shut()
                return None
            return self.draining_until
        due = self._next_deadline(now)
        if due > now:
            return due
        self._fail(self._timeout(now))
        return None

    def _next_deadline(self, now: float) -> float:
        clocks = self.clocks
        assert clocks is not None
        due = now + 3600.0
        if clocks.total_at is not None:
            due = min(due, clocks.total_at)
        if self.paused:
            return due
        if self.awaiting_first_event:
            if clocks.first_event is not None:
                due = min(due, self.started_at + clocks.first_event)
        elif self._final_head and clocks.idle is not None:
            due = min(due, self.last_read + clocks.idle)
        return due

    def _timeout(self, now: float) -> errors.UpstreamTimeout:
        clocks = self.clocks
        assert clocks is not None
        if clocks.total_at is not None and now >= clocks.total_at:
            return errors.UpstreamTimeout(
                f"the answer was not complete within {clocks.total_s:g} s (total clock)", "total"
            )
        if self.awaiting_first_event:
            return errors.UpstreamTimeout(
                f"the provider sent no event within {clocks.first_event:g} s (first_event clock)", "first_event"
            )
        return errors.UpstreamTimeout(f"the provider was silent for {clocks.idle:g} s (idle clock)", "idle")

    # -- endings ------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """The answer has ended: the receiver is told, then the connection is free."""
        receiver = self.receiver
        self.receiver = None
        self.deliver = _drop
        self._parser = None
        self.used = True
        if self.paused:
            self.resume()
        if self._keep_alive and not self.closed:
            self._pool.put(self)
        else:
            self._shut()
        if receiver is not None:
            receiver.upstream_end()

    def _closed_by_peer(self, exc: Exception | None) -> None:
        if self.closed:
            return
        if self._parser is not None and self._until_eof and self._final_head and exc is None:
            self._keep_alive = False
            self._ended = True
            self._finish()
            return
        reason = f": {exc}" if exc is not None else ""
        self._fail(errors.UpstreamBroken(f"the provider closed the connection before its answer was complete{reason}"))

    def _fail(self, error: errors.ProviderError) -> None:
        receiver = self.receiver
        self.receiver = None
        self.deliver = _drop
        self._shut()
        if receiver is not None:
            receiver.upstream_failed(error)

    def _shut(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._pool.wheel.forget(self)
        self._pool.drop(self)
        if self._transport is not None:
            self._transport.abort()


def _drop(data: bytes) -> None:
    """Where the body of an answer goes that nobody waits for."""
