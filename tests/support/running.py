"""A real gateway on a real socket, with a real simulator behind it, in a thread of this process."""

import asyncio
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

from tidegate.config.automatic import automatic
from tidegate.config.load import load
from tidegate.config.schema import Config
from tidegate.server.compose import Announcement, Server, bind, make_server
from tidegate.sim import SimServer

T = TypeVar("T")

SIM_ONLY = """
[server]
port = 0
[defaults]
model = "sim/echo"
[providers.sim]
base_url = "{sim}"
"""
"""The configuration that most tests want: `{sim}` stands for the simulator's base URL."""


class _Log(io.StringIO):
    """Keeps what was logged after it is closed."""


class Running:
    """`with Running() as gateway:` — then `gateway.url` answers, and `gateway.sim` tells what reached the provider."""

    def __init__(
        self,
        toml: str | None = SIM_ONLY,
        *,
        environment: Mapping[str, str] | None = None,
        drain: float | None = None,
        path: Path | None = None,
        command_line: Mapping[str, object] | None = None,
    ) -> None:
        """Without `toml` it starts as an installation without a file does. `path` is the file that a reload reads."""
        self._toml = toml
        self._environment = dict(environment or {})
        self._thread = threading.Thread(target=self._run, name="gateway")
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._log = _Log()
        self._drain = drain
        self._path = path
        self._command_line = dict(command_line or {})
        self.port = 0
        self.listener: socket.socket
        self.loop: asyncio.AbstractEventLoop
        self.sim: SimServer
        self.server: Server
        self.announcement: Announcement

    # -- life ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(20)
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        assert self.port, "the gateway did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive(), "the gateway did not stop"

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._main())
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        async with SimServer() as sim:
            self.sim = sim
            config = self._load(sim)
            self.listener = bind(config)
            self.port = self.listener.getsockname()[1]
            self.server = make_server(config, self._environment, self._on_ready, log_stream=self._log)
            await self.server.serve(sockets=[self.listener])

    def _on_ready(self, announcement: Announcement) -> None:
        self.announcement = announcement
        self._ready.set()

    def _load(self, sim: SimServer) -> Config:
        if self._toml is None:
            return automatic(self._environment, command_line={"server.port": 0, **self._command_line})
        text = self._toml.replace("{sim}", sim.base_url)
        if self._path is not None:
            self._path.write_text(text, "utf-8")
        return load(text, str(self._path or "tidegate.toml"), self._environment, command_line=self._command_line)

    # -- what tests look at -------------------------------------------------------------------------------------

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The base URL that clients are given."""
        return f"{self.origin}/v1"

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` on the gateway's own event loop and return its result."""

        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        """Everything logged so far."""
        return [json.loads(line) for line in self._log.getvalue().splitlines() if line.startswith("{")]

    def usage(self, request_id: str, timeout: float = 3.0) -> dict[str, Any]:
        """The usage entry of one request, which is written as soon as the answer has ended."""
        lines = self.server._parts._lines
        assert lines is not None

        def look() -> list[dict[str, Any]]:
            self.call(lines.flush)
            wanted = [line for line in self._log.getvalue().splitlines() if request_id in line]
            return [line for line in map(json.loads, wanted) if line["event"] == "request"]

        found = wait_for(look, timeout)
        assert len(found) == 1, f"{len(found)} entries for {request_id}"
        return found[0]


def wait_for(look: Callable[[], T], timeout: float = 3.0) -> T:
    """The first true value of `look`; the last one when time is up, so that the assertion after it can say more."""
    until = time.monotonic() + timeout
    while not (found := look()) and time.monotonic() < until:
        time.sleep(0.01)
    return found
