"""One client connection: HTTP/1.1 towards the client, our own protocol class hosted by `uvicorn.Server`.

The reader turns bytes into requests; this class answers them one after another. A request on a hot route goes straight
from the parser's callback into an exchange, every other one runs as an ASGI application. Reading goes on while a request
is answered, so that a client's departure is seen (promise P6).
"""

import asyncio
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from tidegate.dialects.dialect import JSON
from tidegate.gateway.exchange import DEFAULT_SEND_STALL_S, Exchange
from tidegate.server import reply
from tidegate.server.cycle import Cycle
from tidegate.server.handshake import accepted
from tidegate.server.incoming import Incoming, not_kept_in_time
from tidegate.server.keeping import Keeping
from tidegate.server.origin import cors_fields, preflight_fields
from tidegate.server.reader import Reader
from tidegate.server.refusal import refused
from tidegate.server.websocket import WebSocket
from tidegate.upstream.wheel import UNWATCHED
from tidegate.wire import errors
from tidegate.wire.forms import Form

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

    from tidegate.server.app import Application

__all__ = ["Connection"]

PIPELINE_LIMIT = 16
PIPELINE_BYTES = 1024 * 1024
"""Most requests, and most bytes of them, that may wait behind a running one. The answer to the last of them closes the
connection, and the client repeats what came after (RFC 9112 §9.3.2)."""

LINGER_SILENCE_S = 2.0
LINGER_S = 30.0
"""How long input is still thrown away after the last answer: until the client is silent, at most this long. Closing
while it sends would reset the connection, and the answer would be lost with it (RFC 9112 §9.6)."""

DRAIN_IDLE_S = 0.5
"""How long a connection stays open while draining on which something may be on its way: a request on a new one, or on one whose
client has just had an answer; the rest of what was refused."""

TURN_BYTES = 64 * 1024
"""What an upload may bring without giving way, the whole of most forms. A socket that is full is read until it is empty,
megabytes at a time, and ten of them would hold up everything else on the loop for tens of milliseconds."""

_RESET = struct.pack("ii", 1, 0)
"""Linger on, for no time: closing sends a reset (socket(7))."""


class Connection(asyncio.Protocol):
    """See the module. `uvicorn.Server` makes one for each connection, calls `shutdown` when draining begins, and reads
    nothing else of it."""

    __slots__ = (
        "_app",
        "_closing",
        "_date",
        "_date_source",
        "_gateway",
        "_gives_way",
        "_held",
        "_idle_since",
        "_loop",
        "_paused",
        "_queue",
        "_queued_bytes",
        "_reader",
        "_request",
        "_running",
        "_server",
        "_settings",
        "_state",
        "_transport",
        "_unsent",
        "_unsent_since",
        "_wheel",
        "chunked",
        "client",
        "keep_alive",
        "look_at",
    )

    def __init__(
        self,
        config: "Config",
        server_state: "ServerState",
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        app: Application = config.app  # type: ignore[assignment]
        self._app = app
        self._gateway = app.gateway
        self._settings = app.gateway.snapshot.config.server
        self._wheel = app.gateway.wheel
        self._loop = _loop or asyncio.get_running_loop()
        self._server = server_state
        self._state = app_state
        self.client = ""
        self._reader = Reader(self, app, self._loop)
        self._transport: asyncio.Transport | None = None
        self._request: Incoming | None = None
        self._running: Exchange | Cycle | Keeping | None = None
        self._queue: deque[Incoming] = deque()
        self._queued_bytes = 0
        self._idle_since = 0.0
        self._paused = False
        self._held = False
        """The disk does not keep up with an upload."""
        self._gives_way = False
        """An upload has brought much, and others are to have their turn."""
        self._unsent = 0
        self._unsent_since = 0.0
        self._closing = False
        self._date = b""
        self._date_source: object = None
        self.keep_alive = True
        self.chunked = True
        self.look_at = UNWATCHED

    # -- transport ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's
        self._server.connections.add(self)  # type: ignore[arg-type]
        peer = transport.get_extra_info("peername")
        self.client = peer[0] if isinstance(peer, tuple) else ""
        self._rest()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        incoming = self._reader.incoming
        if incoming is not None:
            self._await_rest()
            if incoming.form is not None and len(data) >= TURN_BYTES and not self._gives_way:
                self._gives_way = True
                self._pause_reading()
                self._app.spools.turns.wait(self._read_on)

    def eof_received(self) -> bool:
        """The client will send no more. Like nginx, we take it as a departure: a closed socket looks the same, and
        waiting for a write to fail would let the upstream call run on (promise P6)."""
        return self._gone()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._gone()
        self._wheel.forget(self)
        self._reader.close()
        self._transport = None

    def pause_writing(self) -> None:
        self._paused = True
        if self._running is not None:
            self._running.pause()
        self._watch_unsent()

    def resume_writing(self) -> None:
        self._paused = False
        if self._running is not None:
            self._running.resume()
        elif self._queue:
            self._run_next()

    def shutdown(self) -> None:
        """No new work is taken on: what has begun is answered, and what comes behind it is refused. A new connection gets
        a moment: its client had no way to know."""
        is_new = self._request is None
        self._reader.refuses = not is_new
        if self._closing:
            self._wheel.forget(self)
            self._wheel.watch(self, self._loop.time() + DRAIN_IDLE_S)
        if not self._idle:
            return
        if is_new:
            self._wheel.forget(self)
            self._rest()
        else:
            self._close()

    def leave(self) -> None:
        """Draining has ended: exchanges have had their ending, and what is still being sent to us is refused."""
        if isinstance(self._running, Keeping):
            self.kept(self._running, errors.ShuttingDown())
        elif self._running is None and not self._queue and not self._closing:
            self._reader.shut()
            if self._running is None and not self._closing:
                self._close()

    # -- requests -----------------------------------------------------------------------------------------------

    def receive(self, incoming: Incoming) -> None:
        """The reader has a request: its turn is now, or after those before it."""
        if self._running is None and not self._queue and not self._paused:
            self._run(incoming)
            return
        waiting = incoming.measure_head() + incoming.body_bytes
        if len(self._queue) >= PIPELINE_LIMIT or self._queued_bytes + waiting > PIPELINE_BYTES:
            incoming.let_go()
            self._reader.stop()
            return
        self._queue.append(incoming)
        self._queued_bytes += waiting

    def upgrade(self, incoming: Incoming, rest: bytes) -> None:
        """The connection becomes a WebSocket."""
        transport = self._transport
        try:
            if self._running is not None or self._queue or self._paused:
                raise errors.UpgradeRefused("A WebSocket begins when all requests before it have been answered.")
            head = accepted(incoming, self.date)
        except errors.TidegateError as refusal:
            refusal.__traceback__ = None  # as its frames refer to the request
            incoming.keep_alive = False
            incoming.refusal = refusal
            self.receive(incoming)
            return
        if transport is None:
            return
        self._server.total_requests += 1
        self._server.connections.discard(self)
        self._wheel.forget(self)
        self._reader.close()
        self._transport = None
        socket = WebSocket(self._gateway, self._server, incoming, self.client)
        transport.set_protocol(socket)
        socket.connection_made(transport)
        transport.write(head)
        if rest:
            socket.data_received(rest)

    def hold(self) -> None:
        self._held = True
        self._pause_reading()

    def go_on(self) -> None:
        self._held = False
        self._resume_reading()

    def _read_on(self) -> None:
        self._gives_way = False
        self._resume_reading()

    def _pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not (self._held or self._gives_way) and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _run_next(self) -> None:
        # While the client leaves an answer unread, the next one would only pile up behind it.
        if self._queue and self._running is None and not self._paused:
            incoming = self._queue.popleft()
            self._queued_bytes -= incoming.head_bytes + incoming.body_bytes
            self._run(incoming)

    def _run(self, incoming: Incoming) -> None:
        self._server.total_requests += 1
        self._request = incoming
        self.keep_alive = incoming.keep_alive
        self.chunked = incoming.version == "1.1"
        try:
            if incoming.refusal is not None:
                self._refuse_head(incoming, incoming.refusal)
            elif self._gateway.closed:
                raise errors.ShuttingDown
            elif incoming.form is not None:
                self._running = keeping = Keeping(self, incoming, self._loop.time())
                self._wheel.watch(self, keeping.until(self._settings))
                incoming.form.finish(keeping.done)
            elif incoming.dialect is not None:
                body, incoming.body = bytes(incoming.body), b""
                self._exchange(incoming).run(body)
            elif _is_preflight(incoming):
                self._answer_preflight(incoming)
            else:
                self._run_cold(incoming)
        except errors.TidegateError as refusal:
            self._refuse_head(incoming, refusal)
        except Exception as bug:
            self._on_bug(bug)

    def _exchange(self, incoming: Incoming) -> Exchange:
        assert incoming.dialect is not None
        assert incoming.principal is not None
        exchange = self._running = Exchange(
            self._gateway,
            self,
            incoming.dialect,
            incoming.principal,
            incoming.fields,
            incoming.request_id,
            self.client,
        )
        return exchange

    def kept(self, keeping: "Keeping", form: Form | errors.TidegateError) -> None:
        """The upload is on disk, or cannot be."""
        if self._running is not keeping:
            return  # the client has left, or the disk was too slow
        try:
            if isinstance(form, Form):
                self._exchange(keeping.incoming).run(form)
            else:
                self._refuse_head(keeping.incoming, form)
        except Exception as bug:
            self._on_bug(bug)

    def _refuse_head(self, incoming: Incoming, refusal: errors.TidegateError) -> None:
        """No exchange answers for a request that is refused before its body is wanted: its entry is made here."""
        dialect = incoming.dialect
        entry = refused(
            refusal,
            refusal.http_status if dialect is None else dialect.error_status(refusal),
            request_id=incoming.request_id,
            endpoint=dialect.name if dialect is not None else "",
            client=self.client,
        )
        self._gateway.settle(entry, "")
        self.refuse(refusal)

    def _run_cold(self, incoming: Incoming) -> None:
        body, incoming.body = bytes(incoming.body), b""
        cycle = Cycle(self, self._app.cold, self._scope(incoming), body)
        self._running = cycle
        task = self._loop.create_task(cycle.run())
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    def _answer_preflight(self, incoming: Incoming) -> None:
        fields = preflight_fields(incoming.fields.get(b"access-control-request-headers", b""))
        self.send(reply.empty_head(self.date, incoming.request_id, fields + self.head_fields()))
        self.finished()

    def _scope(self, incoming: Incoming) -> dict[str, Any]:
        path, _, query = incoming.url.partition(b"?")
        transport = self._transport
        local = transport.get_extra_info("sockname") if transport is not None else None
        peer = transport.get_extra_info("peername") if transport is not None else None
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": incoming.version,
            "server": local[:2] if isinstance(local, tuple) else None,
            "client": peer[:2] if isinstance(peer, tuple) else None,
            "scheme": "http",
            "method": incoming.method.decode("ascii"),
            "root_path": "",
            "path": unquote(path.decode("latin-1")),
            "raw_path": path,
            "query_string": query,
            "headers": incoming.headers,
            "state": {**self._state, "request_id": incoming.request_id.decode("ascii")},
        }

    # -- Downstream: the answer of an exchange ------------------------------------------------------------------

    def start(self, fields: bytes, content_type: bytes, first: bytes) -> None:
        if not self.chunked:
            self.keep_alive = False
        elif first:  # an empty chunk would end the body
            first = b"%x\r\n%b\r\n" % (len(first), first)
        fields += self.head_fields()
        request = self._request
        assert request is not None
        self.send(reply.stream_head(self.date, request.request_id, fields, content_type, chunked=self.chunked) + first)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def ping(self, data: bytes) -> None:
        self.write(data)

    def end(self, data: bytes = b"") -> None:
        if self.chunked:
            self.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n")
        else:
            self.send(data)
        self.finished()

    def cut(self) -> None:
        self.keep_alive = False
        if self.chunked:
            self.finished()  # without the last chunk
        else:
            self.drop()

    def respond(self, status: int, fields: bytes, body: bytes, content_type: bytes = JSON) -> None:
        request = self._request
        assert request is not None
        fields += self.head_fields()
        head = reply.body_head(status, self.date, request.request_id, fields, content_type, len(body))
        if self._transport is not None:
            self._transport.write(head if request.method == b"HEAD" else head + body)
        self.finished()

    def refuse(self, error: errors.TidegateError, fields: bytes = b"") -> None:
        fields += reply.error_fields(error)
        dialect = self._request.dialect if self._request is not None else None
        if dialect is None:
            self.respond(error.http_status, fields, error.body())
        else:
            self.respond(
                dialect.error_status(error), fields, dialect.error_body(error, self.request_id.decode("latin-1"))
            )

    # -- what every answer needs --------------------------------------------------------------------------------

    @property
    def request_id(self) -> bytes:
        return self._request.request_id if self._request is not None else b""

    @property
    def date(self) -> bytes:
        """The header lines that every answer has; uvicorn renews the date once a second."""
        source = self._server.default_headers
        if source is not self._date_source:
            self._date_source = source
            self._date = b"".join(b"%b: %b\r\n" % field for field in source)
        return self._date

    def head_fields(self) -> bytes:
        """The header lines that depend on the connection; with them it is decided whether it stays open."""
        if (self._reader.deaf or self._gateway.draining) and not self._queue:
            self.keep_alive = False
        fields = b"" if self.keep_alive else reply.CLOSE
        request = self._request
        if request is None:
            return fields
        if request.for_anthropic:
            # Where Anthropic's clients look for it.
            fields += b"request-id: %b\r\n" % request.request_id
        return fields + cors_fields(request.origin) if request.origin else fields

    def send(self, data: bytes) -> None:
        if self._transport is not None and data:
            self._transport.write(data)

    def finished(self) -> None:
        """The running answer is complete: the next request, or rest, or the end."""
        self._running = None
        request = self._request
        if request is not None and request.form is not None:
            request.let_go()
        if self._transport is None:
            return
        if not self.keep_alive or (self._reader.deaf and not self._queue):
            self._close()
        elif self._queue:
            self._loop.call_soon(self._run_next)
        else:
            self._rest()

    # -- endings ------------------------------------------------------------------------------------------------

    def drop(self) -> None:
        """Close at once."""
        self._reader.stop()
        transport = self._transport
        if transport is not None:
            if (
                not self.chunked and not transport.is_closing()
            ):  # where only the end of the connection ends an answer, it has to be a reset
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()

    def _on_bug(self, bug: Exception) -> None:
        """A mistake of ours, made before an exchange or an application could answer for it."""
        self._gateway.log.error("request_failed", exc_info=bug, request_id=self.request_id.decode("latin-1"))
        try:
            self.keep_alive = False
            self.refuse(errors.Internal("The gateway failed on this request; its log has the details."))
        except Exception:
            self._gateway.log.exception("refusal_failed")
            self.drop()

    def _close(self) -> None:
        """Close when all is sent; at once then, unless the client may still be sending."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        unread = self._reader.deaf or self._reader.incoming is not None or bool(self._queue)
        self._closing = True
        self._reader.stop()
        self._clear_queue()
        self._idle_since = self._reader.heard_at = self._loop.time()
        self._watch_unsent()
        if unread and transport.can_write_eof():
            transport.write_eof()
            self._wheel.watch(self, self._idle_since + LINGER_SILENCE_S)
        else:
            transport.close()

    def _clear_queue(self) -> None:
        for incoming in self._queue:
            incoming.let_go()
        self._queue.clear()

    def _gone(self) -> bool:
        """The client has left. Returns whether something runs for it: that ends, and the connection with it, when it has its
        turn, as all clients may leave at once."""
        self._reader.stop()
        self._clear_queue()
        if self._running is not None:
            self._gateway.departures.wait(self._depart)
            return True
        if self._request is not None:
            self._request.let_go()
        return False

    def _depart(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.client_gone()
        if self._request is not None:
            self._request.let_go()
        if self._transport is not None:
            self._transport.abort()

    # -- clocks -------------------------------------------------------------------------------------------------

    @property
    def _idle(self) -> bool:
        return self._running is None and not self._queue and self._reader.incoming is None and not self._closing

    @property
    def _idle_limit(self) -> float:
        if self._gateway.refusing:
            return DRAIN_IDLE_S
        # A new connection that says nothing is in no way better than one that does not finish its head.
        return self._settings.keep_alive if self._request is not None else self._settings.header_timeout

    @property
    def _stall_limit(self) -> float:
        running = self._running
        return running.send_stall if isinstance(running, Exchange) else DEFAULT_SEND_STALL_S

    def _rest(self) -> None:
        """Nothing to answer: wait for a request, or for the rest of one."""
        self._idle_since = self._loop.time()
        if self._reader.incoming is None:
            until = self._idle_since + self._idle_limit
            if self.look_at > until:
                self._wheel.watch(self, until)
        else:
            self._reader.restart_clock(self._idle_since)
            self._await_rest()

    def _await_rest(self) -> None:
        """Part of a request is there. While another one is being answered, nobody waits for it."""
        incoming = self._reader.incoming
        if incoming is None or self._running is not None or self._queue:
            return
        until = self._reader.deadline(incoming)
        if self.look_at > until:
            self._wheel.watch(self, until)
        if incoming.expects_continue:
            incoming.expects_continue = False
            if not incoming.body_bytes:
                self.send(reply.CONTINUE)

    def _watch_unsent(self) -> None:
        """From now on the client has to take what waits for it."""
        assert self._transport is not None
        self._unsent = self._transport.get_write_buffer_size()
        self._unsent_since = self._loop.time()
        self._wheel.watch(self, self._unsent_since + self._stall_limit / 4)

    def check(self, now: float) -> float | None:
        """The wheel's look (see `Watched`)."""
        transport = self._transport
        if transport is None:
            return None
        if self._paused or (self._closing and transport.get_write_buffer_size()):
            return self._check_unsent(transport, now)
        if self._closing:
            silence = DRAIN_IDLE_S if self._gateway.refusing else LINGER_SILENCE_S
            return self._due(now, min(self._reader.heard_at + silence, self._idle_since + LINGER_S))
        if isinstance(self._running, Keeping):
            due = self._running.until(self._settings)
            if now < due:
                return due
            self.kept(self._running, not_kept_in_time(self._settings))
            return None
        if self._running is not None or self._queue:
            return None
        incoming = self._reader.incoming
        if incoming is None:
            due = self._idle_since + self._idle_limit
            if now < due:
                return due
            self._close()  # what the client has not taken yet still leaves
            return None
        due = self._reader.deadline(incoming)
        if now < due:
            return due
        self._reader.give_up(incoming)
        return None

    def _check_unsent(self, transport: asyncio.Transport, now: float) -> float | None:
        """A client that reads slowly is served; one that does not read at all is dropped."""
        unsent = transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._unsent_since = now
        self._unsent = unsent
        limit = self._stall_limit
        due = self._due(now, self._unsent_since + limit)
        return None if due is None else min(due, now + limit / 4)

    def _due(self, now: float, at: float) -> float | None:
        if now < at:
            return at
        self.drop()
        return None


def _is_preflight(incoming: Incoming) -> bool:
    """Whether a browser asks for leave before it sends the request of an allowed page (Fetch standard, CORS preflight)."""
    return (
        bool(incoming.origin) and incoming.method == b"OPTIONS" and b"access-control-request-method" in incoming.fields
    )
