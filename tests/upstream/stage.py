"""What these tests share: a provider that follows a script on a real socket, and a receiver that keeps what it hears."""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import trustme
import uvloop

from tidegate.config.schema import ProviderConfig
from tidegate.config.secret import Secret
from tidegate.upstream.attempt import Attempt
from tidegate.upstream.connection import Clocks
from tidegate.upstream.egress import Resolver
from tidegate.upstream.head import Headers, fields_of
from tidegate.upstream.provider import MAX_CONNECTIONS, Upstream
from tidegate.upstream.wheel import Wheel
from tidegate.wire import errors
from tidegate.wire.forms import Upload

T = TypeVar("T")

LIMIT_S = 20.0
SLACK_S = 0.25 + 0.35
"""One bucket of the wheel, and what a busy machine may add."""

CANARY = "sk-canary-0123456789"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
LOOPS = ("uvloop", "asyncio")


def run(scenario: Callable[[], Awaitable[T]], loop: str = "uvloop") -> T:
    """Runs `scenario`; a task or socket that is left over, or an error that only the loop's handler saw, fails it."""
    problems: list[str] = []

    async def main() -> T:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: problems.append(str(context.get("exception") or context["message"]))
        )
        before = sockets()
        async with asyncio.timeout(LIMIT_S):
            result = await scenario()
        await until(lambda: len(asyncio.all_tasks()) == 1 and sockets() <= before, 2)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left over: {left}"
        assert sockets() <= before, f"sockets left over: {before} → {sockets()}"
        return result

    factory: Any = uvloop.new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        result = runner.run(main())
    assert not problems, problems
    return result


def sockets() -> int:
    """Sockets this process holds."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return found


async def until(look: Callable[[], object], within: float = 3.0) -> None:
    """Waits until `look` is true, or time is up: then the assertion that follows says more."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    while not look() and loop.time() < end:  # noqa: ASYNC110 - what is looked at belongs to code that sets no event
        await asyncio.sleep(0.005)


class Peer:
    """The provider's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number
        self.closed_at: float | None = None
        """When the gateway's end went away."""

    async def request(self) -> bytes:
        """One request, head and body. Raises asyncio.IncompleteReadError when there is none."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line[15:])
        return head + await self.reader.readexactly(length)

    def send(self, *data: bytes) -> None:
        for piece in data:
            self.writer.write(piece)

    def reset(self) -> None:
        """RST instead of FIN."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()

    async def gone(self) -> None:
        """Returns when the gateway has closed its end."""
        with contextlib.suppress(OSError):
            while await self.reader.read(65536):
                pass
        self.closed_at = asyncio.get_running_loop().time()


Script = Callable[[Peer], Awaitable[None]]


class Provider:
    """A server on loopback whose every connection plays `script`, and is closed when that returns."""

    def __init__(
        self, script: Script, *, context: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._script = script
        self._context = context
        self._host = host
        self._wanted = port
        self.peers: list[Peer] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.failures: list[BaseException] = []
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, self._host, self._wanted, ssl=self._context, limit=1 << 26, backlog=512
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self.tasks):
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)
        for peer in self.peers:
            peer.writer.transport.abort()
        await asyncio.sleep(0)
        assert not self.failures, self.failures

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer, len(self.peers))
        self.peers.append(peer)
        task = asyncio.get_running_loop().create_task(self._play(peer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _play(self, peer: Peer) -> None:
        try:
            await self._script(peer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        except Exception as error:
            self.failures.append(error)
        finally:
            peer.writer.close()

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://localhost:{self.port}/v1"


def answering(*answers: bytes) -> Script:
    """A script that answers each request of a connection with the next of `answers`, the last one over and over."""

    async def script(peer: Peer) -> None:
        turn = 0
        while True:
            await peer.request()
            peer.send(answers[min(turn, len(answers) - 1)])
            turn += 1

    return script


def saying(*pieces: bytes, hold: bool = False) -> Script:
    """A script that reads one request, sends `pieces` in writes of their own, and closes or holds the connection."""

    async def script(peer: Peer) -> None:
        await peer.request()
        for piece in pieces:
            peer.send(piece)
            await peer.writer.drain()
            await asyncio.sleep(0.001)
        if hold:
            await peer.gone()

    return script


class Answer:
    """A receiver that keeps everything, and notes whatever the contract forbids."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.attempt: Attempt
        self.status = 0
        self.headers: Headers = []
        self.bodies: list[bytes] = []
        self.error: errors.TidegateError | None = None
        self.ended = False
        self.quiet = False
        """Set once it must not be told anything more."""
        self.finished_at = 0.0
        self.wrong: list[str] = []
        self.on_head: Callable[[], None] | None = None
        self.on_body: Callable[[], None] | None = None
        self.on_end: Callable[[], None] | None = None
        self._over = asyncio.Event()

    def upstream_head(self, status: int, head: bytes) -> None:
        self._expect(not self.status and not self.bodies, "a second head")
        self.status, self.headers = status, fields_of(head)
        if self.on_head is not None:
            self.on_head()

    def upstream_body(self, data: bytes) -> None:
        self._expect(self.status > 0, "a body before the head")
        self._expect(len(data) > 0, "an empty body")
        self.bodies.append(data)
        if self.on_body is not None:
            self.on_body()

    def upstream_end(self) -> None:
        self._expect(self.status > 0, "an end before the head")
        self._finish()
        self.ended = True
        if self.on_end is not None:
            self.on_end()

    def upstream_failed(self, error: errors.TidegateError) -> None:
        self._finish()
        self.error = error
        if self.on_end is not None:
            self.on_end()

    def _expect(self, true: bool, what: str) -> None:
        if self._over.is_set():
            self.wrong.append(f"{what} after the end")
        if self.quiet:
            self.wrong.append(f"{what} after it had been let go")
        if not true:
            self.wrong.append(what)

    def _finish(self) -> None:
        self._expect(True, "an ending")
        self.finished_at = self.loop.time()
        self._over.set()

    @property
    def body(self) -> bytes:
        return b"".join(self.bodies)

    async def over(self) -> Self:
        await self._over.wait()
        assert not self.wrong, self.wrong
        return self

    @property
    def message(self) -> str:
        assert self.error is not None, f"no error but status {self.status} and {self.body[:100]!r}"
        return self.error.message


class Stage:
    """An upstream whose provider is at `url`, with a wheel of its own."""

    def __init__(
        self,
        url: str,
        *,
        name: str = "lab",
        environment: Mapping[str, str] | None = None,
        resolver: Resolver | None = None,
        limit: int = MAX_CONNECTIONS,
        credentials: Sequence[str] = (CANARY,),
        proxy: str | None = None,
        **settings: Any,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.wheel = Wheel(self.loop)
        config = ProviderConfig(
            kind="openai-compatible",
            base_url=url,
            credentials=tuple(Secret(one) for one in credentials),
            proxy=None if proxy is None else Secret(proxy),
            **settings,
        )
        self.upstream = Upstream(
            name, config, self.loop, self.wheel, environment=environment or {}, resolver=resolver, max_connections=limit
        )
        self.pool = self.upstream.pool

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.upstream.close()
        self.wheel.close()

    def ask(
        self,
        body: bytes | Upload = b"{}",
        *,
        stream: bool = True,
        connect: float = 5.0,
        first_event: float | None = 5.0,
        idle: float | None = 5.0,
        total: float | None = None,
        answer: Answer | None = None,
    ) -> Answer:
        """Starts an attempt; the answer has it as `attempt`."""
        answer = answer or Answer()
        clocks = Clocks(connect=connect, first_event=first_event, idle=idle, total=total)
        if isinstance(body, bytes):
            sent = self.upstream.request("chat", body, stream=stream)
        else:
            sent = self.upstream.upload("transcription", body, stream=stream)
        answer.attempt = Attempt(
            self.pool,
            self.loop,
            sent,
            answer,
            clocks,
            self.loop.time() + clocks.total_s,
            wait_for_event=stream,
        )
        answer.attempt.start()
        return answer

    async def fetch(self, body: bytes | Upload = b"{}", **options: Any) -> Answer:
        """A whole attempt."""
        return await self.ask(body, **options).over()


class Certificates:
    """An authority for the length of a test, and what it signs."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.bundle = str(folder / "ca.pem")
        self._ca.cert_pem.write_to_path(self.bundle)

    def server(self, *names: str, **options: Any) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*(names or ("localhost",)), **options).configure_cert(context)
        return context


@contextlib.contextmanager
def full_listener() -> Iterator[int]:
    """The port of a socket that completes no connection, because its backlog is full: connecting to it hangs."""
    listener = socket.socket()
    others = []
    try:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            other = socket.socket()
            other.setblocking(False)
            other.connect_ex(listener.getsockname())
            others.append(other)
        yield listener.getsockname()[1]
    finally:
        for other in others:
            other.close()
        listener.close()
