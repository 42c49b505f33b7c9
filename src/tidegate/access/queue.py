"""A short wait for those who have as many requests under way as they may have (`limits.streams`).

Who waits comes in turn, and no newcomer passes by. A place that another gateway frees is seen within :data:`LOOK_S`.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable
from types import CoroutineType
from typing import Any, Final, cast

from tidegate.access.limits import Gate, Reservation
from tidegate.access.scopes import Scope
from tidegate.wire.errors import RateLimited

__all__ = ["StreamQueue"]

LOOK_S: Final = 0.1


class _Line:
    """Who waits for one limit. Whoever has the lock is the first."""

    __slots__ = ("first", "freed", "waiting")

    def __init__(self) -> None:
        self.first = asyncio.Lock()  # gives way in the order in which it was asked for
        self.freed = asyncio.Event()
        self.waiting = 0


class StreamQueue:
    """Lives on one event loop."""

    def __init__(self, most: int, timeout_s: float) -> None:
        """At most `most` wait for each limit, each for about `timeout_s`."""
        self.most = most
        """0: nobody waits."""
        self._timeout_s = timeout_s
        self._lines: dict[tuple[str, str], _Line] = {}

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(line.waiting for line in self._lines.values())

    def freed(self) -> None:
        """A request has ended: whoever is first may have a place."""
        for line in self._lines.values():
            line.freed.set()

    def reserve(
        self, gate: Gate, scopes: Iterable[Scope], tokens: int, cost_nano: int
    ) -> Reservation | Coroutine[Any, Any, Reservation]:
        """As the gate's own, but who finds no place waits for one. Raises RateLimited and BudgetExhausted, here or when
        awaited."""
        if not self.most:
            return gate.reserve(tokens, cost_nano)
        for scope in scopes if self._lines else ():
            if (line := self._lines.get((scope.level, scope.id))) is not None and line.waiting < self.most:
                return self._wait(gate, tokens, cost_nano, (scope.level, scope.id))
        try:
            found = gate.reserve(tokens, cost_nano)
        except RateLimited as error:
            if error.busy is None:
                raise
            return self._wait(gate, tokens, cost_nano, error.busy)
        return self._or_wait(gate, found, tokens, cost_nano) if isinstance(found, CoroutineType) else found

    async def _or_wait(
        self, gate: Gate, found: Coroutine[Any, Any, Reservation], tokens: int, cost_nano: int
    ) -> Reservation:
        try:
            return await found
        except RateLimited as error:
            if error.busy is None:
                raise
            busy = error.busy
        return await self._wait(gate, tokens, cost_nano, busy)

    async def _wait(self, gate: Gate, tokens: int, cost_nano: int, busy: tuple[str, str]) -> Reservation:
        """In turn for a place under the limit of `busy`."""
        line = self._lines.setdefault(busy, _Line())
        if line.waiting >= self.most:
            return await _reserved(gate, tokens, cost_nano)  # which tells why not
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        line.waiting += 1
        try:
            try:
                async with asyncio.timeout_at(deadline):
                    await line.first.acquire()
            except TimeoutError:
                return await _reserved(gate, tokens, cost_nano)  # which tells why not
            try:
                return await self._as_first(line, gate, tokens, cost_nano, deadline)
            finally:
                line.first.release()
        finally:
            line.waiting -= 1
            if not line.waiting:
                del self._lines[busy]

    async def _as_first(self, line: _Line, gate: Gate, tokens: int, cost_nano: int, deadline: float) -> Reservation:
        loop = asyncio.get_running_loop()
        while True:
            line.freed.clear()
            try:
                return await _reserved(gate, tokens, cost_nano)
            except RateLimited as error:
                left = deadline - loop.time()
                if error.busy is None or left <= 0:
                    raise
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, LOOK_S)):
                    await line.freed.wait()


async def _reserved(gate: Gate, tokens: int, cost_nano: int) -> Reservation:
    found = gate.reserve(tokens, cost_nano)
    return await found if isinstance(found, CoroutineType) else cast("Reservation", found)
