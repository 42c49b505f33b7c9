"""Providers that have not told which models they have are asked again: they may come up after the gateway."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

__all__ = ["FIRST_PAUSE_S", "MOST_PAUSE_S", "Relisting"]

FIRST_PAUSE_S: Final = 5.0
MOST_PAUSE_S: Final = 60.0
"""Seconds until providers are asked again; each pause is twice as long as the one before."""


class Relisting:
    """Asks until every list is known. `unlisted` names the providers whose lists are not, `ask` asks some of them."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        unlisted: Callable[[], frozenset[str]],
        ask: Callable[[frozenset[str]], Awaitable[None]],
        *,
        first_s: float = FIRST_PAUSE_S,
        most_s: float = MOST_PAUSE_S,
    ) -> None:
        self._loop = loop
        self._unlisted = unlisted
        self._ask = ask
        self._first_s = first_s
        self._most_s = most_s
        self._silent: frozenset[str] = frozenset()
        """Providers without a list that have not answered a request either."""
        self._pause_s = first_s
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """All providers have been asked."""
        self._silent = self._unlisted()
        self._pause_s = self._first_s
        self._wait()

    def answered(self, provider: str) -> None:
        """A request to this provider has succeeded: it is there, and is asked at once, but only the first time."""
        if provider in self._silent:
            self._silent -= {provider}
            self._run(frozenset({provider}))

    async def close(self) -> None:
        """Ask nobody any more."""
        self._silent = frozenset()
        self._stop()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _wait(self) -> None:
        self._stop()
        if self._unlisted():
            self._timer = self._loop.call_later(self._pause_s, self._ask_again)
            self._pause_s = min(2 * self._pause_s, self._most_s)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ask_again(self) -> None:
        self._timer = None
        if chosen := self._unlisted():
            self._run(chosen, then=self._wait)

    def _run(self, chosen: frozenset[str], then: Callable[[], None] | None = None) -> None:
        async def run() -> None:
            await self._ask(chosen)
            self._silent &= self._unlisted()
            if then is not None:
                then()

        task = self._loop.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
