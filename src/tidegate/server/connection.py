"""One client connection: HTTP/1.1 towards the client, our own protocol class hosted by `uvicorn.Server`.

A request on a hot route goes straight from the parser's callbacks into an exchange; every other request runs as an ASGI
application. The class owns what uvicorn's protocol lacks: caps and deadlines for heads and bodies, reading on while a
request waits (so that a client's departure is seen), refusal of framing that two servers could read differently.
"""

import asyncio
import os
import re
from collections import deque
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import httptools
import msgspec

from tidegate.gateway.exchange import DEFAULT_SEND_STALL_S, Exchange
from tidegate.server import reply
from tidegate.server.cycle import Cycle
from tidegate.server.origin import check_origin, cors_fields
from tidegate.wire import errors

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

    from tidegate.access.keys import Principal
    from tidegate.dialects.dialect import Dialect
    from tidegate.server.app import Application

__all__ = ["Connection"]

PIPELINE_LIMIT = 16
PIPELINE_BYTES = 1024 * 1024
"""Most requests, and most bytes of them, that may wait behind a running one; beyond it the connection is closed."""

BODY_RATE_FLOOR = 1024
"""Bytes per second that a body must reach on average; a trickle would hold its place for ever."""

LINGER_S = 2.0
"""How long unread input is thrown away after an early answer, so that the answer is not lost to a reset
(RFC 9112 §9.6)."""

DRAIN_IDLE_S = 0.5
"""How long an idle connection stays open after draining began: a request may be on its way."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class _Incoming(msgspec.Struct, gc=False):
    """A request that is being read, or that waits for its turn."""

    url: bytes = b""
    headers: list[tuple[bytes, bytes]] = []
    method: bytes = b""
    version: str = "1.1"
    body: list[bytes] = []
    body_bytes: int = 0
    head_bytes: int = 0
    body_since: float = 0.0
    keep_alive: bool = True
    dialect: "Dialect | None" = None
    principal: "Principal | None" = None
    fields: dict[bytes, bytes] = {}
    request_id: bytes = b""
    origin: bytes = b""


class _Stop(Exception):
    """Leaves the parser: the rest of the input is not wanted."""


class Connection(asyncio.Protocol):
    """See the module. `uvicorn.Server` makes one for each connection, calls `shutdown` when draining begins, and reads
    nothing else of it."""

    __slots__ = (
        "_app",
        "_date",
        "_date_source",
        "_gateway",
        "_incoming",
        "_lingering",
        "_loop",
        "_parser",
        "_paused",
        "_paused_at",
        "_queue",
        "_queued_bytes",
        "_request",
        "_running",
        "_server",
        "_settings",
        "_since",
        "_state",
        "_stopped",
        "_transport",
        "_wheel",
        "chunked",
        "client",
        "keep_alive",
        "request_id",
        "wheel_slot",
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
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._incoming: _Incoming | None = None
        self._request: _Incoming | None = None
        self._running: Exchange | Cycle | None = None
        self._queue: deque[_Incoming] = deque()
        self._queued_bytes = 0
        self._since = 0.0
        self._paused = False
        self._paused_at = 0.0
        self._stopped = False
        self._lingering = False
        self._date = b""
        self._date_source: object = None
        self.keep_alive = True
        self.chunked = True
        self.client = ""
        self.request_id = b""
        self.wheel_slot = -1

    # -- transport ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's
        self._server.connections.add(self)  # type: ignore[arg-type]
        peer = transport.get_extra_info("peername")
        self.client = peer[0] if isinstance(peer, tuple) else ""
        self._since = self._loop.time()
        self._wheel.watch(self, self._since + self._settings.header_timeout)

    def data_received(self, data: bytes) -> None:
        if self._stopped:
            return
        incoming = self._incoming
        if incoming is not None and incoming.method:
            self._since = self._loop.time()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._after_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if not self._stopped:
                self._on_parser_error(error)

    def eof_received(self) -> bool:
        """The client will send no more. Like nginx, we take it as a departure: a closed socket looks the same, and
        waiting for a write to fail would let the upstream call run on (promise P6)."""
        self._gone()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._wheel.forget(self)
        self._gone()
        self._transport = None

    def pause_writing(self) -> None:
        self._paused = True
        if self._running is not None:
            self._running.pause()
        self._paused_at = self._loop.time()
        self._wheel.watch(self, self._paused_at + self._stall_limit)

    def resume_writing(self) -> None:
        self._paused = False
        if self._running is not None:
            self._running.resume()

    def shutdown(self) -> None:
        """Draining has begun: the present answer is the last one; an idle connection gets a moment."""
        self._gateway.draining = True
        self.keep_alive = False
        if self._running is None and self._incoming is None:
            self._since = self._loop.time()
            self._wheel.forget(self)
            self._wheel.watch(self, self._since + DRAIN_IDLE_S)

    # -- parser -------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._incoming = _Incoming(headers=[], body=[])
        self._since = self._loop.time()
        if self._running is None:
            self._wheel.watch(self, self._since + self._settings.header_timeout)

    def on_url(self, url: bytes) -> None:
        incoming = self._incoming
        assert incoming is not None
        incoming.url += url
        self._count_head(incoming, len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        incoming = self._incoming
        assert incoming is not None
        incoming.headers.append((name.lower(), value))
        self._count_head(incoming, len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        incoming = self._incoming
        assert incoming is not None
        parser = self._parser
        incoming.method = parser.get_method()
        incoming.version = parser.get_http_version()
        incoming.keep_alive = parser.should_keep_alive() and incoming.version == "1.1"
        self._since = incoming.body_since = self._loop.time()
        try:
            expects = self._read_head(incoming)
        except errors.TidegateError as error:
            self._refuse_early(incoming, error)
        if expects and self._running is None and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        incoming = self._incoming
        assert incoming is not None
        incoming.body.append(body)
        incoming.body_bytes += len(body)
        if incoming.body_bytes > self._settings.max_body:
            self._refuse_early(incoming, self._too_large())

    def on_message_complete(self) -> None:
        incoming = self._incoming
        assert incoming is not None
        self._incoming = None
        if self._running is None:
            self._run(incoming)
            return
        self._queue.append(incoming)
        self._queued_bytes += incoming.head_bytes + incoming.body_bytes
        if len(self._queue) > PIPELINE_LIMIT or self._queued_bytes > PIPELINE_BYTES:
            self.drop()

    # -- reading a head -----------------------------------------------------------------------------------------

    def _count_head(self, incoming: _Incoming, more: int) -> None:
        incoming.head_bytes += more
        if incoming.head_bytes > self._settings.max_header_bytes:
            limit = int(self._settings.max_header_bytes)
            self._refuse_early(
                incoming,
                errors.HeadersTooLarge(f"The request head is longer than {limit} bytes (server.max_header_bytes)."),
            )

    def _read_head(self, incoming: _Incoming) -> bool:
        """Decide, before any of the body, whether it is wanted. True when the client waits for `100 Continue`."""
        fields: dict[bytes, bytes] = {}
        for name, value in incoming.headers:
            if name in fields and name in _SINGLE:
                raise errors.AmbiguousRequest(f"The header '{name.decode('ascii')}' is there more than once.")
            fields[name] = value
        incoming.fields = fields
        given = fields.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            incoming.request_id = given
        else:
            incoming.request_id = b"req_" + os.urandom(16).hex().encode("ascii")
        if incoming.version not in ("1.1", "1.0"):
            raise errors.InvalidRequest("Only HTTP/1.1 and HTTP/1.0 are spoken here.", code="unsupported_http_version")
        host = fields.get(b"host")
        if host is None and incoming.version == "1.1":
            raise errors.InvalidRequest("The header 'host' is missing (RFC 9112 §3.2).", code="missing_host")
        coding = fields.get(b"transfer-encoding")
        if coding is not None and (coding.strip().lower() != b"chunked" or incoming.version == "1.0"):
            raise errors.AmbiguousRequest("The only transfer coding accepted is 'chunked', in HTTP/1.1.")
        incoming.origin = check_origin(self._gateway.snapshot, host or b"", fields.get(b"origin"))
        if b"content-encoding" in fields and fields[b"content-encoding"].strip().lower() not in (b"", b"identity"):
            raise errors.UnsupportedEncoding("Compressed request bodies are not accepted; send the body as it is.")
        length = fields.get(b"content-length")
        if length is not None and length.isdigit() and int(length) > self._settings.max_body:
            raise self._too_large()
        if incoming.method == b"POST":
            incoming.dialect = self._app.hot.get(incoming.url.partition(b"?")[0])
        if incoming.dialect is not None:
            incoming.principal = self._gateway.authenticate(fields)
        expect = fields.get(b"expect")
        if expect is None:
            return False
        if expect.strip().lower() != b"100-continue":
            raise errors.InvalidRequest(
                "The only expectation that can be met is '100-continue'.", code="expectation_failed"
            )
        return incoming.version == "1.1"

    def _too_large(self) -> errors.BodyTooLarge:
        return errors.BodyTooLarge(
            f"The request body is larger than {int(self._settings.max_body)} bytes (server.max_body)."
        )

    # -- running a request --------------------------------------------------------------------------------------

    def _run(self, incoming: _Incoming) -> None:
        self._server.total_requests += 1
        self._request = incoming
        self.request_id = incoming.request_id
        self.keep_alive = incoming.keep_alive and not self._gateway.draining
        self.chunked = incoming.version == "1.1"
        if incoming.dialect is not None and incoming.principal is not None:
            exchange = self._gateway.open_exchange(
                self,
                incoming.dialect,
                incoming.principal,
                incoming.fields,
                request_id=incoming.request_id,
                client=self.client,
            )
            self._running = exchange
            body = incoming.body[0] if len(incoming.body) == 1 else b"".join(incoming.body)
            incoming.body = []
            exchange.run(body)
            return
        cycle = Cycle(self, self._app.cold, self._scope(incoming), b"".join(incoming.body), incoming.request_id)
        self._running = cycle
        task = self._loop.create_task(cycle.run())
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    def _scope(self, incoming: _Incoming) -> dict[str, Any]:
        path, _, query = incoming.url.partition(b"?")
        if not path.startswith(b"/"):
            path = httptools.parse_url(path).path or b"/"
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

    def finished(self) -> None:
        """The running answer is complete: the next request, or rest."""
        self._running = None
        transport = self._transport
        if transport is None:
            return
        if not self.keep_alive or self._stopped:
            self._stopped = True
            transport.close()
            return
        if self._queue:
            following = self._queue.popleft()
            self._queued_bytes -= following.head_bytes + following.body_bytes
            self._loop.call_soon(self._run_queued, following)
            return
        self._since = self._loop.time()
        self._wheel.watch(self, self._since + self._settings.keep_alive)

    def _run_queued(self, incoming: _Incoming) -> None:
        if self._transport is not None and self._running is None:
            self._run(incoming)

    # -- Downstream ---------------------------------------------------------------------------------------------

    def start(self, fields: bytes, first: bytes) -> None:
        head = reply.stream_head(self.date, self.request_id, fields + self._cors(), chunked=self.chunked)
        if self.chunked:
            if not self.keep_alive:
                head = head[:-2] + reply.CLOSE + b"\r\n"
            self.send(b"%b%x\r\n%b\r\n" % (head, len(first), first))
        else:
            self.keep_alive = False
            self.send(head + first)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def end(self, data: bytes = b"") -> None:
        if self.chunked:
            self.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n")
        elif data:
            self.send(data)
        self.finished()

    def respond(self, status: int, fields: bytes, body: bytes) -> None:
        if not self.keep_alive:
            fields += reply.CLOSE
        head = reply.json_head(status, self.date, self.request_id, fields + self._cors(), len(body))
        self.send(head + body)
        self.finished()

    def refuse(self, error: errors.TidegateError, fields: bytes = b"") -> None:
        self.respond(error.http_status, fields + reply.error_fields(error), error.body())

    def send(self, data: bytes) -> None:
        if self._transport is not None and data:
            self._transport.write(data)

    def drop(self) -> None:
        """Close at once."""
        self._stopped = True
        if self._transport is not None:
            self._transport.abort()

    @property
    def date(self) -> bytes:
        """The header lines that every answer has; uvicorn renews the date once a second."""
        source = self._server.default_headers
        if source is not self._date_source:
            self._date_source = source
            self._date = b"".join(b"%b: %b\r\n" % field for field in source)
        return self._date

    def _cors(self) -> bytes:
        request = self._request
        return cors_fields(request.origin) if request is not None and request.origin else b""

    # -- endings ------------------------------------------------------------------------------------------------

    def _refuse_early(self, incoming: _Incoming, error: errors.TidegateError) -> None:
        """Answer before the request is complete; what follows of it is thrown away. Leaves the parser."""
        self._incoming = None
        if self._running is not None:
            # Answers go out in order: this one would come before the one that is running.
            self._queue.clear()
            self._stopped = True
            self.keep_alive = False
            raise _Stop
        self._request = incoming
        self.request_id = incoming.request_id or b"req_" + os.urandom(16).hex().encode("ascii")
        self._stopped = True
        self._lingering = True
        body = error.body()
        fields = reply.error_fields(error) + reply.CLOSE + self._cors()
        self.send(reply.json_head(error.http_status, self.date, self.request_id, fields, len(body)) + body)
        self._since = self._loop.time()
        self._wheel.forget(self)
        self._wheel.watch(self, self._since + LINGER_S)
        transport = self._transport
        if transport is not None and transport.can_write_eof():
            transport.write_eof()
        raise _Stop

    def _on_parser_error(self, error: httptools.HttpParserError) -> None:
        cause = error.__context__
        if cause is not None and not isinstance(cause, _Stop):
            self._gateway.log.error("request_parsing_failed", exc_info=cause)
            refusal: errors.TidegateError = errors.Internal(
                "The gateway failed on this request; its log has the details."
            )
        else:
            refusal = errors.AmbiguousRequest(f"The request is not valid HTTP/1.1: {error}.")
        try:
            self._refuse_early(self._incoming or _Incoming(), refusal)
        except _Stop:
            return

    def _after_upgrade(self, rest: bytes) -> None:
        """The client offered another protocol. We go on with HTTP/1.1, as RFC 9110 §7.8 allows."""
        self._parser = httptools.HttpRequestParser(self)
        if rest and not self._stopped:
            self.data_received(rest)

    def _gone(self) -> None:
        self._stopped = True
        self._queue.clear()
        running = self._running
        self._running = None
        if running is not None:
            running.client_gone()
            if self._transport is not None:
                self._transport.abort()

    # -- clocks -------------------------------------------------------------------------------------------------

    @property
    def _stall_limit(self) -> float:
        running = self._running
        return running.send_stall if isinstance(running, Exchange) else DEFAULT_SEND_STALL_S

    def check(self, now: float) -> float | None:
        """The wheel's look (see `Watched`)."""
        transport = self._transport
        if transport is None:
            return None
        if self._lingering:
            return self._due(now, self._since + LINGER_S, None)
        if self._running is not None:
            if not self._paused:
                return None
            return self._due(now, self._paused_at + self._stall_limit, None)
        incoming = self._incoming
        if incoming is None:
            limit = DRAIN_IDLE_S if self._gateway.draining else self._settings.keep_alive
            if self._server.total_requests == 0 or self._request is None:
                limit = min(limit, self._settings.header_timeout)
            return self._due(now, self._since + limit, None)
        if not incoming.method:
            timeout = float(self._settings.header_timeout)
            message = f"The request head did not arrive within {timeout:g} s (server.header_timeout)."
            return self._due(now, self._since + timeout, message)
        timeout = float(self._settings.body_timeout)
        message = f"The request body stalled for {timeout:g} s, or came too slowly (server.body_timeout)."
        slowest = incoming.body_since + timeout + incoming.body_bytes / BODY_RATE_FLOOR
        return self._due(now, min(self._since + timeout, slowest), message)

    def _due(self, now: float, at: float, message: str | None) -> float | None:
        if now < at:
            return at
        if message is None:
            self.drop()
            return None
        try:
            self._refuse_early(self._incoming or _Incoming(), errors.RequestTimeout(message))
        except _Stop:
            return None
        return None


_SINGLE = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"authorization", b"x-api-key", b"api-key", b"expect", b"origin"}
)
"""Headers of which a second one would leave open which counts."""
