"""One WebSocket connection: messages in and out, with every cap and deadline that they must keep (RFC 6455).

The framing is `websockets`' own, without its I/O. uvicorn has a protocol class on the same ground; it is not used because
it writes from tasks only, which would cost one for each chunk, because it closes as soon as draining begins, and because it
keeps the pieces of an unfinished message without end.
"""

import asyncio
from typing import TYPE_CHECKING, cast

from websockets.exceptions import PayloadTooBig
from websockets.frames import OP_BINARY, OP_CLOSE, OP_CONT, OP_TEXT, Frame
from websockets.protocol import SEND_EOF, Protocol, Side, State

from tidegate.server.incoming import Incoming
from tidegate.server.reader import BODY_RATE_FLOOR
from tidegate.server.session import Session
from tidegate.upstream.wheel import UNWATCHED
from tidegate.wire import jsonio
from tidegate.wire.errors import BodyTooLarge, InvalidRequest, RequestTimeout

if TYPE_CHECKING:
    from uvicorn.server import ServerState

    from tidegate.gateway.gateway import Gateway

__all__ = ["WebSocket"]

LINGER_SILENCE_S = 2.0
LINGER_S = 30.0
"""How long is waited for the client's side of the closing: until it is silent, at most this long."""

SLICE_BYTES = 8 * 1024
SLICES_S = 0.002
"""So much of a read is looked at before the clock is, and so long, before others have their turn: a frame takes as little as
six bytes."""

OWED_BYTES = 1024 * 1024
"""Most bytes of answers to a client that goes on asking and does not read."""

REASON_CHARACTERS = 120
"""A close frame has room for 123 bytes (RFC 6455 §5.5); our reasons are ASCII."""

GOING_AWAY = 1001
INVALID_TEXT = 1007
POLICY = 1008
OUR_MISTAKE = 1011
RESTART = 1012
"""Codes of RFC 6455 §7.4.1 and its registry. Official clients connect anew after 1001, 1011 and 1012."""


class WebSocket(asyncio.Protocol):
    """See the module. `uvicorn.Server` knows it as it knows a `Connection`: it calls `shutdown` when draining begins."""

    __slots__ = (
        "_begun_at",
        "_closed_at",
        "_closing",
        "_expired",
        "_gateway",
        "_heard_at",
        "_idle_since",
        "_loop",
        "_message",
        "_opened_at",
        "_owed",
        "_pinged",
        "_protocol",
        "_reading_paused",
        "_server",
        "_session",
        "_settings",
        "_text",
        "_transport",
        "_unread",
        "_unsent",
        "_unsent_since",
        "look_at",
        "paused",
    )

    def __init__(self, gateway: "Gateway", server: "ServerState", incoming: Incoming, client: str) -> None:
        self._gateway = gateway
        self._server = server
        self._loop = gateway.loop
        self._settings = gateway.snapshot.config.server
        self._protocol = Protocol(Side.SERVER, state=State.OPEN, max_size=int(self._settings.max_body))
        self._session = Session(gateway, self, incoming.fields, client)
        self._transport: asyncio.Transport | None = None
        self._message = bytearray()
        """The pieces of a message that have come before its last one; of a binary one nothing is kept."""
        self._text = True
        self._begun_at = 0.0
        """When the message that is being read began; 0 when none is."""
        now = self._loop.time()
        self._opened_at = self._idle_since = self._heard_at = now
        self._pinged = False
        self._expired = False
        self._closing = False
        self._closed_at = 0.0
        self._unread = bytearray()
        """What has come and was not looked at yet."""
        self._reading_paused = False
        self._unsent = 0
        self._unsent_since = now
        self._owed = 0
        self.paused = False
        self.look_at = UNWATCHED

    # -- transport ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)  # type: ignore[arg-type]
        self._gateway.websockets += 1
        settings = self._settings
        first = min(settings.websocket_ping, settings.websocket_idle, settings.websocket_lifetime)
        self._gateway.wheel.watch(self, self._opened_at + first)

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        self._pinged = False
        if len(data) <= SLICE_BYTES and not self._unread:
            self._heard_at = self._loop.time()
            self._read(transport, data)
        else:
            self._unread += data
            self._read_slices()

    def _read_slices(self) -> None:
        transport = self._transport
        if transport is None:
            return
        self._heard_at = self._loop.time()
        unread, self._unread = self._unread, bytearray()
        view = memoryview(unread)
        at = 0
        while at < len(unread):
            self._read(transport, bytes(view[at : at + SLICE_BYTES]))
            at += SLICE_BYTES
            if at < len(unread) and self._loop.time() - self._heard_at > SLICES_S:
                self._unread = bytearray(view[at:])
                if not self._reading_paused:
                    self._reading_paused = True
                    transport.pause_reading()
                self._loop.call_soon(self._read_slices)
                return
        if self._reading_paused:
            self._reading_paused = False
            if not transport.is_closing():
                transport.resume_reading()

    def _read(self, transport: asyncio.Transport, data: bytes) -> None:
        before = transport.get_write_buffer_size()
        try:
            self._protocol.receive_data(data)
            for frame in self._protocol.events_received():
                if not self._closing and isinstance(frame, Frame):
                    self._take(frame)
            self._finish_read()
        except Exception as bug:
            self._gateway.log.error("websocket_failed", exc_info=bug)
            self._fail(OUR_MISTAKE, "the gateway failed on this connection")
        if self.paused:
            self._owed += max(0, transport.get_write_buffer_size() - before)
            if self._owed > OWED_BYTES:
                self.drop()

    def eof_received(self) -> bool:
        """No more can come, so that the client is taken as gone, with or without a close frame."""
        self._gateway.departures.wait(self._depart)
        return True

    def _depart(self) -> None:
        self._leave()
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None:
            return
        self._transport = None
        self._closing = True
        self._server.connections.discard(self)
        self._gateway.websockets -= 1
        self._gateway.wheel.forget(self)
        self._session.lost()

    def pause_writing(self) -> None:
        self.paused = True
        self._owed = 0
        self._session.pause()
        self._watch_unsent()

    def resume_writing(self) -> None:
        self.paused = False
        self._heard_at = self._loop.time()  # while it was not read to, it was not asked either
        self._session.resume()

    def shutdown(self) -> None:
        """Draining has begun: what runs may finish, and nothing else begins."""
        self._session.drain()

    def leave(self) -> None:
        """Draining has ended: what has been said is sent, and nothing more is waited for."""
        self._session.stop()
        self.close(RESTART, "the gateway is shutting down")

    # -- what the session calls ---------------------------------------------------------------------------------

    def send(self, *messages: bytes) -> None:
        """Text messages, in one write."""
        if (
            self._closing or self._protocol.state is not State.OPEN
        ):  # a close frame may have come, or gone, in this read
            return
        for message in messages:
            self._protocol.send_text(message)
        self._flush()

    def idle(self) -> None:
        """Nothing runs and nothing waits: the clock of idle connections begins."""
        self._idle_since = self._loop.time()
        if not self._closing:
            self._gateway.wheel.watch(self, self._idle_since + self._settings.websocket_idle)

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; whatever runs has no client from now on."""
        if self._closing or self._transport is None or self._protocol.state is not State.OPEN:
            return
        self._protocol.send_close(code, reason[:REASON_CHARACTERS])
        self._begin_closing()
        self._flush()

    def drop(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._leave()
            self._transport.abort()

    # -- messages -----------------------------------------------------------------------------------------------

    def _take(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is OP_CLOSE:
            self._leave()
            return
        if opcode is OP_TEXT or opcode is OP_BINARY:
            self._text = opcode is OP_TEXT
        elif opcode is not OP_CONT:
            return
        if frame.fin and not self._message:
            text = bytes(frame.data)
        else:
            if self._text:
                self._message += frame.data
            if not frame.fin:
                return
            text = bytes(self._message)
            self._message = bytearray()
        self._begun_at = 0.0
        if not self._text:
            self._session.refuse(
                InvalidRequest(
                    "Binary messages are not taken here; send each event as a text message of JSON.",
                    code="binary_message",
                )
            )
            return
        try:
            jsonio.check_utf8(text)
        except jsonio.InvalidJSON as error:
            self._fail(INVALID_TEXT, str(error))  # RFC 6455 §8.1 leaves no choice
            return
        self._session.receive(text)

    def _finish_read(self) -> None:
        """After all whole frames of a read."""
        problem = self._protocol.parser_exc
        if problem is not None and not self._closing:
            if isinstance(problem, PayloadTooBig):
                limit = int(self._settings.max_body)
                self._say_last(BodyTooLarge(f"The message is larger than {limit} bytes (server.max_body)."))
            self._leave()
        self._flush()
        if self._closing:
            return
        if not self._message and not self._protocol.reader.buffer and self._protocol.current_size is None:
            self._begun_at = 0.0
        elif not self._begun_at:
            self._begun_at = self._heard_at
            self._gateway.wheel.watch(self, self._message_due())

    def _say_last(self, error: BodyTooLarge) -> None:
        """An error whose close frame is made already, which has to be behind it."""
        if self._transport is not None:
            self._transport.write(Frame(OP_TEXT, self._session.told(error)).serialize(mask=False))

    # -- endings ------------------------------------------------------------------------------------------------

    def _fail(self, code: int, reason: str) -> None:
        """End it because of a mistake; no answer of the client is of interest."""
        if self._closing:
            return
        self._protocol.fail(code, reason[:REASON_CHARACTERS])
        self._leave()
        self._flush()

    def _leave(self) -> None:
        """Nothing is sent any more, so that nothing needs to go on (promise P6)."""
        if not self._closing:
            self._begin_closing()

    def _begin_closing(self) -> None:
        self._closing = True
        self._closed_at = self._loop.time()
        self._heard_at = max(self._heard_at, self._closed_at)
        self._message = bytearray()
        self._session.gone()
        self._watch_unsent()
        self._gateway.wheel.watch(self, self._closed_at + LINGER_SILENCE_S)

    def _flush(self) -> None:
        transport = self._transport
        pieces = self._protocol.data_to_send()
        if transport is None or not pieces:
            return
        data = b"".join(pieces)
        if data:
            transport.write(data)
        if pieces[-1] == SEND_EOF:
            if self._protocol.close_rcvd is None and transport.can_write_eof():
                # It may be sending still: closing now would reset the connection, and lose what it was told last.
                transport.write_eof()
            else:
                transport.close()

    # -- clocks -------------------------------------------------------------------------------------------------

    @property
    def _ping_after(self) -> float:
        return float(self._settings.websocket_ping)

    def check(self, now: float) -> float | None:
        """The wheel's look (see `Watched`)."""
        transport = self._transport
        if transport is None:
            return None
        unsent = transport.get_write_buffer_size()
        if self.paused or (self._closing and unsent):
            looks = [self._check_unsent(unsent, now)]
        elif self._closing:
            looks = [self._check_linger(now)]
        else:
            looks = [self._check_peer(now)]
        if not self._closing:
            looks += [self._check_message(now), self._check_age(now)]
        return None if self._transport is None else min(looks)

    def _check_peer(self, now: float) -> float:
        """Whether the client is still there: a silent one is asked, and has as long again to answer."""
        after = self._ping_after
        if now >= self._heard_at + 2 * after:
            self._fail(OUR_MISTAKE, f"no sign of life for {2 * after:g} s (server.websocket_ping)")
        elif now >= self._heard_at + after and not self._pinged:
            self._pinged = True
            self._protocol.send_ping(b"")
            self._flush()
        return self._heard_at + (2 * after if self._pinged else after)

    def _message_due(self) -> float:
        """Loop time by which more of the message must have come."""
        timeout = self._settings.body_timeout
        size = len(self._message) + len(self._protocol.reader.buffer)
        return min(self._heard_at + timeout, self._begun_at + timeout + size / BODY_RATE_FLOOR)

    def _check_message(self, now: float) -> float:
        if self._closing or not self._begun_at:
            return UNWATCHED
        due = self._message_due()
        if now >= due:
            timeout = f"{self._settings.body_timeout:g}"
            error = RequestTimeout(f"The message stalled for {timeout} s, or came too slowly (server.body_timeout).")
            self._session.refuse(error)
            self.close(POLICY, error.message)
        return due

    def _check_age(self, now: float) -> float:
        """Whether it has been open, or idle, for as long as it may."""
        if self._closing:
            return UNWATCHED
        end = self._opened_at + self._settings.websocket_lifetime
        if now >= end and not self._expired:
            self._expired = True
            self._session.expire()
        if self._session.busy or self._closing:
            return UNWATCHED if self._expired else end
        idle = self._idle_since + self._settings.websocket_idle
        if now >= idle:
            self.close(GOING_AWAY, f"idle for {self._settings.websocket_idle:g} s (server.websocket_idle)")
        return min(end, idle)

    def _watch_unsent(self) -> None:
        """From now on the client has to take what waits for it."""
        if self._transport is not None:
            self._unsent = self._transport.get_write_buffer_size()
            self._unsent_since = self._loop.time()
            self._gateway.wheel.watch(self, self._unsent_since + self._session.send_stall / 4)

    def _check_unsent(self, unsent: int, now: float) -> float:
        """A client that reads slowly is served; one that does not read at all is dropped."""
        if unsent < self._unsent:
            self._unsent_since = now
        self._unsent = unsent
        limit = self._session.send_stall
        if now >= self._unsent_since + limit:
            self.drop()
        return min(self._unsent_since + limit, now + limit / 4)

    def _check_linger(self, now: float) -> float:
        due = min(self._heard_at + LINGER_SILENCE_S, self._closed_at + LINGER_S)
        if now >= due and self._transport is not None:
            self._transport.abort()
        return due
