"""TLS with a provider, over a plain connection of the loop.

Not the loop's own TLS: with that an open stream takes 6 KB more, no earlier session is taken up again, and an end that the other
side has declared looks like one that anybody on the way may have made.
"""

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

__all__ = ["Tls"]

RECORD_BYTES: Final = 16384
"""No record holds more (RFC 8446 §5.1), so that one read needs no more room."""


class Tls(asyncio.Protocol, asyncio.Transport):
    """The protocol of the plain connection, and the transport of the one that speaks through it.

    All records of one read are delivered together. A reading that is paused goes on where it stopped: what has been read by
    then is delivered at once.
    """

    __slots__ = (
        "_backlog",
        "_error",
        "_has_ended",
        "_incoming",
        "_inner",
        "_is_open",
        "_keep",
        "_loop",
        "_lower",
        "_outgoing",
        "_tls",
        "ready",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: ssl.SSLContext,
        host: str,
        inner: asyncio.Protocol,
        *,
        session: ssl.SSLSession | None = None,
        keep: Callable[[ssl.SSLObject], None] | None = None,
    ) -> None:
        """`inner` hears of its connection when the handshake is done. `session` is one of an earlier connection to the same
        host with the same context. `keep` is called once, when this connection's own can be asked for."""
        self._loop = loop
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host, session=session)
        self._inner = inner
        self._keep = keep
        self._lower: asyncio.Transport | None = None
        self._is_open = self._has_ended = False
        self._error: ssl.SSLError | None = None
        self._backlog: deque[memoryview] = deque()
        """What cannot be encrypted before the other side has said something."""
        self.ready: asyncio.Future[None] = loop.create_future()
        """Done when the handshake is. Raises ssl.SSLError, or another OSError where the connection ended before."""

    # -- the plain connection -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._lower = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's
        self._shake_hands()

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        if not self._is_open and not (self._shake_hands() and self._incoming.pending):
            return
        said = self._read()
        if self._backlog:
            self._encrypt()
        if self._outgoing.pending:
            self._flush()  # an answer to what TLS itself has been told
        if said:
            if self._keep is not None:
                self._keep(self._tls)  # the session's ticket comes before the first bytes
                self._keep = None
            self._inner.data_received(said)
        if self._error is not None:
            self._break()
        elif self._has_ended and self._lower is not None and not self._lower.is_closing():
            self._inner.eof_received()
            self.close()

    def eof_received(self) -> bool:
        if self._is_open:
            self._inner.eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lower = None
        self._backlog.clear()
        if self._is_open:
            self._is_open = False
            self._inner.connection_lost(exc)
        else:
            self._fail(exc or ConnectionAbortedError("the connection was closed"))

    def pause_writing(self) -> None:
        if self._is_open:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._is_open:
            self._inner.resume_writing()

    # -- the transport of what is within ------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        self._backlog.append(memoryview(data))
        self._encrypt()
        self._flush()
        if self._error is not None:
            self._loop.call_soon(self._break)  # nobody expects to be called within a write

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def pause_reading(self) -> None:
        if self._lower is not None:
            self._lower.pause_reading()

    def resume_reading(self) -> None:
        if self._lower is not None:
            self._lower.resume_reading()

    def is_closing(self) -> bool:
        return self._lower is None or self._lower.is_closing()

    def close(self) -> None:
        """Say that nothing more comes, and close when all has been sent."""
        if self._lower is None:
            return
        if self._is_open:
            with contextlib.suppress(ssl.SSLError):  # that of the other side need not be waited for (RFC 8446 §6.1)
                self._tls.unwrap()
            self._flush()
        self._lower.close()

    def abort(self) -> None:
        self.ready.cancel()
        if self._lower is not None:
            self._lower.abort()

    def get_write_buffer_size(self) -> int:
        waiting = sum(map(len, self._backlog)) if self._backlog else 0
        return waiting if self._lower is None else waiting + self._lower.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._tls
        return default if self._lower is None else self._lower.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Have another one speak through it."""
        self._inner = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._inner

    @property
    def has_ended(self) -> bool:
        """Whether the other side has said that nothing more comes. Without it anybody may have cut what came."""
        return self._has_ended

    # -- inside -------------------------------------------------------------------------------------------------

    def _shake_hands(self) -> bool:
        """Whether it is done."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            self._flush()  # the alert that tells why
            self._fail(error)
            if self._lower is not None:
                self._lower.close()
            return False
        self._flush()
        self._is_open = True
        self._inner.connection_made(self)
        if not self.ready.done():
            self.ready.set_result(None)
        return True

    def _read(self) -> bytes:
        """All that has come."""
        tls, incoming = self._tls, self._incoming
        said = b""
        pieces: list[bytes] | None = None
        while True:
            try:
                piece = tls.read(RECORD_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError as error:
                self._error = error
                break
            if not piece:
                self._has_ended = True
                break
            if not said:
                said = piece
            elif pieces is None:
                pieces = [said, piece]
            else:
                pieces.append(piece)
            if not incoming.pending:  # a read takes a whole record
                break
        return said if pieces is None else b"".join(pieces)

    def _encrypt(self) -> None:
        backlog = self._backlog
        while backlog:
            try:
                written = self._tls.write(backlog[0])
            except ssl.SSLWantReadError:
                return
            except ssl.SSLError as error:
                self._error = error
                return
            if written == len(backlog[0]):
                backlog.popleft()
            else:
                backlog[0] = backlog[0][written:]  # one record at a time

    def _flush(self) -> None:
        if self._lower is not None and (data := self._outgoing.read()):
            self._lower.write(data)

    def _break(self) -> None:
        """What came is no TLS, or not that of the other side."""
        lower, self._lower = self._lower, None
        if lower is not None:
            lower.abort()
        if self._is_open:
            self._is_open = False
            self._inner.connection_lost(self._error)

    def _fail(self, error: Exception) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)
