"""The keep-alive connections to one origin."""

import asyncio
from collections.abc import Awaitable, Callable

from tidegate.upstream.connection import Connection
from tidegate.upstream.wheel import Wheel
from tidegate.wire import errors

__all__ = ["IDLE_LIMIT_S", "Pool"]

IDLE_LIMIT_S = 55.0
"""How long an unused connection is kept. Just under the 60 s that most load balancers allow."""

Connect = Callable[[Callable[[], Connection]], Awaitable[Connection]]


class Pool:
    """Idle connections of one origin, newest first, and the count of all of them.

    The newest is taken first, so that a burst's surplus ages out; a provider's FIN removes a connection at once.
    """

    __slots__ = ("_connect", "_idle", "_limit", "_loop", "_open", "_opening", "closing", "wheel")

    def __init__(self, connect: Connect, wheel: Wheel, loop: asyncio.AbstractEventLoop, *, limit: int) -> None:
        self._connect = connect
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._opening = 0
        self._limit = limit
        self._loop = loop
        self.wheel = wheel
        self.closing = False

    def take(self) -> Connection | None:
        """An idle connection, or None."""
        return self._idle.pop() if self._idle else None

    async def open(self) -> Connection:
        """A new connection. Raises ProviderError, or Overloaded when the cap is reached."""
        if len(self._open) + self._opening >= self._limit:
            raise errors.Overloaded(
                f"all {self._limit} connections to the provider are in use (max_connections)", retry_after=1
            )
        self._opening += 1
        try:
            connection = await self._connect(lambda: Connection(self, self._loop))
        finally:
            self._opening -= 1
        self._open.add(connection)
        return connection

    def put(self, connection: Connection) -> None:
        """Take back a connection whose exchange has ended."""
        if self.closing:
            connection.abort()
            return
        connection.idle_until = self._loop.time() + IDLE_LIMIT_S
        self._idle.append(connection)
        self.wheel.watch(connection, connection.idle_until)

    def drop(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Close what is idle; what is busy closes when its exchange ends."""
        self.closing = True
        for connection in list(self._idle):
            connection.abort()

    @property
    def open_count(self) -> int:
        return len(self._open)

    @property
    def idle_count(self) -> int:
        return len(self._idle)
