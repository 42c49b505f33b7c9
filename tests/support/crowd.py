"""Clients that ask all the time while something is done to the gateway, and a provider for them in a thread of its own."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from tidegate.sim import SimServer

__all__ = ["Crowd", "simulator"]


@contextmanager
def simulator() -> Iterator[str]:
    loop = asyncio.new_event_loop()
    sim = SimServer(keep_requests=0)
    loop.run_until_complete(sim.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield sim.base_url
    finally:
        asyncio.run_coroutine_threadsafe(sim.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


class Crowd:
    """Clients that ask all the time, each in its own way, and note what they are told."""

    def __init__(self, *ways: Callable[[], None]) -> None:
        self.counts = [0] * len(ways)
        self.problems: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._go_on, args=(at, way)) for at, way in enumerate(ways)]

    def _go_on(self, at: int, way: Callable[[], None]) -> None:
        while not self._stop.is_set():
            try:
                way()
            except Exception as problem:
                self.problems.append(f"{way.__name__}: {problem!r}")
                return
            self.counts[at] += 1

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)
