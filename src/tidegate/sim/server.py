"""SimServer: the sim on a socket, for tests and benchmarks in this loop, and `serve` for a process of its own."""

import asyncio
import contextlib
import os
import signal
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from typing import Self

from tidegate.sim.claims import Claim
from tidegate.sim.connection import Connection, House, SimRequest
from tidegate.sim.desk import Desk

BACKLOG = 4096
STOP_TIMEOUT_S = 2.0
MOST_PORTS = 65535


class CannotListen(OSError):
    """The address cannot be bound; the message says why."""


class SimServer:
    """A real HTTP/1.1 server that plays a model provider. The model name of a request picks the script.

    `port=0` takes a free port. `keep_requests` is how many requests are remembered for assertions; with 0 none is, which makes the
    server cheaper. `models` gives scripts further names. Start and stop in the same loop, or use it as an async context manager.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        keep_requests: int = 1000,
        *,
        models: Mapping[str, str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.host = host
        self._wanted_port = port
        self._ssl_context = ssl_context
        desk = Desk(models)
        self._house = House(desk.answer, desk.watch, keep_requests)
        self._server: asyncio.Server | None = None
        self._port = 0

    async def start(self) -> None:
        """Listens. Raises CannotListen, as when the port is taken."""
        if not 0 <= self._wanted_port <= MOST_PORTS:  # uvloop would take the low sixteen bits of it
            raise CannotListen(
                f"Cannot listen on {self._shown_host}:{self._wanted_port}: a port is a number from 0 to {MOST_PORTS}."
            )
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Connection(self._house, loop),
                self.host,
                self._wanted_port,
                ssl=self._ssl_context,
                backlog=BACKLOG,
            )
        except (OSError, OverflowError) as error:
            raise CannotListen(f"Cannot listen on {self._shown_host}:{self._wanted_port}: {_reason(error)}.") from None
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stops listening and cuts what is open; returns when every connection is gone. A second call does nothing."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in tuple(self._house.open):
            connection.abort()
        await asyncio.wait_for(self._house.empty.wait(), STOP_TIMEOUT_S)
        await server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        return self._port

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as its base URL."""
        scheme = "https" if self._ssl_context is not None else "http"
        return f"{scheme}://{self._shown_host}:{self._port}/v1"

    @property
    def _shown_host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def requests(self) -> deque[SimRequest]:
        """The newest requests, oldest first."""
        return self._house.requests

    @property
    def claimed(self) -> Claim:
        """What the kept requests' answers said that was used, together."""
        total = Claim()
        for request in self.requests:
            claim = request.claim
            if claim is not None:
                total = total.plus(claim)
        return total

    @property
    def connections(self) -> int:
        """Connections open now."""
        return len(self._house.open)

    @property
    def connections_total(self) -> int:
        """Connections accepted since the start."""
        return self._house.total


def serve(
    host: str,
    port: int,
    announce: Callable[[str], None],
    *,
    models: Mapping[str, str] | None = None,
) -> None:
    """Runs a sim until SIGINT or SIGTERM, on uvloop where it is installed. `announce` gets the base URL once it listens.

    Raises CannotListen.
    """

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # Windows
                loop.add_signal_handler(number, stop.set)
        async with SimServer(host, port, keep_requests=0, models=models) as sim:
            announce(sim.base_url)
            await stop.wait()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner, contextlib.suppress(KeyboardInterrupt):
        runner.run(run())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _reason(error: OSError | OverflowError) -> str:
    """In the system's words: the event loop has its own, which tell the address once more."""
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error)
