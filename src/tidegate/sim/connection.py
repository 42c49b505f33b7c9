"""Connection: reads requests from one client and plays the steps of the answers to it."""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import httptools
import msgspec

from tidegate.sim.claims import Claim, claim_in
from tidegate.sim.errors import Refusal, error_object
from tidegate.sim.faults import FAULTS
from tidegate.sim.options import Options
from tidegate.sim.reply import Ending, Step, error_reply, steps
from tidegate.sim.upload import PATHS, Upload

# No test sends more; a client that does is told so and is not buffered for.
MAX_BODY_BYTES = 64 * 1024 * 1024

# Of an answer, for requests that are kept: what it used is told at the end.
KEPT_BYTES = 64 * 1024

_LINGER_0 = struct.pack("ii", 1, 0)


class SimRequest:
    """A request as it was received, and what became of its answer. Times are those of the loop's clock; None: not (yet)."""

    __slots__ = (
        "body",
        "closed_by_peer_at",
        "connection_id",
        "finished_at",
        "headers",
        "lost_at",
        "method",
        "path",
        "started_at",
        "upload",
        "written",
    )

    def __init__(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes | Upload,
        connection_id: int,
        started_at: float,
    ) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        """Names in lower case; of a repeated header the values are joined by a comma."""
        self.upload: Upload | None = body if isinstance(body, Upload) else None
        """A form, whose body is not kept: as much of it as has come."""
        self.body = b"" if isinstance(body, Upload) else body
        self.connection_id = connection_id
        self.started_at = started_at
        """When the request was complete; of a form, when it began."""
        self.finished_at: float | None = None
        """When the last byte of the answer was handed to the transport, or the connection was cut on purpose."""
        self.closed_by_peer_at: float | None = None
        """When the client left before that."""
        self.lost_at: float | None = None
        """When its connection was gone, whoever ended it, if no other request came on it."""
        self.written = bytearray()
        """The answer, as far as it was handed to the transport, and not more than the last of it."""

    @property
    def claim(self) -> Claim | None:
        """What the answer said that was used; None if it did not, or did not come so far."""
        return claim_in(bytes(self.written))

    @property
    def json(self) -> Any:
        """The body decoded. Raises msgspec.DecodeError if it is no JSON."""
        return msgspec.json.decode(self.body)

    def __repr__(self) -> str:
        return f"<SimRequest {self.method} {self.path} on connection {self.connection_id}>"


class House:
    """What the connections of a server share."""

    def __init__(
        self, answer: Callable[..., Iterable[Step]], watch: Callable[[str], Options], keep_requests: int
    ) -> None:
        self.answer = answer
        self.watch = watch
        self.requests: deque[SimRequest] = deque(maxlen=keep_requests)
        self.recording = keep_requests > 0
        self.open: set[Connection] = set()
        self.empty = asyncio.Event()
        self.empty.set()
        self.total = 0

    def came(self, connection: "Connection") -> int:
        """Counts a connection in; returns its number."""
        self.open.add(connection)
        self.empty.clear()
        self.total += 1
        return self.total

    def left(self, connection: "Connection") -> None:
        """Counts a connection out."""
        self.open.discard(connection)
        if not self.open:
            self.empty.set()


class Connection(asyncio.Protocol):
    """One client. No task, no queue between steps: a timer or the loop's next turn drives the answer."""

    __slots__ = (
        "_body",
        "_body_size",
        "_due",
        "_ending",
        "_handle",
        "_headers",
        "_held",
        "_house",
        "_id",
        "_intake",
        "_keep_alive",
        "_last",
        "_loop",
        "_next",
        "_parser",
        "_paused",
        "_pending",
        "_playing",
        "_request",
        "_steps",
        "_taken_at",
        "_transport",
        "_upload",
        "_uploading",
        "_url",
        "_used",
        "_watched",
    )

    def __init__(self, house: House, loop: asyncio.AbstractEventLoop) -> None:
        self._house = house
        self._loop = loop
        self._parser: Any = None
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._id = 0
        self._used = False
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._body_size = 0
        self._upload: Upload | None = None
        self._uploading: SimRequest | None = None
        self._watched: Options | None = None
        self._pending: deque[tuple[str, str, dict[str, str], bytes | Upload, bool]] = deque()
        self._playing = False
        self._keep_alive = True
        self._request: SimRequest | None = None
        self._last: SimRequest | None = None
        self._steps: Iterator[Step] = iter(())
        self._next: bytes | Ending = b""
        self._due = 0.0
        self._handle: asyncio.Handle | None = None
        self._intake: asyncio.Handle | None = None
        self._taken_at = 0.0
        self._paused = False
        self._held = False
        self._ending = False

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpRequestParser(self)
        self._id = self._house.came(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Nothing here is worth an upgrade; the request itself has been read and is answered.
            return
        except httptools.HttpParserError:
            if not self._playing:
                self._refuse(400, "The request is not valid HTTP.")

    def eof_received(self) -> bool:
        # A client that closes its side does not wait for an answer: no client of a gateway half-closes.
        self._left()
        return False

    def connection_lost(self, _exc: Exception | None) -> None:
        self._left()
        last = self._uploading or self._last
        if last is not None:
            last.lost_at = self._loop.time()
        self._house.left(self)
        self._pending.clear()
        self._steps = iter(())
        self._parser = None

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._held:
            self._held = False
            self._due = self._loop.time()
            self._advance()

    # The parser's side.

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._body = []
        self._body_size = 0
        self._upload = self._watched = None

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._house.recording or name.lower() == b"content-type":
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        kind = self._headers.get("content-type", "")
        path = self._url.decode("latin-1").partition("?")[0]
        if path not in PATHS or not kind.lower().startswith("multipart/") or self._ending:
            return
        try:
            self._upload = Upload(kind)
        except Refusal as refusal:
            self._refuse(refusal.status, str(refusal))
            return
        if self._house.recording:
            self._uploading = SimRequest("POST", path, self._headers, self._upload, self._id, self._loop.time())
            self._house.requests.append(self._uploading)

    def _on_upload(self, upload: Upload, body: bytes) -> None:
        if self._ending:
            return
        try:
            upload.feed(body)
        except Refusal as refusal:
            self._refuse(refusal.status, str(refusal))
            return
        model = upload.field("model")
        if self._watched is None and model is not None and upload.name is not None:
            self._watched = self._house.watch(model)
        watched = self._watched
        if watched is None:
            return
        match watched.fault and FAULTS[watched.fault].on_upload:
            case "stall":
                self._ending = True  # also if all of it is there already
                self._transport.pause_reading()
            case "reset":
                self._reset()
            case "refuse":
                self._refuse(413, "Maximum content size limit exceeded.")
            case _ if watched.intake is not None:
                self._transport.pause_reading()
                since = self._loop.time() if self._intake is None else self._taken_at
                self._taken_at = since + len(body) / watched.intake
                if self._intake is not None:
                    self._intake.cancel()
                self._intake = self._loop.call_at(self._taken_at, self._read_on)

    def _read_on(self) -> None:
        self._intake = None
        self._transport.resume_reading()
        self._start()

    def on_body(self, body: bytes) -> None:
        if self._upload is not None:
            self._on_upload(self._upload, body)
            return
        self._body_size += len(body)
        if self._body_size > MAX_BODY_BYTES:
            self._body = []
            self._refuse(413, "The request body is too large for the sim.")
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._ending:
            return
        body: bytes | Upload = b"".join(self._body) if self._upload is None else self._upload
        method = self._parser.get_method().decode("latin-1")
        self._pending.append(
            (method, self._url.decode("latin-1"), self._headers, body, self._parser.should_keep_alive())
        )
        self._start()

    # The player.

    def _start(self) -> None:
        """The next answer, if there is one to give and nothing it has to wait for."""
        if self._playing or self._intake is not None or not self._pending:
            return
        method, path, headers, body, self._keep_alive = self._pending.popleft()
        self._playing = True
        if self._house.recording and isinstance(body, Upload):
            self._request, self._uploading = self._uploading, None
        elif self._house.recording:
            self._request = SimRequest(method, path, headers, body, self._id, self._loop.time())
            self._house.requests.append(self._request)
        self._last = self._request
        try:
            answer = self._house.answer(method, path, body, reused=self._used)
        except Exception as error:  # the parser would turn it into a silent hang
            answer = steps(error_reply(error_object(500, f"The sim is broken: {error!r}"), 500), Options())
        self._used = True
        self._play(answer)

    def _play(self, answer: Iterable[Step]) -> None:
        self._steps = iter(answer)
        self._due = self._loop.time()
        wait, self._next = next(self._steps)
        if wait:
            self._wait(wait)
        else:
            self._advance()

    def _wait(self, wait: float) -> None:
        # Against a due time, not from now: the pace of a stream does not drift with the load.
        self._due += wait
        self._handle = self._loop.call_at(self._due, self._advance)

    def _advance(self) -> None:
        self._handle = None
        if self._transport.is_closing():
            return
        data = self._next
        if type(data) is bytes:
            if self._paused:
                self._held = True
                return
            self._transport.write(data)
            if self._request is not None:
                written = self._request.written
                written += data
                if len(written) > 2 * KEPT_BYTES:
                    del written[:-KEPT_BYTES]
            step = next(self._steps, None)
            if step is None:
                self._end(Ending.KEEP)
                return
            wait, self._next = step
            if wait:
                self._wait(wait)
            elif type(self._next) is bytes:
                self._handle = self._loop.call_soon(self._advance)
            else:
                self._end(self._next)
        else:
            self._end(data)

    def _end(self, ending: Any) -> None:
        if ending is Ending.HANG:
            return
        if self._request is not None:
            self._request.finished_at = self._loop.time()
        if ending is Ending.RESET:
            self._reset()
        elif ending is Ending.CLOSE or not self._keep_alive:
            self._ending = True
            self._transport.close()
        else:
            self._playing = False
            self._request = None
            self._start()

    def _reset(self) -> None:
        sock: socket.socket = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        self._ending = True
        self._transport.abort()

    def _refuse(self, status: int, message: str) -> None:
        """Answers a request that cannot be read to its end, and closes."""
        if self._ending:
            return
        self._ending = self._playing = True
        self._keep_alive = False
        self._play(steps(error_reply(error_object(status, message), status), Options()))

    def _left(self) -> None:
        for timer in (self._handle, self._intake):
            if timer is not None:
                timer.cancel()
        self._handle = self._intake = None
        request = self._request or self._uploading
        if request is not None and request.finished_at is None and request.closed_by_peer_at is None:
            request.closed_by_peer_at = self._loop.time()

    def abort(self) -> None:
        """Ends the connection at once, as the server stops."""
        self._request = None
        self._transport.abort()
