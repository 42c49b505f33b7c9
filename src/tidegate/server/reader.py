"""What a client sends: bytes in, requests out, with every cap and deadline that they must keep.

The parser's callbacks stand here. None of them lets an exception escape, because httptools would turn a bug of ours
into a parsing error; a request that is refused makes the reader deaf instead of raising.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import httptools

from tidegate.server.form import FormReader
from tidegate.server.incoming import (
    Incoming,
    Judge,
    body_too_large,
    not_kept_in_time,
    offers_websocket,
    request_id,
)
from tidegate.server.usual import UsualHead
from tidegate.wire import errors

if TYPE_CHECKING:
    from tidegate.server.app import Application

__all__ = ["Reader", "Receiver"]

TARGET_LIMIT = 16 * 1024
"""Longest request target in bytes; RFC 9112 §3 recommends to take 8000 at least."""

BODY_RATE_FLOOR = 1024
"""Bytes per second that a body must reach on average; a trickle would hold its place for ever."""

CHUNK_OVERHEAD = 8
"""Most bytes on the wire per byte of body. Chunks of one byte take six; beyond that it is extensions or trailers, which
nobody needs and which would go round the cap on the body (CVE-2024-22019)."""

_NOWHERE: Final[deque[tuple[bytes, bytes]]] = deque(maxlen=0)
"""Takes everything and keeps nothing."""

TRIES = 4
"""How many heads in a row are remembered in vain: from then on a client whose heads all differ costs nothing more."""


class Receiver(Protocol):
    """Who is given the requests."""

    client: str
    """The address that they come from."""

    def receive(self, incoming: Incoming) -> None:
        """A complete request, or one that is refused (`incoming.refusal`). May not raise."""

    def upgrade(self, incoming: Incoming, rest: bytes) -> None:
        """A request with which the connection becomes a WebSocket, and what came behind it. May not raise."""

    def hold(self) -> None:
        """Have the client send no more."""

    def go_on(self) -> None:
        """Have it go on."""


class Reader:
    """Reads the requests of one connection, one after another, until one of them is refused."""

    __slots__ = (
        "_app",
        "_begins",
        "_counts_head",
        "_headers",
        "_judge",
        "_loop",
        "_max_head",
        "_missing",
        "_offered",
        "_parser",
        "_receiver",
        "_settings",
        "_tries",
        "_usual",
        "deaf",
        "heard_at",
        "incoming",
        "refuses",
    )

    def __init__(
        self, receiver: Receiver, app: "Application", loop: asyncio.AbstractEventLoop, *, tries: int = TRIES
    ) -> None:
        self._receiver = receiver
        self._app = app
        self._settings = app.gateway.snapshot.config.server
        self._judge = Judge(app, self._settings, receiver)
        self._max_head = int(self._settings.max_header_bytes)
        self._counts_head = False
        """The head that is being read may be longer than allowed: it is not within one short read."""
        self._loop = loop
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._offered = False
        self._headers: list[tuple[bytes, bytes]] | deque[tuple[bytes, bytes]] = _NOWHERE
        """Where fields go: into the request while its head is not complete. What comes later is a trailer, which must not
        pass as a header (RFC 9110 §6.5.1)."""
        self._begins = b""
        """The read that the head begins with that is being parsed."""
        self._usual: UsualHead | None = None
        """The head of the last request, if the next may have the same. Only while it is set may a request go past the
        parser, which has then read nothing after the end of that one."""
        self._tries = tries
        """How many more heads are remembered before one comes again."""
        self._missing = 0
        """Bytes of the body that are still to come past the parser."""
        self.incoming: Incoming | None = None
        """The request that is not complete yet."""
        self.deaf = False
        """Whatever comes is thrown away."""
        self.refuses = False
        """The gateway is shutting down: what begins now is not taken on."""
        self.heard_at = loop.time()

    def feed(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        if self.deaf:
            return
        size = len(data)
        incoming = self.incoming
        self._counts_head = incoming is not None or size > self._max_head
        if incoming is not None:
            incoming.wire_bytes += size
            if self._missing:
                data = self._read_body(incoming, data)
        elif self._usual is not None:
            data = self._read_usual(self._usual, data)
        else:
            self._begins = data
        if data:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        parser = self._parser
        if self.deaf or parser is None:  # by the answer to what came before in the same read
            return
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            if not self.deaf:
                self._refuse(errors.AmbiguousRequest(f"The request is not valid HTTP/1.1: {error}."))
            return
        finally:
            self._begins = b""
        if self.incoming is not None:
            self._check_unparsed(self.incoming)

    def stop(self) -> None:
        """Take no further request."""
        self.deaf = True
        incoming = self.incoming
        self.incoming = self._usual = None
        self._headers = _NOWHERE
        if incoming is not None:
            incoming.let_go()
            if incoming.held_since:
                incoming.held_since = 0.0
                self._receiver.go_on()  # what still comes is thrown away

    def close(self) -> None:
        """Nothing more will come. What refers to each other lets go, so that a connection is gone when it has ended: until
        the garbage collector came by, which may take hours, it would keep its last request, and the snapshot with it."""
        self.stop()
        if self._parser is not None:
            self._parser = None
            del self._receiver, self._judge

    # -- clocks -------------------------------------------------------------------------------------------------

    def restart_clock(self, now: float) -> None:
        """The request that is being read was not waited for until now: another one was being answered."""
        self.heard_at = now
        if self.incoming is not None:
            self.incoming.begun_at = now

    def deadline(self, incoming: Incoming) -> float:
        """Loop time by which more of `incoming` must have come."""
        if not incoming.method:
            return incoming.begun_at + self._settings.header_timeout
        timeout = self._settings.body_timeout
        if incoming.held_since:
            return incoming.held_since + timeout
        slowest = incoming.begun_at + timeout + incoming.body_bytes / BODY_RATE_FLOOR
        return min(self.heard_at + timeout, slowest)

    def give_up(self, incoming: Incoming) -> None:
        """The deadline has passed."""
        if incoming.held_since:
            self._refuse(not_kept_in_time(self._settings))
            return
        if incoming.method:
            timeout, message = self._settings.body_timeout, "The request body stalled for {} s, or came too slowly"
            name = "server.body_timeout"
        else:
            timeout, message = self._settings.header_timeout, "The request head did not arrive within {} s"
            name = "server.header_timeout"
        self._refuse(errors.RequestTimeout(f"{message.format(f'{timeout:g}')} ({name})."))

    def shut(self) -> None:
        """What has come so far will not be answered any more."""
        if self.incoming is not None:
            self._refuse(errors.ShuttingDown())

    # -- past the parser (see `UsualHead`) ----------------------------------------------------------------------

    def _read_usual(self, usual: UsualHead, data: bytes) -> bytes:
        """Read the request at the beginning of `data`, if its head is the usual one. Returns what is left to parse."""
        if not self.refuses and usual.snapshot is self._app.gateway.snapshot:
            found = usual.begin(data, self.heard_at)
            if found is not None:
                incoming, end = found
                self._tries = TRIES
                if end > len(data):
                    self.incoming = incoming
                    self._missing = end - len(data)
                else:
                    self._receiver.receive(incoming)
                return data[end:]
        self._begins = data
        return data

    def _read_body(self, incoming: Incoming, data: bytes) -> bytes:
        """Read what was missing of the body. Returns what is left to parse."""
        body = data[: self._missing]
        self._missing -= len(body)
        self.on_body(body)
        if not self._missing:
            self.incoming = None
            self._receiver.receive(incoming)
        return data[len(body) :]

    # -- parser callbacks ---------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if not self.deaf:
            incoming = self.incoming = Incoming(begun_at=self.heard_at)
            self._headers = incoming.headers

    def on_url(self, url: bytes) -> None:
        incoming = self.incoming
        if incoming is None:
            return
        incoming.url += url
        if len(incoming.url) > TARGET_LIMIT:
            self._refuse(errors.TargetTooLong(f"The request target is longer than {TARGET_LIMIT} bytes."))
        elif self._counts_head:
            self._count_head(incoming, len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))
        if self._counts_head and self.incoming is not None:
            self._count_head(self.incoming, len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        incoming = self.incoming
        parser = self._parser
        self._headers = _NOWHERE
        self._usual = None
        read, self._begins = self._begins, b""
        if incoming is None or parser is None:
            return
        incoming.method = parser.get_method()
        incoming.version = version = parser.get_http_version()
        incoming.keep_alive = version == "1.1" and parser.should_keep_alive() and self._settings.keep_alive > 0.0
        incoming.begun_at = self.heard_at
        incoming.wire_bytes = 0
        if parser.should_upgrade() and incoming.method != b"CONNECT" and not offers_websocket(dict(incoming.headers)):
            self._offered = True
            return
        try:
            is_usual = self._judge.decide(incoming)
            if self.refuses:
                raise errors.ShuttingDown
            if incoming.dialect is not None and incoming.dialect.takes_form:
                incoming.form = FormReader(incoming.fields.get(b"content-type"), self._app.spools, self)
            elif is_usual and read and self._tries:
                self._tries -= 1
                self._usual = UsualHead.of(read, incoming, self._app.gateway.snapshot, self._max_head)
        except errors.TidegateError as refusal:
            self._refuse(refusal)
        except Exception as bug:
            self._on_bug(bug)

    def on_body(self, body: bytes) -> None:
        incoming = self.incoming
        if incoming is None:
            return
        incoming.body_bytes += len(body)
        if incoming.body_bytes > incoming.body_limit:
            self._refuse(body_too_large(incoming, self._settings))
        elif incoming.form is not None:
            self._feed_form(incoming.form, body)
        elif not incoming.body:
            incoming.body = body
        elif isinstance(incoming.body, bytes):
            incoming.body = bytearray(incoming.body) + body
        else:
            incoming.body += body

    def _feed_form(self, form: FormReader, body: bytes) -> None:
        try:
            form.feed(body)
        except errors.TidegateError as refusal:
            self._refuse(refusal)
        except Exception as bug:
            self._on_bug(bug)

    def on_message_complete(self) -> None:
        incoming = self.incoming
        if incoming is None or self._offered or incoming.websocket:
            return
        if incoming.form is not None:
            incoming.form.close()
            self.go_on()
        self.incoming = None
        self._receiver.receive(incoming)

    # -- what an upload says that the disk has to keep (see `Tide`) ----------------------------------------------

    def hold(self) -> None:
        if self.incoming is not None and not self.deaf:
            self.incoming.held_since = self._loop.time()
            self._receiver.hold()

    def go_on(self) -> None:
        incoming = self.incoming
        if incoming is None or not incoming.held_since:
            return
        # The silence was ours.
        now = self.heard_at = self._loop.time()
        incoming.begun_at += now - incoming.held_since
        incoming.held_since = 0.0
        self._receiver.go_on()

    def not_kept(self, error: errors.TidegateError) -> None:
        if self.incoming is not None:
            self._refuse(error)

    # -- refusals -----------------------------------------------------------------------------------------------

    def _refuse(self, refusal: errors.TidegateError) -> None:
        """Answer before the request is complete. Where the next one would begin is no longer certain."""
        refusal.__traceback__ = None  # its frames refer to the request, and the request will refer to it
        incoming = self.incoming or Incoming()
        self.stop()
        incoming.body = b""
        incoming.body_bytes = 0
        incoming.keep_alive = False
        incoming.refusal = refusal
        incoming.request_id = incoming.request_id or request_id(dict(incoming.headers).get(b"x-request-id"))
        self._receiver.receive(incoming)

    def _on_bug(self, bug: Exception) -> None:
        self._app.gateway.log.error("request_head_failed", exc_info=bug)
        self._refuse(errors.Internal("The gateway failed on this request; its log has the details."))

    def _head_too_large(self) -> errors.HeadersTooLarge:
        return errors.HeadersTooLarge(
            f"The request head is longer than {self._max_head} bytes (server.max_header_bytes)."
        )

    def _count_head(self, incoming: Incoming, size: int) -> None:
        incoming.head_bytes += size
        if incoming.head_bytes > self._max_head:
            self._refuse(self._head_too_large())

    def _check_unparsed(self, incoming: Incoming) -> None:
        """The parser collects a field, or skips a chunk extension, without telling until it is complete."""
        incoming.measure_head()  # the next read goes on counting from here
        if not incoming.method:
            if incoming.wire_bytes > self._max_head:
                self._refuse(self._head_too_large())
        elif incoming.wire_bytes > self._max_head + CHUNK_OVERHEAD * incoming.body_bytes:
            self._refuse(errors.BodyTooLarge("The request body has more chunk framing than content."))

    def _upgrade(self, rest: bytes) -> None:
        incoming = self.incoming
        if incoming is not None and incoming.websocket:
            self.stop()
            self._receiver.upgrade(incoming, rest)
        else:
            self._read_without_offer(rest)

    def _read_without_offer(self, rest: bytes) -> None:
        """The client offered another protocol, as h2c. We go on with HTTP/1.1 (RFC 9110 §7.8).

        The parser has taken the offer for granted and passed over the body: it reads the head again, without it.
        """
        self._offered = False
        incoming = self.incoming
        if incoming is None:
            return
        self.incoming = None
        self._parser = httptools.HttpRequestParser(self)
        lines = [b"%b %b HTTP/%b\r\n" % (incoming.method, incoming.url, incoming.version.encode("ascii"))]
        lines += [b"%b: %b\r\n" % field for field in incoming.headers if field[0] != b"upgrade"]
        self.feed(b"".join([*lines, b"\r\n", rest]))
