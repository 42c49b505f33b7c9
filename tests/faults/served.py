"""`tidegate serve` as a process of its own, in front of a simulator in this one that tells what reached it."""

import asyncio
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import uvloop

from tests.faults.clients import Answer, receive, request
from tests.faults.witnesses import Entry, Since, entries_in, settled
from tests.support.processes import Gateway
from tests.support.raw import Listening, Raw
from tidegate.sim import SimServer
from tidegate.sim.connection import SimRequest

__all__ = ["STREAMING", "Sim", "Under", "streaming"]

STREAMING: Final = ("responses", "chat", "completions", "messages", "gemini")
"""The APIs whose streams are under way when something befalls the process."""

TOML: Final = """
[server]
port = {port}
data_dir = "{data}"
{server}
[logging]
format = "json"
[routing]
retries = 0
eject_after = 0
[providers.sim]
base_url = "{sim}"
timeouts = {{ first_event = "20s", idle = "20s" }}
"""


class Sim:
    """`with Sim() as sim:` — a provider in a thread of its own."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="simulator")
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._server: SimServer

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with SimServer() as self._server:
            self._ready.set()
            await self._stop.wait()

    @property
    def base_url(self) -> str:
        return self._server.base_url

    def calls(self, marker: str = "") -> list[SimRequest]:
        """Those with that text, in their order."""
        return [one for one in list(self._server.requests) if one.method == "POST" and marker.encode() in one.body]


class Under:
    """`with Under(sim, folder, more) as gateway:` — a gateway that answers, under whatever the test does to it."""

    def __init__(
        self,
        sim: Sim,
        folder: Path,
        more: str = "",
        *,
        server: str = "",
        entries: Callable[[], list[Entry]] | None = None,
        **options: Any,
    ) -> None:
        """`server` stands in that table of the configuration, and `more` behind all of it. `entries` reads its ledger, if
        that is not in the folder; `options` are those of `Gateway`."""
        self.folder = folder
        self.entries: Callable[[], list[Entry]] = entries or (lambda: entries_in(folder))
        self._toml = TOML.format(port="{port}", data=folder, sim=sim.base_url, server=server)
        self.process = Gateway(self._toml + more, folder, **options)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        return self.process.port

    @property
    def origin(self) -> str:
        return self.process.origin

    def start(self) -> None:
        """Until it answers."""
        asyncio.run(self.process.start())

    def stop(self) -> None:
        asyncio.run(self.process.stop())

    def signal(self, number: signal.Signals) -> float:
        """Send it; when that was, on the monotonic clock."""
        self.process.process.send_signal(number)
        return time.monotonic()

    # -- what is seen of it -------------------------------------------------------------------------------------

    def since(self) -> Since:
        return Since(self, self.entries)

    def configure(self, more: str) -> None:
        """What its file says behind what is always there, from when it is told to look at it."""
        toml = (self._toml + more).replace("{port}", str(self.port))
        (self.folder / "gateway.toml").write_text(toml, "utf-8")

    def settled(self, count: int) -> list[Entry]:
        """Its ledger, as soon as so many stand in it and none is open."""
        return settled(self.entries, count)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of its log that tell of this."""
        lines = [json.loads(line) for line in self.process.log.splitlines() if line.startswith('{"')]
        return [line for line in lines if line["event"] == name]


@contextmanager
def streaming(gateway: Listening, model: str, marker: str, **more: Any) -> Iterator[dict[str, "Future[Answer]"]]:
    """A stream in each API, all of which have begun to say something; and all of its answer, as soon as it is there. What
    reached the provider has the marker in it, with the API's name behind."""
    begun = {client: threading.Event() for client in STREAMING}

    def read(client: str) -> Answer:
        with Raw(gateway, timeout=20) as raw:
            raw.send(request(client, model, f"{marker}-{client}", stream=True, **more))
            while b"ipsum" not in raw.buffer:
                raw.more()
            begun[client].set()
            return receive(raw)

    with ThreadPoolExecutor(len(STREAMING)) as pool:
        answers = {client: pool.submit(read, client) for client in STREAMING}
        assert all(one.wait(10) for one in begun.values()), [one.exception(0) for one in answers.values() if one.done()]
        yield answers
