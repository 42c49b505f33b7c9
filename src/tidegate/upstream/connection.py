"""One HTTP/1.1 connection to a provider.

Everything happens in the parser's callbacks: no task, queue or timer stands between the bytes that arrive and the
receiver that is told of them.
"""

import asyncio
import math
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, cast

import httptools

from tidegate.upstream.head import CODED, LENGTH, WRAPPED, head_of, rest_of
from tidegate.upstream.outgoing import Outgoing
from tidegate.upstream.tls import Tls
from tidegate.upstream.wheel import UNWATCHED
from tidegate.wire import errors

if TYPE_CHECKING:
    from tidegate.upstream.attempt import Attempt
    from tidegate.upstream.pool import Pool

__all__ = ["HEADER_LIMIT", "Clocks", "Connection", "Receiver"]

HEADER_LIMIT = 64 * 1024
"""Most bytes of response header fields, and of anything else that is not body."""

DRAIN_LIMIT_S = 1.0
"""How long an answer that nobody needs any more may take to end before its connection is closed, not reused."""

LOOK_S = 3600.0
"""How often a connection is looked at whose clocks are all off."""

# How far an exchange has come; they are compared by order.
_IDLE: Final = 0
"""There is none: whatever comes now was not asked for."""
_SENT: Final = 1
"""The request is under way, and no head has begun, or only interim ones have come."""
_HEAD: Final = 2
_BODY: Final = 3
"""The head is there, and all of it is fit to be used."""
_ENDED: Final = 4


class Clocks:
    """The deadlines of a call, in seconds; None switches a clock off. `total` counts from the start of the request, so
    that its attempts share it."""

    __slots__ = ("connect", "first_event", "idle", "shortest", "total", "total_s")

    def __init__(self, *, connect: float, first_event: float | None, idle: float | None, total: float | None) -> None:
        self.connect = connect
        self.first_event = first_event
        self.idle = idle
        self.total = total
        self.total_s = math.inf if total is None else total
        """`total`, infinite where it is off."""
        self.shortest = min(clock for clock in (first_event, idle, LOOK_S) if clock is not None)
        """The clock among those that start anew while an answer comes which runs out first."""


class Receiver(Protocol):
    """Who is told of an answer. No method may raise."""

    def upstream_head(self, status: int, head: bytes) -> None:
        """`head` is for the functions of :mod:`tidegate.upstream.head`."""

    def upstream_body(self, data: bytes) -> None: ...

    def upstream_end(self) -> None: ...

    def upstream_failed(self, error: errors.TidegateError) -> None: ...


class Connection(asyncio.Protocol):
    """Carries one exchange at a time and goes back to its pool in between.

    Error messages are the second half of a sentence: the attempt puts the provider's name before them.
    """

    __slots__ = (
        "_dry_bytes",
        "_head",
        "_head_since",
        "_keep_alive",
        "_loop",
        "_may_write",
        "_outgoing",
        "_parser",
        "_pieces",
        "_pool",
        "_stage",
        "_status",
        "_transport",
        "_until_eof",
        "attempt",
        "closed",
        "deliver",
        "draining_until",
        "idle_until",
        "last_read",
        "look_at",
        "on_body",
        "paused",
        "started_at",
    )

    def __init__(self, pool: "Pool", loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._stage = _IDLE
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append
        self._head = b""
        """What came of the head, and after it in the same read; nothing once the head is complete."""
        self._head_since = 0.0
        self._dry_bytes = 0
        """Bytes of the reads since the last of the body: head, chunk framing, trailers."""
        self._status = 0
        self._keep_alive = False
        self._until_eof = False
        """The answer ends with its connection; it is the last one then."""
        self._may_write = True
        self._outgoing: Outgoing | None = None
        """What is left to send of the request; None once the transport has all of it."""
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        """One for all answers of the connection. It refers to its callbacks, and they to it, until the end."""
        self.attempt: Attempt | None = None
        """Who waits for the answer."""
        self.deliver: Callable[[bytes], None] = _drop
        """Where its body goes."""
        self.started_at = 0.0
        self.last_read = 0.0
        self.paused = False
        self.closed = False
        self.draining_until = 0.0
        self.idle_until = 0.0
        """Loop time at which it is closed if nobody takes it from the pool; 0 before it was in there."""
        self.look_at = UNWATCHED

    # -- what an attempt does with it ---------------------------------------------------------------------------

    def send(self, attempt: "Attempt") -> None:
        """Start an exchange: the attempt's receiver is given the body, the attempt itself is told of everything else. The
        head of its request names the origin that this connection leads to, or nothing is sent (P8)."""
        self.started_at = self.last_read = now = self._loop.time()
        self._stage = _SENT
        self._dry_bytes = 0
        request, transport = attempt.request, self._transport
        if request.host_line is not self._pool.host_line and not request.names(self._pool.host_line):
            # Its credential belongs to that other origin. Whatever mistake of ours led here ends here.
            self._shut()
            attempt.upstream_failed(errors.Internal("The request was made for another origin, and was not sent."))
            return
        if transport is None or transport.is_closing():  # closed, and the loop has not told us yet
            self._shut()
            attempt.upstream_failed(errors.UpstreamBroken("closed the connection."))
            return
        self.attempt = attempt
        self.deliver = attempt.receiver.upstream_body
        transport.write(request.head)
        if request.rest:
            outgoing = Outgoing(request.rest)
            if not outgoing.done:
                self._outgoing = outgoing
                self._send_more()
        # From now on there is a look at least once in the shortest clock (see `check`). Whatever starts a clock anew in
        # between leaves the next look in time, so that only this place and `release` ask for one.
        look_at = now + attempt.clocks.shortest
        if look_at > attempt.total_at:
            look_at = attempt.total_at
        if self.look_at > look_at:
            self._pool.wheel.watch(self, look_at)

    @property
    def used(self) -> bool:
        """Whether it has carried an exchange before."""
        return self.idle_until > 0

    @property
    def fresh(self) -> bool:
        """Whether not one byte of the present answer has come."""
        return self._stage == _SENT and not self._dry_bytes

    def pause(self) -> None:
        """Stop reading: the client does not keep up."""
        if not self.paused and self._transport is not None:
            self.paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self.paused and self._transport is not None:
            self.paused = False
            # Silence was ours as long as we did not read.
            now = self.last_read = self._loop.time()
            if self.attempt is not None and self.attempt.wait_for_event:
                self.started_at = now
            self._transport.resume_reading()

    def release(self) -> None:
        """The receiver has all it needs. Reuse the connection if the rest of the answer ends soon, else close it."""
        self.attempt = None
        self.deliver = _drop
        if self._stage == _ENDED or self.closed:
            return
        if self._outgoing is not None:
            self._shut()  # nobody keeps the rest of the request
            return
        self.resume()
        self.draining_until = self._loop.time() + DRAIN_LIMIT_S
        self._pool.wheel.watch(self, self.draining_until)

    def abort(self) -> None:
        """Close at once, whatever is under way; the attempt hears nothing more."""
        self.attempt = None
        self.deliver = _drop
        self._shut()

    @property
    def certificate(self) -> bytes | None:
        """What the other end has shown, in DER; None without TLS, or when it is closed."""
        tls: ssl.SSLObject | None = None if self._transport is None else self._transport.get_extra_info("ssl_object")
        return None if tls is None else tls.getpeercert(binary_form=True)

    # -- transport callbacks ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's

    def data_received(self, data: bytes) -> None:
        self.last_read = self._loop.time()
        parser, stage = self._parser, self._stage
        if parser is None or stage == _IDLE:
            self._shut()  # bytes that nobody asked for: an answer to nothing cannot be told from one to our next request
            return
        if stage < _BODY:
            self._head += data
        problem: errors.TidegateError | None = None
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            problem = self._problem(error)
        pieces = self._pieces
        if pieces:
            self._dry_bytes = 0
            body = pieces.pop()
            if pieces:
                body = b"".join((*pieces, body))
                pieces.clear()
            self.deliver(body)
        elif self._stage != _ENDED:
            self._on_dry_read(len(data))
        if self._stage == _ENDED:
            if problem is not None:
                self._keep_alive = False  # what follows the answer makes nothing wrong but the connection
            self._finish()
        elif problem is not None:
            self._fail(problem)

    def eof_received(self) -> bool:
        if self._stage == _BODY and self._until_eof and not self.closed and self._closed_on_purpose():
            self._stage = _ENDED
            self._finish()
        else:
            self._closed_by_peer(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed_by_peer(exc)
        self._transport = None

    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        # The request goes on: the provider owes an event only from the time it has all of it.
        self.started_at = self._loop.time()
        if self._outgoing is not None:
            self._send_more()

    def _send_more(self) -> None:
        transport = self._transport
        assert transport is not None
        while self._may_write and (outgoing := self._outgoing) is not None and not outgoing.fetching:
            if self._refused:
                return
            piece = outgoing.take()
            if piece is None:
                outgoing.fetch(self._on_piece)
                return
            self._send_piece(outgoing, piece)

    def _send_piece(self, outgoing: Outgoing, piece: bytes | memoryview) -> None:
        if outgoing.done:
            self._outgoing = None
        assert self._transport is not None
        self._transport.write(piece)

    def _on_piece(self, outgoing: Outgoing, piece: bytes | errors.TidegateError) -> None:
        """A piece of the request has been read; perhaps of an earlier one, which nobody waits for any more."""
        if outgoing is not self._outgoing or self._refused:
            return
        if not isinstance(piece, bytes):
            self._fail(piece)
            return
        self.started_at = self._loop.time()
        self._send_piece(outgoing, piece)
        self._send_more()

    @property
    def _refused(self) -> bool:
        """The answer has come before its request was sent, and is an error: the rest would be for nothing (RFC 9112
        §9.6)."""
        return self._stage >= _BODY and self._status >= 400

    # -- parser callbacks ---------------------------------------------------------------------------------------
    # There is none for a field: most are read by nobody (see `tidegate.upstream.head`).

    def on_message_begin(self) -> None:
        if self._stage == _ENDED:
            raise errors.UpstreamBroken("sent a second answer to one request.")
        self._stage = _HEAD
        self._head_since = self.last_read

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        self._status = status = parser.get_status_code()
        if status < 200:
            if status < 100:
                raise errors.UpstreamBroken(f"answered with the impossible status {status:03}.")
            return
        head = head_of(self._head)
        self._head = b""
        if len(head) > HEADER_LIMIT:
            raise _head_too_long()
        coded = CODED.search(head) is not None
        if coded and WRAPPED.search(head) is not None:  # RFC 9112 §7: we offered no other coding in TE
            raise errors.UpstreamBroken("answered in a transfer coding other than chunked.")
        self._stage = _BODY
        self._keep_alive = parser.should_keep_alive()
        if not self._keep_alive:
            self._until_eof = LENGTH.search(head) is None
        attempt = self.attempt
        if attempt is not None:
            attempt.upstream_head(status, head, coded=coded)

    def on_message_complete(self) -> None:
        if self._stage == _BODY:
            self._stage = _ENDED
        else:  # an interim answer (RFC 9110 §15.2)
            self._stage = _SENT
            self._head = rest_of(self._head)

    def _on_dry_read(self, size: int) -> None:
        """A read brought neither body nor end. An endless line would otherwise grow unseen."""
        self._dry_bytes += size
        if self._dry_bytes > HEADER_LIMIT:
            self._fail(
                errors.UpstreamBroken(f"sent more than {HEADER_LIMIT} bytes of chunk framing.")
                if self._stage >= _BODY
                else _head_too_long()
            )

    def _problem(self, error: Exception) -> errors.TidegateError:
        """What an exception of the parser says about the answer."""
        cause = error.__context__
        if isinstance(cause, errors.ProviderError):
            return cause
        if cause is not None:  # raised in a callback, thus by us; never blame the provider for it
            self._loop.call_exception_handler({"message": "a receiver failed", "exception": cause})
            return errors.Internal("The gateway failed on this answer; its log has the details.")
        if self._status == 101:
            return errors.UpstreamBroken("switched protocols unasked.")
        return errors.UpstreamBroken(f"its answer is not valid HTTP: {error}.")

    # -- clocks -------------------------------------------------------------------------------------------------

    def check(self, now: float) -> float | None:
        """The wheel's look: fire the first clock that has run out."""
        if self.closed:
            return None
        if self._stage == _IDLE:
            if now >= self.idle_until:
                self._shut()
                return None
            return self.idle_until
        attempt = self.attempt
        if attempt is None:
            if now >= self.draining_until:
                self._shut()
                return None
            return self.draining_until
        due = self._deadline(attempt)
        if due > now:
            # A clock that starts anew after this look runs at least as long as the shortest one.
            return min(due, now + attempt.clocks.shortest)
        self._fail(self._timeout(attempt, now))
        return None

    def _deadline(self, attempt: "Attempt") -> float:
        """Loop time at which the first clock runs out, as things stand."""
        clocks, due = attempt.clocks, attempt.total_at
        if self.paused:
            return due
        if attempt.wait_for_event or (self._outgoing is not None and self._stage < _BODY):
            if clocks.first_event is not None:
                due = min(due, self.started_at + clocks.first_event)
        elif clocks.idle is not None:
            if self._stage >= _BODY:
                due = min(due, self.last_read + clocks.idle)
            elif self._stage == _HEAD:
                # A head comes in one piece. Byte by byte it would renew the gap for ever, and no clock but the total
                # one, which can be off, would see it.
                due = min(due, self._head_since + clocks.idle)
        return due

    def _timeout(self, attempt: "Attempt", now: float) -> errors.TidegateError:
        clocks = attempt.clocks
        if now >= attempt.total_at:
            return errors.UpstreamTimeout(f"no complete answer within {clocks.total:g} s (total clock).", "total")
        outgoing = self._outgoing
        if outgoing is not None and outgoing.fetching:
            return errors.InsufficientStorage(
                f"The upload cannot be read again: the disk gave nothing for {clocks.first_event:g} s (first_event clock)."
            )
        if attempt.wait_for_event or (outgoing is not None and self._stage < _BODY):
            if outgoing is not None:
                return errors.UpstreamTimeout(
                    f"took no more of the request for {clocks.first_event:g} s (first_event clock).", "first_event"
                )
            return errors.UpstreamTimeout(
                f"no event within {clocks.first_event:g} s (first_event clock).", "first_event"
            )
        if self._stage < _BODY:
            return errors.UpstreamTimeout(f"no complete head within {clocks.idle:g} s (idle clock).", "idle")
        return errors.UpstreamTimeout(f"silent for {clocks.idle:g} s (idle clock).", "idle")

    # -- endings ------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """The answer has ended: the connection is free, then the attempt is told, whose receiver may take it again at
        once."""
        if self.closed:
            return
        attempt = self.attempt
        self.attempt = None
        self.deliver = _drop
        self._stage = _IDLE
        if self.paused:
            self.resume()
        transport = self._transport
        if (
            self._keep_alive
            # An answer to a request that is not wholly sent: the rest of it would stand before the next one.
            and self._outgoing is None
            and transport is not None
            and not transport.get_write_buffer_size()
        ):
            self._pool.put(self)
        else:
            self._shut()
        if attempt is not None:
            attempt.upstream_end()

    def _closed_on_purpose(self) -> bool:
        """False when TLS ended without close_notify: anybody may have cut an answer that ends with its connection
        (RFC 9112 §9.8)."""
        return not isinstance(self._transport, Tls) or self._transport.has_ended

    def _closed_by_peer(self, exc: Exception | None) -> None:
        if self.closed:
            return
        reason = f": {exc.strerror or exc}" if isinstance(exc, OSError) else ""
        self._fail(errors.UpstreamBroken(f"closed the connection before its answer was complete{reason}."))

    def _fail(self, error: errors.TidegateError) -> None:
        attempt = self.attempt
        self.attempt = None
        self.deliver = _drop
        self._shut()
        if attempt is not None:
            attempt.upstream_failed(error)

    def _shut(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._parser = None
        self._outgoing = None
        self._pool.wheel.forget(self)
        self._pool.drop(self)
        if self._transport is not None:
            self._transport.abort()


def _head_too_long() -> errors.UpstreamBroken:
    return errors.UpstreamBroken(f"its response head is longer than {HEADER_LIMIT} bytes.")


def _drop(data: bytes) -> None:
    """Where the body of an answer goes that nobody waits for."""
